//! `cpu`: seconds per CPU and mode since boot. Source: /proc/stat, `cpuN` lines, proc(5).
//!
//! The kernel's idle and iowait counters go backwards a little at times, and
//! to zero when a CPU is unplugged; Prometheus would read each as a reset. So,
//! as node_exporter does, the last value is kept per CPU and mode: a smaller
//! one is held back, except that an idle drop of [`HOTPLUG_DROP`] or more
//! takes the CPU for a new one.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::cpu_sys::CpuSys;
use crate::metrics::cpuinfo::CpuInfo;
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::options::Options;
use crate::metrics::source::Source;
use std::collections::BTreeMap;

/// Ticks per second of every counter that Linux shows to user space (USER_HZ).
const TICKS: f64 = 100.0;
/// 3 s in ticks.
const HOTPLUG_DROP: u64 = 300;
/// Columns of a `cpuN` line, by node_exporter's mode labels.
const MODES: [&str; 8] = [
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
];
const IDLE: usize = 3;
/// The two columns behind `MODES`: time that is in user and nice as well.
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const COLUMNS: usize = MODES.len() + GUEST_MODES.len();

/// Ticks by column.
type Ticks = [u64; COLUMNS];

pub struct Cpu {
    stat: Source,
    shows_guest: bool,
    info: Option<CpuInfo>,
    sys: CpuSys,
    shown: BTreeMap<u32, Ticks>,
}

impl Cpu {
    /// `shows_frequency`: with `info`, also each CPU's frequency, as where `cpufreq` is on.
    pub fn new(roots: &Roots, options: &Options, shows_frequency: bool) -> Cpu {
        Cpu {
            stat: Source::of_one_piece(roots.proc.join("stat")),
            shows_guest: options.cpu_guest,
            info: options
                .cpu_info
                .then(|| CpuInfo::new(roots, options, shows_frequency)),
            sys: CpuSys::new(roots),
            shown: BTreeMap::new(),
        }
    }
}

impl Collector for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.stat.read()?;
        let mut now = BTreeMap::new();
        for line in text.as_str().lines() {
            let Some(rest) = line.strip_prefix("cpu") else {
                continue;
            };
            let mut words = rest.split_ascii_whitespace();
            if rest.starts_with(' ') {
                continue; // the sum over all CPUs
            }
            let cpu: u32 = text.number(words.next())?;
            let mut ticks = Ticks::default();
            // Kernels before 2.6.33 print fewer columns.
            for (column, word) in ticks.iter_mut().zip(words) {
                *column = text.number(Some(word))?;
            }
            let shown = self.shown.get(&cpu).copied().unwrap_or_default();
            now.insert(cpu, forward_only(shown, ticks));
        }
        if now.is_empty() {
            return Err(text.malformed("no cpu line"));
        }
        self.shown = now;

        let names: Vec<(String, &Ticks)> = self
            .shown
            .iter()
            .map(|(cpu, ticks)| (cpu.to_string(), ticks))
            .collect();
        let mut family = page.family(
            "node_cpu_seconds_total",
            Kind::Counter,
            "Seconds the CPUs spent in each mode.",
        );
        for (cpu, ticks) in &names {
            for (mode, ticks) in MODES.iter().zip(ticks.iter()) {
                family.sample(&[("cpu", cpu), ("mode", mode)], *ticks as f64 / TICKS);
            }
        }
        if self.shows_guest {
            write_guests(page, &names);
        }
        if let Some(info) = &mut self.info {
            info.write(page)?;
        }
        self.sys.write(page)
    }
}

fn write_guests(page: &mut Page, names: &[(String, &Ticks)]) {
    let mut family = page.family(
        "node_cpu_guest_seconds_total",
        Kind::Counter,
        "Seconds the CPUs spent in guests (VMs) for each mode.",
    );
    for (cpu, ticks) in names {
        for (mode, ticks) in GUEST_MODES.iter().zip(&ticks[MODES.len()..]) {
            family.sample(&[("cpu", cpu), ("mode", mode)], *ticks as f64 / TICKS);
        }
    }
}

/// What to show after `shown`, given what the kernel says now.
fn forward_only(shown: Ticks, now: Ticks) -> Ticks {
    if shown[IDLE] >= now[IDLE].saturating_add(HOTPLUG_DROP) {
        return now;
    }
    std::array::from_fn(|column| shown[column].max(now[column]))
}

#[cfg(test)]
mod tests {
    use super::{Cpu, forward_only};
    use crate::metrics::collector::Collector;
    use crate::metrics::exposition::Page;
    use crate::metrics::options::Options;
    use crate::metrics::tests::{collect, expect, host};

    const STAT: &str = "cpu  30 0 0 0 0 0 0 0 0 0\n\
        cpu0 10 1 2 1000 5 6 7 8 9 4\n\
        cpu7 20 1 2 1000 5 6 7 8 9 4\n\
        intr 5 1 2\n";

    #[test]
    fn each_cpu_shows_seconds_by_mode_and_the_sum_is_left_out() {
        let (_dir, roots) = host(&[("proc/stat", STAT)]);
        let pages = collect(&mut Cpu::new(&roots, &Options::default(), true));
        let seconds = &pages["node_cpu_seconds_total"];
        assert_eq!(
            (seconds.series.len(), seconds.kind.as_str()),
            (16, "counter")
        );
        let name = "node_cpu_seconds_total";
        expect(&pages, name, &[("cpu", "7"), ("mode", "user")], 0.2);
        expect(&pages, name, &[("cpu", "7"), ("mode", "steal")], 0.08);
        let name = "node_cpu_guest_seconds_total";
        expect(&pages, name, &[("cpu", "0"), ("mode", "user")], 0.09);
        expect(&pages, name, &[("cpu", "0"), ("mode", "nice")], 0.04);
    }

    #[test]
    fn small_drops_are_held_back_and_a_hotplugged_cpu_starts_anew() {
        let shown = [500, 0, 0, 1000, 60, 0, 0, 0, 0, 0];
        let dropped = [501, 0, 0, 990, 50, 0, 0, 0, 0, 0];
        assert_eq!(
            forward_only(shown, dropped),
            [501, 0, 0, 1000, 60, 0, 0, 0, 0, 0]
        );
        let hotplugged = [3, 0, 0, 700, 1, 0, 0, 0, 0, 0];
        assert_eq!(forward_only(shown, hotplugged), hotplugged);
    }

    #[test]
    fn a_cpu_that_goes_offline_leaves_the_page() {
        let (dir, roots) = host(&[("proc/stat", STAT)]);
        let mut cpu = Cpu::new(&roots, &Options::default(), true);
        assert_eq!(collect(&mut cpu)["node_cpu_seconds_total"].series.len(), 16);
        std::fs::write(dir.path().join("proc/stat"), "cpu0 1 1 1 1 1\n").unwrap();
        let pages = collect(&mut cpu);
        assert_eq!(pages["node_cpu_seconds_total"].series.len(), 8);
    }

    #[test]
    fn nonsense_is_an_error_that_names_file_and_word() {
        let (_dir, roots) = host(&[("proc/stat", "cpu0 1 two 3\n")]);
        let error = Cpu::new(&roots, &Options::default(), true)
            .update(&mut Page::default())
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("proc/stat") && text.contains("\"two\""),
            "{text}"
        );
    }
}
