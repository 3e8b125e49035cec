//! `cpufreq`: frequencies and governors per CPU. Source:
//! /sys/devices/system/cpu/cpuN/cpufreq, the kernel's admin-guide/pm/cpufreq;
//! kilohertz, shown in hertz. Guests have none.

use crate::host::roots::Roots;
use crate::metrics::attributes::{attribute, index, names_if_any, number};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use std::path::PathBuf;

/// File, family, help.
const FREQUENCIES: [(&str, &str, &str); 7] = [
    (
        "cpuinfo_cur_freq",
        "node_cpu_frequency_hertz",
        "Current CPU thread frequency in hertz.",
    ),
    (
        "cpuinfo_avg_freq",
        "node_cpu_frequency_avg_hertz",
        "Average CPU thread frequency in hertz.",
    ),
    (
        "cpuinfo_min_freq",
        "node_cpu_frequency_min_hertz",
        "Minimum CPU thread frequency in hertz.",
    ),
    (
        "cpuinfo_max_freq",
        "node_cpu_frequency_max_hertz",
        "Maximum CPU thread frequency in hertz.",
    ),
    (
        "scaling_cur_freq",
        "node_cpu_scaling_frequency_hertz",
        "Current scaled CPU thread frequency in hertz.",
    ),
    (
        "scaling_min_freq",
        "node_cpu_scaling_frequency_min_hertz",
        "Minimum scaled CPU thread frequency in hertz.",
    ),
    (
        "scaling_max_freq",
        "node_cpu_scaling_frequency_max_hertz",
        "Maximum scaled CPU thread frequency in hertz.",
    ),
];

pub struct Cpufreq {
    cpus: PathBuf,
}

impl Cpufreq {
    pub fn new(roots: &Roots) -> Cpufreq {
        Cpufreq {
            cpus: roots.sys.join("devices/system/cpu"),
        }
    }
}

impl Collector for Cpufreq {
    fn name(&self) -> &'static str {
        "cpufreq"
    }

    fn shows_what_few_have(&self) -> bool {
        true
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        for name in names_if_any(&self.cpus, "cpu")? {
            let Some(cpu) = index(&name, "cpu", "") else {
                continue;
            };
            let directory = self.cpus.join(&name).join("cpufreq");
            // One look instead of eight on a guest.
            if !directory.is_dir() {
                continue;
            }
            for (file, family, help) in FREQUENCIES {
                if let Some(kilohertz) = number(&directory.join(file)) {
                    page.family(family, Kind::Gauge, help)
                        .sample(&[("cpu", cpu)], kilohertz * 1000.0);
                }
            }
            let current = attribute(&directory.join("scaling_governor")).unwrap_or_default();
            let known = attribute(&directory.join("scaling_available_governors"));
            let mut family = page.family(
                "node_cpu_scaling_governor",
                Kind::Gauge,
                "Current enabled CPU frequency governor.",
            );
            for governor in known.unwrap_or_default().split_ascii_whitespace() {
                let labels = [("cpu", cpu), ("governor", governor)];
                family.sample(&labels, governor == current);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Cpufreq;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn frequencies_are_hertz_and_one_governor_is_on() {
        let (_dir, roots) = host(&[
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
                "1699981\n",
            ),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "powersave\n",
            ),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors",
                "performance powersave\n",
            ),
            ("sys/devices/system/cpu/cpu1/online", "1\n"),
        ]);
        let pages = collect(&mut Cpufreq::new(&roots));
        let cpu = ("cpu", "0");
        expect(
            &pages,
            "node_cpu_scaling_frequency_hertz",
            &[cpu],
            1_699_981_000.0,
        );
        for (governor, on) in [("performance", 0.0), ("powersave", 1.0)] {
            let labels = [cpu, ("governor", governor)];
            expect(&pages, "node_cpu_scaling_governor", &labels, on);
        }
    }
}
