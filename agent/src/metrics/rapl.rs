//! `rapl` (off by default): energy that the processor has used. Source:
//! /sys/class/powercap, the kernel's power/powercap; microjoules, shown in
//! joules, and only root may read them. The hardware's counter wraps.
//!
//! Off because node_exporter, which seldom runs as root, shows nothing either.

use crate::host::roots::Roots;
use crate::metrics::attributes::{attribute, names, number};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page, push_name};
use std::collections::HashMap;
use std::path::PathBuf;

pub struct Rapl {
    powercap: PathBuf,
}

impl Rapl {
    pub fn new(roots: &Roots) -> Rapl {
        Rapl {
            powercap: roots.sys.join("class/powercap"),
        }
    }
}

impl Collector for Rapl {
    fn name(&self) -> &'static str {
        "rapl"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for zone in names(&self.powercap, "")? {
            let directory = self.powercap.join(&zone);
            // The control type itself, `intel-rapl`, has no name.
            let Some(name) = attribute(&directory.join("name")) else {
                continue;
            };
            // `package-0` brings its number, others are counted.
            let (kind, numbered) = match name.rsplit_once('-') {
                Some((kind, index)) if index.parse::<u32>().is_ok() => (kind, Some(index)),
                _ => (&*name, None),
            };
            let count = seen.entry(kind.to_owned()).or_default();
            let index = numbered.map_or_else(|| count.to_string(), str::to_owned);
            *count += 1;
            let Some(microjoules) = number(&directory.join("energy_uj")) else {
                continue;
            };
            let mut family = "node_rapl_".to_owned();
            push_name(&mut family, kind);
            family.push_str("_joules_total");
            let help = format!("Current RAPL {kind} value in joules");
            let path = directory.to_string_lossy();
            page.family(&family, Kind::Counter, &help).sample(
                &[("index", &index), ("path", &path)],
                microjoules / 1_000_000.0,
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Rapl;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn zones_are_numbered_by_their_name_or_their_order() {
        let (_dir, roots) = host(&[
            ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
            ("sys/class/powercap/intel-rapl:0/energy_uj", "2500000\n"),
            ("sys/class/powercap/intel-rapl:0:0/name", "core\n"),
            ("sys/class/powercap/intel-rapl:0:0/energy_uj", "1000000\n"),
            ("sys/class/powercap/intel-rapl/enabled", "1\n"),
        ]);
        let pages = collect(&mut Rapl::new(&roots));
        let zone = roots.sys.join("class/powercap/intel-rapl:0");
        let labels = [("index", "0"), ("path", zone.to_str().unwrap())];
        expect(&pages, "node_rapl_package_joules_total", &labels, 2.5);
        assert_eq!(pages["node_rapl_core_joules_total"].series.len(), 1);
    }
}
