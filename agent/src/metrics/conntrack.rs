//! `conntrack`: how full the connection tracking table is and what it refused.
//! Source: /proc/sys/net/netfilter/nf_conntrack_{count,max} and the sums over
//! all CPUs of /proc/net/stat/nf_conntrack, hexadecimal.
//!
//! The module comes with Docker's first published port; before, there is no data.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

/// Family, column, help. Gauges, as node_exporter has them.
const STATISTICS: [(&str, usize, &str); 8] = [
    (
        "node_nf_conntrack_stat_found",
        2,
        "Number of searched entries which were successful.",
    ),
    (
        "node_nf_conntrack_stat_invalid",
        4,
        "Number of packets seen which can not be tracked.",
    ),
    (
        "node_nf_conntrack_stat_ignore",
        5,
        "Number of packets seen which are already connected to a conntrack entry.",
    ),
    (
        "node_nf_conntrack_stat_insert",
        8,
        "Number of entries inserted into the list.",
    ),
    (
        "node_nf_conntrack_stat_insert_failed",
        9,
        "Number of entries for which list insertion was attempted but failed.",
    ),
    (
        "node_nf_conntrack_stat_drop",
        10,
        "Number of packets dropped due to conntrack failure.",
    ),
    (
        "node_nf_conntrack_stat_early_drop",
        11,
        "Number of dropped conntrack entries to make room for new ones, \
         if maximum table size was reached.",
    ),
    (
        "node_nf_conntrack_stat_search_restart",
        16,
        "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
    ),
];
const COLUMNS: usize = 17;

pub struct Conntrack {
    count: Source,
    max: Source,
    statistics: Source,
}

impl Conntrack {
    pub fn new(roots: &Roots) -> Conntrack {
        let netfilter = roots.proc.join("sys/net/netfilter");
        Conntrack {
            count: Source::of_one_piece(netfilter.join("nf_conntrack_count")),
            max: Source::of_one_piece(netfilter.join("nf_conntrack_max")),
            statistics: Source::of_short_lines(roots.proc.join("net/stat/nf_conntrack")),
        }
    }
}

impl Collector for Conntrack {
    fn name(&self) -> &'static str {
        "conntrack"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        for (source, name, help) in [
            (
                &mut self.count,
                "node_nf_conntrack_entries",
                "Number of currently allocated flow entries for connection tracking.",
            ),
            (
                &mut self.max,
                "node_nf_conntrack_entries_limit",
                "Maximum size of connection tracking table.",
            ),
        ] {
            let text = source.read()?;
            let value: u64 = text.number(text.as_str().split_ascii_whitespace().next())?;
            page.family(name, Kind::Gauge, help).bare(value);
        }
        let text = self.statistics.read()?;
        let mut sums = [0u64; COLUMNS];
        for line in text.as_str().lines().skip(1) {
            let mut words = line.split_ascii_whitespace();
            for sum in &mut sums {
                let value = words.next().and_then(|w| u64::from_str_radix(w, 16).ok());
                let value = value.ok_or_else(|| text.malformed("fewer than 17 numbers"))?;
                *sum = sum.saturating_add(value);
            }
        }
        for (name, column, help) in STATISTICS {
            page.family(name, Kind::Gauge, help).bare(sums[column]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Conntrack;
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn statistics_are_summed_over_cpus() {
        let line = "21 0 1 0 3 5 0 0 6 7 8 9 0 0 0 0 a\n";
        let (_dir, roots) = host(&[
            ("proc/sys/net/netfilter/nf_conntrack_count", "123\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "65536\n"),
            (
                "proc/net/stat/nf_conntrack",
                &format!("entries …\n{line}{line}"),
            ),
        ]);
        let pages = collect(&mut Conntrack::new(&roots));
        assert_eq!(pages.len(), 10);
        expect(&pages, "node_nf_conntrack_entries", &[], 123.0);
        expect(&pages, "node_nf_conntrack_entries_limit", &[], 65536.0);
        expect(&pages, "node_nf_conntrack_stat_drop", &[], 16.0);
        expect(&pages, "node_nf_conntrack_stat_search_restart", &[], 20.0);
    }

    #[test]
    fn a_host_without_the_module_has_no_data() {
        let (_dir, roots) = host(&[]);
        let result = Conntrack::new(&roots).update(&mut Page::default());
        assert!(matches!(result, Err(CollectError::Absent { .. })));
    }
}
