//! `schedstat`: time that each CPU ran tasks and that tasks waited for it.
//! Source: /proc/schedstat, the kernel's scheduler/sched-stats: lines `cpuN`,
//! the last three of nine fields, in nanoseconds and time slices.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

const NANOSECONDS: f64 = 1e9;
/// Fields of a cpu line before the three that we show.
const SKIPPED: usize = 6;

pub struct Schedstat {
    source: Source,
}

impl Schedstat {
    pub fn new(roots: &Roots) -> Schedstat {
        Schedstat {
            source: Source::new(roots.proc.join("schedstat")),
        }
    }
}

impl Collector for Schedstat {
    fn name(&self) -> &'static str {
        "schedstat"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.source.read()?;
        let mut cpus: Vec<(&str, [u64; 3])> = Vec::new();
        for line in text.as_str().lines() {
            let Some(line) = line.strip_prefix("cpu") else {
                continue;
            };
            let mut words = line.split_ascii_whitespace();
            let cpu = words.next().unwrap_or_default();
            let mut words = words.skip(SKIPPED);
            let mut fields = [0; 3];
            for field in &mut fields {
                *field = text.number(words.next())?;
            }
            cpus.push((cpu, fields));
        }
        let mut family = page.family(
            "node_schedstat_running_seconds_total",
            Kind::Counter,
            "Number of seconds CPU spent running a process.",
        );
        for (cpu, [running, ..]) in &cpus {
            family.sample(&[("cpu", cpu)], *running as f64 / NANOSECONDS);
        }
        let mut family = page.family(
            "node_schedstat_waiting_seconds_total",
            Kind::Counter,
            "Number of seconds spent by processing waiting for this CPU.",
        );
        for (cpu, [_, waiting, _]) in &cpus {
            family.sample(&[("cpu", cpu)], *waiting as f64 / NANOSECONDS);
        }
        let mut family = page.family(
            "node_schedstat_timeslices_total",
            Kind::Counter,
            "Number of timeslices executed by CPU.",
        );
        for (cpu, [.., slices]) in &cpus {
            family.sample(&[("cpu", cpu)], *slices);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Schedstat;
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn nanoseconds_become_seconds_and_domains_are_passed_over() {
        let text =
            "version 15\ntimestamp 1\ncpu0 1 0 2 3 4 5 2500000000 500000000 7\ndomain0 3 1\n";
        let (_dir, roots) = host(&[("proc/schedstat", text)]);
        let pages = collect(&mut Schedstat::new(&roots));
        let cpu = [("cpu", "0")];
        expect(&pages, "node_schedstat_running_seconds_total", &cpu, 2.5);
        expect(&pages, "node_schedstat_waiting_seconds_total", &cpu, 0.5);
        expect(&pages, "node_schedstat_timeslices_total", &cpu, 7.0);
    }

    #[test]
    fn a_short_line_is_an_error() {
        let (_dir, roots) = host(&[("proc/schedstat", "cpu0 1 2 3\n")]);
        let result = Schedstat::new(&roots).update(&mut Page::default());
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
