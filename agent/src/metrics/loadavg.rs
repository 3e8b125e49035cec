//! `loadavg`: the three load averages. Source: /proc/loadavg, proc(5).

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

/// In the order of the file.
const FAMILIES: [(&str, &str); 3] = [
    ("node_load1", "1m load average."),
    ("node_load5", "5m load average."),
    ("node_load15", "15m load average."),
];

pub struct Loadavg {
    loadavg: Source,
}

impl Loadavg {
    pub fn new(roots: &Roots) -> Loadavg {
        Loadavg {
            loadavg: Source::of_one_piece(roots.proc.join("loadavg")),
        }
    }
}

impl Collector for Loadavg {
    fn name(&self) -> &'static str {
        "loadavg"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.loadavg.read()?;
        let mut words = text.as_str().split_ascii_whitespace();
        for (name, help) in FAMILIES {
            let value: f64 = text.number(words.next())?;
            page.family(name, Kind::Gauge, help).bare(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Loadavg;
    use crate::metrics::collector::Collector;
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn three_numbers_become_three_gauges() {
        let (_dir, roots) = host(&[("proc/loadavg", "0.21 0.37 0.39 1/719 19737\n")]);
        let pages = collect(&mut Loadavg::new(&roots));
        expect(&pages, "node_load1", &[], 0.21);
        expect(&pages, "node_load5", &[], 0.37);
        expect(&pages, "node_load15", &[], 0.39);
    }

    #[test]
    fn a_short_file_is_an_error() {
        let (_dir, roots) = host(&[("proc/loadavg", "0.21\n")]);
        assert!(Loadavg::new(&roots).update(&mut Page::default()).is_err());
    }
}
