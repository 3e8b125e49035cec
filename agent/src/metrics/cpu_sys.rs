//! What /sys/devices/system/cpu tells beyond the seconds of `cpu`: which CPUs
//! are kept from the scheduler (isolcpus=), which are online, and how often
//! heat slowed cores and packages; the kernel's ABI/testing/sysfs-devices-system-cpu.
//!
//! Most guests have none of it. So which files there are is looked up once a
//! minute, and a scrape reads these only.

use crate::host::roots::Roots;
use crate::metrics::attributes::{Attributes, attribute, index, names_if_any};
use crate::metrics::collector::CollectError;
use crate::metrics::exposition::{Kind, Page};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the list of files holds.
const TRUSTED: Duration = Duration::from_secs(60);

pub struct CpuSys {
    directory: PathBuf,
    attributes: Attributes,
    isolated: Vec<u32>,
    files: Option<(Instant, Files)>,
}

#[derive(Default)]
struct Files {
    /// By package and core.
    core_throttles: BTreeMap<(u64, u64), PathBuf>,
    /// By package.
    package_throttles: BTreeMap<u64, PathBuf>,
    /// By number; empty where the first CPU cannot be taken offline, as there.
    online: Vec<(String, PathBuf)>,
}

impl CpuSys {
    pub fn new(roots: &Roots) -> CpuSys {
        let directory = roots.sys.join("devices/system/cpu");
        let isolated = attribute(&directory.join("isolated")).unwrap_or_default();
        CpuSys {
            directory,
            attributes: Attributes::default(),
            isolated: numbers(&isolated),
            files: None,
        }
    }

    fn find(&self) -> Result<Files, CollectError> {
        let mut files = Files::default();
        for name in names_if_any(&self.directory, "cpu")? {
            let Some(number) = index(&name, "cpu", "") else {
                continue;
            };
            let directory = self.directory.join(&name);
            files
                .online
                .push((number.to_owned(), directory.join("online")));
            let id = |file: &str| {
                attribute(&directory.join("topology").join(file))?
                    .parse()
                    .ok()
            };
            let (Some(package), Some(core)) = (id("physical_package_id"), id("core_id")) else {
                continue;
            };
            // Threads of a core, and cores of a package, all show its count: one is enough.
            let throttle = directory.join("thermal_throttle");
            let of_core = throttle.join("core_throttle_count");
            if !files.core_throttles.contains_key(&(package, core)) && of_core.exists() {
                files.core_throttles.insert((package, core), of_core);
            }
            let of_package = throttle.join("package_throttle_count");
            if !files.package_throttles.contains_key(&package) && of_package.exists() {
                files.package_throttles.insert(package, of_package);
            }
        }
        if files.online.first().is_some_and(|(_, path)| !path.exists()) {
            files.online.clear();
        }
        Ok(files)
    }

    pub fn write(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let now = Instant::now();
        let files = match self.files.take() {
            Some((at, files)) if now.duration_since(at) < TRUSTED => (at, files),
            _ => (now, self.find()?),
        };
        let (_, files) = self.files.insert(files);
        self.attributes.begin();
        let mut family = page.family(
            "node_cpu_isolated",
            Kind::Gauge,
            "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.",
        );
        for cpu in &self.isolated {
            family.sample(&[("cpu", &cpu.to_string())], 1u64);
        }
        let mut family = page.family(
            "node_cpu_package_throttles_total",
            Kind::Counter,
            "Number of times this CPU package has been throttled.",
        );
        let mut count = |path: &PathBuf| {
            let text = self.attributes.get(path)?;
            Ok::<_, CollectError>(text.and_then(|text| text.parse::<u64>().ok()))
        };
        for (package, path) in &files.package_throttles {
            if let Some(count) = count(path)? {
                family.sample(&[("package", &package.to_string())], count);
            }
        }
        let mut family = page.family(
            "node_cpu_core_throttles_total",
            Kind::Counter,
            "Number of times this CPU core has been throttled.",
        );
        for ((package, core), path) in &files.core_throttles {
            if let Some(count) = count(path)? {
                let (core, package) = (core.to_string(), package.to_string());
                family.sample(&[("core", &core), ("package", &package)], count);
            }
        }
        let mut family = page.family(
            "node_cpu_online",
            Kind::Gauge,
            "CPUs that are online and being scheduled.",
        );
        for (cpu, path) in &files.online {
            family.sample(&[("cpu", cpu)], count(path)? == Some(1));
        }
        Ok(())
    }
}

/// `1,3-5`, cpuset(7). What is no number is left out, as is a range that no kernel has.
fn numbers(list: &str) -> Vec<u32> {
    const MOST: u32 = 1 << 16;
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        Some(first..=last.min(MOST))
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::{CpuSys, numbers};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{expect, host, parse};

    #[test]
    fn throttling_is_shown_once_per_core_and_package() {
        let cpu = "sys/devices/system/cpu";
        let (_dir, roots) = host(&[
            (&format!("{cpu}/isolated"), "1-2,7\n"),
            (&format!("{cpu}/cpu0/online"), "1\n"),
            (&format!("{cpu}/cpu0/topology/physical_package_id"), "0\n"),
            (&format!("{cpu}/cpu0/topology/core_id"), "3\n"),
            (
                &format!("{cpu}/cpu0/thermal_throttle/core_throttle_count"),
                "5\n",
            ),
            (
                &format!("{cpu}/cpu0/thermal_throttle/package_throttle_count"),
                "30\n",
            ),
            (&format!("{cpu}/cpu1/online"), "0\n"),
            (&format!("{cpu}/cpu1/topology/physical_package_id"), "0\n"),
            (&format!("{cpu}/cpu1/topology/core_id"), "3\n"),
            (
                &format!("{cpu}/cpu1/thermal_throttle/core_throttle_count"),
                "6\n",
            ),
            (&format!("{cpu}/cpuidle/x"), ""),
        ]);
        let mut sys = CpuSys::new(&roots);
        for _ in 0..2 {
            let mut page = Page::default();
            sys.write(&mut page).unwrap();
            let pages = parse(&page);
            let package = ("package", "0");
            let core = [("core", "3"), package];
            expect(&pages, "node_cpu_core_throttles_total", &core, 5.0);
            expect(&pages, "node_cpu_package_throttles_total", &[package], 30.0);
            expect(&pages, "node_cpu_online", &[("cpu", "0")], 1.0);
            expect(&pages, "node_cpu_online", &[("cpu", "1")], 0.0);
            assert_eq!(pages["node_cpu_isolated"].series.len(), 3);
        }
    }

    #[test]
    fn a_guest_shows_none_of_it() {
        let files = [
            ("sys/devices/system/cpu/isolated", "\n"),
            ("sys/devices/system/cpu/cpu0/topology/core_id", "0\n"),
            ("sys/devices/system/cpu/cpu1/online", "1\n"),
        ];
        let (_dir, roots) = host(&files);
        let mut page = Page::default();
        CpuSys::new(&roots).write(&mut page).unwrap();
        assert!(parse(&page).is_empty());
    }

    #[test]
    fn lists_of_cpus_are_numbers_and_ranges() {
        assert_eq!(numbers("1,3-5,9"), [1, 3, 4, 5, 9]);
        assert_eq!(numbers(""), [0; 0]);
        assert_eq!(numbers("x,5-3,-,2-"), [0; 0]);
        assert_eq!(numbers("0-4294967295").len(), (1 << 16) + 1);
    }
}
