//! `process_*`: what this process itself uses, under the names that every
//! Prometheus client has. Sources: the process clock, /proc/self, getrlimit(2);
//! octets on the network, which are those of the whole network namespace, from
//! /proc/self/net/netstat.
//!
//! Always of our own /proc, wherever the collectors look. A value that cannot
//! be had is left out.

use crate::metrics::exposition::{Kind, Page};
use crate::metrics::netstat::Octets;
use crate::metrics::source::Source;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Ticks per second in /proc/self/stat (USER_HZ).
const TICKS: f64 = 100.0;
/// What Go's client prints for no limit: 2^64 - 1.
const UNLIMITED: u64 = u64::MAX;

pub struct Process {
    status: Source,
    octets: Octets,
    netstat: Source,
    start_seconds: Option<f64>,
}

impl Process {
    pub fn new(octets: Octets) -> Process {
        Process {
            octets,
            status: Source::of_one_piece("/proc/self/status".into()),
            netstat: Source::of_one_piece("/proc/self/net/netstat".into()),
            start_seconds: start_seconds(),
        }
    }

    pub fn write(&mut self, page: &mut Page) {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        page.family(
            "process_cpu_seconds_total",
            Kind::Counter,
            "Total user and system CPU time spent in seconds.",
        )
        .bare(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
        page.family(
            "process_max_fds",
            Kind::Gauge,
            "Maximum number of open file descriptors.",
        )
        .bare(getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED));
        page.family(
            "process_virtual_memory_max_bytes",
            Kind::Gauge,
            "Maximum amount of virtual memory available in bytes.",
        )
        .bare(getrlimit(Resource::As).current.unwrap_or(UNLIMITED));
        if let Some(open) = open_fds() {
            page.family(
                "process_open_fds",
                Kind::Gauge,
                "Number of open file descriptors.",
            )
            .bare(open);
        }
        if let Some(start) = self.start_seconds {
            page.family(
                "process_start_time_seconds",
                Kind::Gauge,
                "Start time of the process since unix epoch in seconds.",
            )
            .bare(start);
        }
        self.write_network(page);
        let Ok(status) = self.status.read() else {
            return;
        };
        let memory = [
            (
                "VmRSS:",
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
            ),
            (
                "VmSize:",
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
            ),
        ];
        for line in status.as_str().lines() {
            for (key, name, help) in memory {
                let kib = line
                    .strip_prefix(key)
                    .and_then(|rest| rest.split_ascii_whitespace().next())
                    .and_then(|word| word.parse::<u64>().ok());
                if let Some(kib) = kib {
                    page.family(name, Kind::Gauge, help).bare(kib * 1024);
                }
            }
        }
    }

    fn write_network(&mut self, page: &mut Page) {
        let read = self.octets.since(page.begun());
        let both = read.map_or_else(|| self.read_octets(), |both| both.map(Some));
        let families = [
            (
                "process_network_receive_bytes_total",
                "Number of bytes received by the process over the network.",
            ),
            (
                "process_network_transmit_bytes_total",
                "Number of bytes sent by the process over the network.",
            ),
        ];
        for ((name, help), value) in families.into_iter().zip(both) {
            if let Some(value) = value {
                page.family(name, Kind::Counter, help).bare(value);
            }
        }
    }

    /// Received and sent.
    fn read_octets(&mut self) -> [Option<f64>; 2] {
        let mut both = [None; 2];
        let Ok(netstat) = self.netstat.read() else {
            return both;
        };
        // Two lines: names, then values.
        let mut lines = netstat.as_str().lines();
        let mut line = || lines.by_ref().find_map(|line| line.strip_prefix("IpExt:"));
        if let (Some(names), Some(values)) = (line(), line()) {
            let values = values.split_ascii_whitespace();
            for (name, value) in names.split_ascii_whitespace().zip(values) {
                match name {
                    "InOctets" => both[0] = value.parse().ok(),
                    "OutOctets" => both[1] = value.parse().ok(),
                    _ => {}
                }
            }
        }
        both
    }
}

/// Since Linux 6.2 the directory's size is the count; before, it is 0 and we count.
fn open_fds() -> Option<u64> {
    let directory = "/proc/self/fd";
    let size = std::fs::metadata(directory).ok()?.len();
    if size > 0 {
        return Some(size);
    }
    Some(std::fs::read_dir(directory).ok()?.count() as u64)
}

/// Boot time plus the start in ticks after boot: field 22 of /proc/self/stat, whose
/// second field is a name in brackets that may hold blanks.
fn start_seconds() -> Option<f64> {
    let own = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: f64 = own
        .rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(boot + ticks / TICKS)
}

#[cfg(test)]
mod tests {
    use super::{Octets, Process};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::parse;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn this_process_shows_plausible_figures() {
        let mut page = Page::default();
        Process::new(Octets::default()).write(&mut page);
        let pages = parse(&page);
        assert_eq!(pages.len(), 9);
        let value = |name: &str| pages[name].series.values().sum::<f64>();
        assert!(value("process_cpu_seconds_total") > 0.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_open_fds") <= value("process_max_fds"));
        let resident = value("process_resident_memory_bytes");
        assert!(resident > 100e3 && resident < value("process_virtual_memory_bytes"));
        let received = &pages["process_network_receive_bytes_total"];
        assert_eq!(received.kind, "counter");
        assert!(value("process_network_transmit_bytes_total") >= 0.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - value("process_start_time_seconds");
        assert!((-60.0..86_400.0).contains(&age), "{age}");
    }
}
