//! `rapl` (off by default): energy that the processor has used. Source:
//! /sys/class/powercap, the kernel's power/powercap; microjoules, shown in
//! joules, and only root may read them. The hardware's counter wraps.
//!
//! Off because node_exporter, which seldom runs as root, shows nothing either.

use crate::host::roots::Roots;
use crate::metrics::attributes::{attribute, names};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page, sanitized};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;

pub struct Rapl {
    powercap: PathBuf,
    /// One family with the zone as a label, instead of one per zone.
    labels_zone: bool,
}

impl Rapl {
    pub fn new(roots: &Roots, labels_zone: bool) -> Rapl {
        Rapl {
            labels_zone,
            powercap: roots.sys.join("class/powercap"),
        }
    }
}

impl Collector for Rapl {
    fn name(&self) -> &'static str {
        "rapl"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let mut seen: HashMap<String, u64> = HashMap::new();
        for zone in names(&self.powercap, "")? {
            let directory = self.powercap.join(&zone);
            // The control type itself, `intel-rapl`, has no name.
            let Some(name) = attribute(&directory.join("name")) else {
                continue;
            };
            let (index, kind) = numbered(&name, &seen);
            seen.insert(kind.to_owned(), index + 1);
            let energy = directory.join("energy_uj");
            let microjoules: u64 = match fs::read_to_string(&energy) {
                Ok(text) => match text.trim().parse() {
                    Ok(microjoules) => microjoules,
                    Err(_) => continue,
                },
                // Only root may: to others it is as if there were none.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(CollectError::Absent { path: energy });
                }
                Err(_) => continue,
            };
            let joules = microjoules as f64 / 1_000_000.0;
            let path = directory.to_string_lossy();
            let index = index.to_string();
            if self.labels_zone {
                page.family(
                    "node_rapl_joules_total",
                    Kind::Counter,
                    "Current RAPL value in joules",
                )
                .sample(
                    &[("index", &index), ("path", &path), ("rapl_zone", kind)],
                    joules,
                );
                continue;
            }
            let family = format!("node_rapl_{}_joules_total", sanitized(kind));
            let help = format!("Current RAPL {kind} value in joules");
            page.family(&family, Kind::Counter, &help)
                .sample(&[("index", &index), ("path", &path)], joules);
        }
        Ok(())
    }
}

/// `package-0` brings its number, others get the next one of their name.
fn numbered<'a>(name: &'a str, seen: &HashMap<String, u64>) -> (u64, &'a str) {
    let words: Vec<&str> = name.split('-').collect();
    if let [kind, index] = *words
        && let Ok(index) = index.parse()
    {
        return (index, kind);
    }
    (seen.get(name).copied().unwrap_or_default(), name)
}

#[cfg(test)]
mod tests {
    use super::{Rapl, numbered};
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
        let pages = collect(&mut Rapl::new(&roots, false));
        let zone = roots.sys.join("class/powercap/intel-rapl:0");
        let labels = [("index", "0"), ("path", zone.to_str().unwrap())];
        expect(&pages, "node_rapl_package_joules_total", &labels, 2.5);
        assert_eq!(pages["node_rapl_core_joules_total"].series.len(), 1);
        let pages = collect(&mut Rapl::new(&roots, true));
        let labels = [labels[0], labels[1], ("rapl_zone", "package")];
        expect(&pages, "node_rapl_joules_total", &labels, 2.5);
        assert_eq!(pages["node_rapl_joules_total"].series.len(), 2);
    }

    #[test]
    fn a_number_is_the_names_or_the_next_one() {
        let seen = [("dram".to_owned(), 2)].into();
        for (name, expected) in [
            ("package-1", (1, "package")),
            ("package-0-die-1", (0, "package-0-die-1")),
            ("psys", (0, "psys")),
            ("dram", (2, "dram")),
        ] {
            assert_eq!(numbered(name, &seen), expected);
        }
    }
}
