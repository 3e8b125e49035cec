//! `pressure`: time lost waiting for CPU, I/O, memory and interrupts. Source:
//! /proc/pressure, the kernel's accounting/psi: `total=` in microseconds.
//!
//! A kernel may lack single files (irq before 6.1 or without IRQ time
//! accounting); one that has none, or refuses to read them (psi=0), has no data.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;
use std::io;
use std::path::PathBuf;

/// File, its line, family, help.
const LINES: [(&str, &str, &str, &str); 6] = [
    (
        "cpu",
        "some",
        "node_pressure_cpu_waiting_seconds_total",
        "Total time in seconds that processes have waited for CPU time",
    ),
    (
        "io",
        "some",
        "node_pressure_io_waiting_seconds_total",
        "Total time in seconds that processes have waited due to IO congestion",
    ),
    (
        "io",
        "full",
        "node_pressure_io_stalled_seconds_total",
        "Total time in seconds no process could make progress due to IO congestion",
    ),
    (
        "memory",
        "some",
        "node_pressure_memory_waiting_seconds_total",
        "Total time in seconds that processes have waited for memory",
    ),
    (
        "memory",
        "full",
        "node_pressure_memory_stalled_seconds_total",
        "Total time in seconds no process could make progress due to memory congestion",
    ),
    (
        "irq",
        "full",
        "node_pressure_irq_stalled_seconds_total",
        "Total time in seconds no process could make progress due to IRQ congestion",
    ),
];

pub struct Pressure {
    directory: PathBuf,
    files: [(&'static str, Source); 4],
}

impl Pressure {
    pub fn new(roots: &Roots) -> Pressure {
        let directory = roots.proc.join("pressure");
        let files = ["cpu", "io", "memory", "irq"]
            .map(|resource| (resource, Source::of_one_piece(directory.join(resource))));
        Pressure { directory, files }
    }
}

impl Collector for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let mut any = false;
        for (resource, source) in &mut self.files {
            let text = match source.read() {
                Ok(text) => text,
                Err(error) if is_switched_off(&error) => continue,
                Err(error) => return Err(error),
            };
            any = true;
            for line in text.as_str().lines() {
                let mut words = line.split_ascii_whitespace();
                let kind = words.next();
                let Some((_, _, name, help)) = LINES
                    .iter()
                    .find(|(file, line, ..)| file == resource && Some(*line) == kind)
                else {
                    continue;
                };
                let total = words.find_map(|word| word.strip_prefix("total="));
                let micros: u64 = text.number(total)?;
                page.family(name, Kind::Counter, help)
                    .bare(micros as f64 / 1000.0 / 1000.0);
            }
        }
        if any {
            return Ok(());
        }
        Err(CollectError::Absent {
            path: self.directory.clone(),
        })
    }
}

fn is_switched_off(error: &CollectError) -> bool {
    match error {
        CollectError::Absent { .. } => true,
        CollectError::Read { source, .. } => source.kind() == io::ErrorKind::Unsupported,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::Pressure;
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};

    const BOTH: &str = "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\n\
        full avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n";

    #[test]
    fn waiting_is_some_stalled_is_full_and_a_missing_file_costs_only_itself() {
        let (_dir, roots) = host(&[("proc/pressure/cpu", BOTH), ("proc/pressure/io", BOTH)]);
        let pages = collect(&mut Pressure::new(&roots));
        assert_eq!(pages.len(), 3);
        expect(&pages, "node_pressure_cpu_waiting_seconds_total", &[], 2.5);
        expect(&pages, "node_pressure_io_waiting_seconds_total", &[], 2.5);
        expect(&pages, "node_pressure_io_stalled_seconds_total", &[], 1.0);
    }

    #[test]
    fn a_kernel_without_pressure_has_no_data() {
        let (_dir, roots) = host(&[]);
        let result = Pressure::new(&roots).update(&mut Page::default());
        assert!(matches!(result, Err(CollectError::Absent { .. })));
    }
}
