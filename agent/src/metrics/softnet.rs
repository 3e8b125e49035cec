//! `softnet`: packets taken and dropped by the receive backlog of each CPU.
//! Source: /proc/net/softnet_stat, hexadecimal columns of
//! net/core/net-procfs.c; columns came with time, missing ones are 0.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

/// Family, type, column, help.
const FAMILIES: [(&str, Kind, usize, &str); 7] = [
    (
        "node_softnet_processed_total",
        Kind::Counter,
        0,
        "Number of processed packets",
    ),
    (
        "node_softnet_dropped_total",
        Kind::Counter,
        1,
        "Number of dropped packets",
    ),
    (
        "node_softnet_times_squeezed_total",
        Kind::Counter,
        2,
        "Number of times processing packets ran out of quota",
    ),
    (
        "node_softnet_cpu_collision_total",
        Kind::Counter,
        8,
        "Number of collision occur while obtaining device lock while transmitting",
    ),
    (
        "node_softnet_received_rps_total",
        Kind::Counter,
        9,
        "Number of times cpu woken up received_rps",
    ),
    (
        "node_softnet_flow_limit_count_total",
        Kind::Counter,
        10,
        "Number of times flow limit has been reached",
    ),
    (
        "node_softnet_backlog_len",
        Kind::Gauge,
        11,
        "Softnet backlog status",
    ),
];
/// Every kernel since 2.6.23 has these.
const MIN_COLUMNS: usize = 9;
/// The CPU's number, since Linux 5.14; before, the line's number stands for it.
const CPU: usize = 12;

pub struct Softnet {
    source: Source,
}

impl Softnet {
    pub fn new(roots: &Roots) -> Softnet {
        Softnet {
            source: Source::of_short_lines(roots.proc.join("net/softnet_stat")),
        }
    }
}

impl Collector for Softnet {
    fn name(&self) -> &'static str {
        "softnet"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.source.read()?;
        let mut cpus: Vec<(String, Vec<u32>)> = Vec::new();
        for line in text.as_str().lines() {
            let columns: Vec<u32> = line
                .split_ascii_whitespace()
                .map(|word| u32::from_str_radix(word, 16))
                .collect::<Result<_, _>>()
                .map_err(|_| text.malformed("a column is not hexadecimal"))?;
            if columns.len() < MIN_COLUMNS {
                return Err(text.malformed("a line ends early"));
            }
            let cpu = columns.get(CPU).map_or(cpus.len(), |cpu| *cpu as usize);
            cpus.push((cpu.to_string(), columns));
        }
        for (name, kind, column, help) in FAMILIES {
            let mut family = page.family(name, kind, help);
            for (cpu, columns) in &cpus {
                let value = columns.get(column).copied().unwrap_or(0);
                family.sample(&[("cpu", cpu)], u64::from(value));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Softnet;
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn cpus_carry_the_kernels_number_where_it_gives_one() {
        let new =
            "0000000a 00000001 00000002 0 0 0 0 0 00000003 00000004 00000005 00000006 00000007\n";
        let old = "0000000b 00000001 00000002 0 0 0 0 0 00000003\n";
        let (_dir, roots) = host(&[("proc/net/softnet_stat", &format!("{old}{new}"))]);
        let pages = collect(&mut Softnet::new(&roots));
        for (family, value) in [
            ("node_softnet_processed_total", 10.0),
            ("node_softnet_received_rps_total", 4.0),
            ("node_softnet_backlog_len", 6.0),
        ] {
            expect(&pages, family, &[("cpu", "7")], value);
        }
        expect(
            &pages,
            "node_softnet_processed_total",
            &[("cpu", "0")],
            11.0,
        );
        expect(&pages, "node_softnet_backlog_len", &[("cpu", "0")], 0.0);
    }

    #[test]
    fn a_short_or_odd_line_is_an_error() {
        for text in ["1 2 3\n", "x 0 0 0 0 0 0 0 0\n"] {
            let (_dir, roots) = host(&[("proc/net/softnet_stat", text)]);
            let result = Softnet::new(&roots).update(&mut Page::default());
            assert!(matches!(result, Err(CollectError::Parse { .. })));
        }
    }
}
