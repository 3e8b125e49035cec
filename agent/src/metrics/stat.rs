//! `stat`: boot time, forks, context switches, interrupts, runnable and blocked
//! processes; deferred interrupt work by vector where asked for. Source: /proc/stat,
//! proc(5).

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

/// Key of the line, family, type, help. The value is the line's first number.
const LINES: [(&str, &str, Kind, &str); 6] = [
    (
        "intr",
        "node_intr_total",
        Kind::Counter,
        "Total number of interrupts serviced.",
    ),
    (
        "ctxt",
        "node_context_switches_total",
        Kind::Counter,
        "Total number of context switches.",
    ),
    (
        "btime",
        "node_boot_time_seconds",
        Kind::Gauge,
        "Node boot time, in unixtime.",
    ),
    (
        "processes",
        "node_forks_total",
        Kind::Counter,
        "Total number of forks.",
    ),
    (
        "procs_running",
        "node_procs_running",
        Kind::Gauge,
        "Number of processes in runnable state.",
    ),
    (
        "procs_blocked",
        "node_procs_blocked",
        Kind::Gauge,
        "Number of processes blocked waiting for I/O to complete.",
    ),
];

/// Columns of the `softirq` line behind its sum, by node_exporter's names.
const VECTORS: [&str; 10] = [
    "hi",
    "timer",
    "net_tx",
    "net_rx",
    "block",
    "block_iopoll",
    "tasklet",
    "sched",
    "hrtimer",
    "rcu",
];

pub struct Stat {
    stat: Source,
    shows_softirq: bool,
}

impl Stat {
    pub fn new(roots: &Roots, shows_softirq: bool) -> Stat {
        Stat {
            stat: Source::of_one_piece(roots.proc.join("stat")),
            shows_softirq,
        }
    }
}

impl Collector for Stat {
    fn name(&self) -> &'static str {
        "stat"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.stat.read()?;
        for line in text.as_str().lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(key) = words.next() else {
                continue;
            };
            if key == "softirq" && self.shows_softirq {
                let mut family = page.family(
                    "node_softirqs_total",
                    Kind::Counter,
                    "Number of softirq calls.",
                );
                for (vector, word) in VECTORS.into_iter().zip(words.skip(1)) {
                    let count: u64 = text.number(Some(word))?;
                    family.sample(&[("vector", vector)], count);
                }
                continue;
            }
            let Some((_, name, kind, help)) = LINES.iter().find(|(known, ..)| *known == key) else {
                continue;
            };
            let value: u64 = text.number(words.next())?;
            page.family(name, *kind, help).bare(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Stat;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn six_lines_of_proc_stat_become_families() {
        let (_dir, roots) = host(&[(
            "proc/stat",
            "cpu  1 2 3\ncpu0 1 2 3\nintr 8885917 17 0 0\nctxt 38014093\nbtime 1418183276\n\
             processes 26442\nprocs_running 2\nprocs_blocked 1\nsoftirq 5057579 250191\n",
        )]);
        let pages = collect(&mut Stat::new(&roots, false));
        assert_eq!(pages.len(), 6);
        expect(&pages, "node_intr_total", &[], 8_885_917.0);
        expect(&pages, "node_context_switches_total", &[], 38_014_093.0);
        expect(&pages, "node_boot_time_seconds", &[], 1_418_183_276.0);
        expect(&pages, "node_forks_total", &[], 26_442.0);
        expect(&pages, "node_procs_running", &[], 2.0);
        expect(&pages, "node_procs_blocked", &[], 1.0);
        let pages = collect(&mut Stat::new(&roots, true));
        let vector = [("vector", "hi")];
        expect(&pages, "node_softirqs_total", &vector, 250_191.0);
    }
}
