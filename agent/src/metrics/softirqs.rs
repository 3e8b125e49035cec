//! `softirqs` (off by default): deferred interrupt work per kind and CPU.
//! Source: /proc/softirqs, the kernel's filesystems/proc.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

/// Kinds that are shown.
const KINDS: [&str; 10] = [
    "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU",
];

pub struct Softirqs {
    softirqs: Source,
}

impl Softirqs {
    pub fn new(roots: &Roots) -> Softirqs {
        Softirqs {
            softirqs: Source::new(roots.proc.join("softirqs")),
        }
    }
}

impl Collector for Softirqs {
    fn name(&self) -> &'static str {
        "softirqs"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.softirqs.read()?;
        let mut family = page.family(
            "node_softirqs_functions_total",
            Kind::Counter,
            "Softirq counts per CPU.",
        );
        for line in text.as_str().lines().skip(1) {
            let Some((kind, counts)) = line.split_once(':') else {
                continue;
            };
            let kind = kind.trim_start();
            if !KINDS.contains(&kind) {
                continue;
            }
            for (cpu, count) in counts.split_ascii_whitespace().enumerate() {
                let count: u64 = text.number(Some(count))?;
                let labels = [("cpu", &*cpu.to_string()), ("type", kind)];
                family.sample(&labels, count);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Softirqs;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn each_kind_is_counted_per_cpu() {
        let (_dir, roots) = host(&[(
            "proc/softirqs",
            "   CPU0  CPU1\n  NET_RX:   5   6\n  NEW:   1   1\n",
        )]);
        let pages = collect(&mut Softirqs::new(&roots));
        for (cpu, count) in [("0", 5.0), ("1", 6.0)] {
            let labels = [("cpu", cpu), ("type", "NET_RX")];
            expect(&pages, "node_softirqs_functions_total", &labels, count);
        }
        assert_eq!(pages["node_softirqs_functions_total"].series.len(), 2);
    }
}
