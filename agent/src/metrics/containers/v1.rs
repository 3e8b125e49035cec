//! A container read from cgroup v1.

use super::devices::Devices;
use super::files::Kept;
use super::stats::{Cpu, Disk, Memory, Stats, Throttling, Usage};
use super::text::{limit, number, pairs, value};
use crate::host::cgroup::V1;
use std::path::Path;

/// cpuacct.stat counts in these. Unit: per second.
const USER_HZ: f64 = 100.0;
const NANOSECONDS: f64 = 1e9;

/// The files of one container, open.
#[derive(Debug)]
pub struct Reader {
    cpu: Option<CpuFiles>,
    cpuacct: Option<[Kept; 2]>,
    memory: Option<MemoryFiles>,
    blkio: Option<BlkioFiles>,
}

#[derive(Debug)]
struct CpuFiles {
    stat: Kept,
    shares: Kept,
    period: Kept,
    quota: Kept,
}

#[derive(Debug)]
struct MemoryFiles {
    usage: Kept,
    stat: Kept,
    max_usage: Kept,
    fail_count: Kept,
    oom_control: Kept,
    limit: Kept,
    swap_limit: Kept,
    soft_limit: Kept,
}

/// BFQ counts in files of its own; without it the throttling layer does.
#[derive(Debug)]
struct BlkioFiles {
    bytes: [Kept; 2],
    operations: [Kept; 2],
}

impl Reader {
    pub fn new(tree: &V1, keep: bool) -> Reader {
        let at = |directory: &Path, name: &str| Kept::new(directory.join(name), keep);
        Reader {
            cpu: tree.cpu.as_deref().map(|cpu| CpuFiles {
                stat: at(cpu, "cpu.stat"),
                shares: at(cpu, "cpu.shares"),
                period: at(cpu, "cpu.cfs_period_us"),
                quota: at(cpu, "cpu.cfs_quota_us"),
            }),
            cpuacct: tree
                .cpuacct
                .as_deref()
                .map(|cpuacct| ["cpuacct.usage_percpu", "cpuacct.stat"].map(|n| at(cpuacct, n))),
            memory: tree.memory.as_deref().map(|memory| MemoryFiles {
                usage: at(memory, "memory.usage_in_bytes"),
                stat: at(memory, "memory.stat"),
                max_usage: at(memory, "memory.max_usage_in_bytes"),
                fail_count: at(memory, "memory.failcnt"),
                oom_control: at(memory, "memory.oom_control"),
                limit: at(memory, "memory.limit_in_bytes"),
                swap_limit: at(memory, "memory.memsw.limit_in_bytes"),
                soft_limit: at(memory, "memory.soft_limit_in_bytes"),
            }),
            blkio: tree.blkio.as_deref().map(|blkio| BlkioFiles {
                bytes: [
                    "blkio.bfq.io_service_bytes_recursive",
                    "blkio.throttle.io_service_bytes_recursive",
                ]
                .map(|name| at(blkio, name)),
                operations: [
                    "blkio.bfq.io_serviced_recursive",
                    "blkio.throttle.io_serviced_recursive",
                ]
                .map(|name| at(blkio, name)),
            }),
        }
    }

    pub fn read(&mut self, devices: &mut Devices, buffer: &mut Vec<u8>) -> Stats {
        let mut stats = Stats::default();
        if self.cpu.is_some() || self.cpuacct.is_some() {
            let mut cpu = Cpu::default();
            if let Some([usage, stat]) = &mut self.cpuacct {
                read_cpuacct(usage, stat, &mut cpu, buffer);
            }
            if let Some(files) = &mut self.cpu {
                files.read(&mut cpu, buffer);
            }
            stats.cpu = Some(cpu);
        }
        if let Some(files) = &mut self.memory {
            stats.memory = files.read(buffer);
            let control = files.oom_control.read(buffer);
            stats.oom_kills = control.and_then(|text| value(&text, "oom_kill"));
        }
        if let Some(files) = &mut self.blkio {
            stats.disks = files.read(devices, buffer);
        }
        stats
    }
}

fn read_cpuacct(usage: &mut Kept, stat: &mut Kept, cpu: &mut Cpu, buffer: &mut Vec<u8>) {
    if let Some(text) = usage.read(buffer) {
        let words = text.split_ascii_whitespace();
        let seconds = words.filter_map(|word| Some(word.parse::<u64>().ok()? as f64 / NANOSECONDS));
        cpu.usage = Usage::PerCpu(seconds.collect());
    }
    if let Some(text) = stat.read(buffer) {
        cpu.user = value(&text, "user").map(|ticks| ticks as f64 / USER_HZ);
        cpu.system = value(&text, "system").map(|ticks| ticks as f64 / USER_HZ);
    }
}

impl CpuFiles {
    fn read(&mut self, cpu: &mut Cpu, buffer: &mut Vec<u8>) {
        cpu.shares = self.shares.read(buffer).and_then(|text| number(&text));
        cpu.period = self.period.read(buffer).and_then(|text| number(&text));
        // -1 is no limit and no number.
        cpu.quota = self.quota.read(buffer).and_then(|text| number(&text));
        cpu.throttling = self.stat.read(buffer).map(|text| {
            let mut found = Throttling::default();
            for (key, value) in pairs(&text) {
                match key {
                    "nr_periods" => found.periods = value,
                    "nr_throttled" => found.throttled_periods = value,
                    "throttled_time" => found.seconds = value as f64 / NANOSECONDS,
                    _ => {}
                }
            }
            found
        });
    }
}

impl MemoryFiles {
    fn read(&mut self, buffer: &mut Vec<u8>) -> Option<Memory> {
        let mut memory = Memory {
            usage: number(&self.usage.read(buffer)?)?,
            ..Memory::default()
        };
        for (key, value) in pairs(&self.stat.read(buffer)?) {
            match key {
                "total_cache" => memory.cache = value,
                "total_rss" => memory.rss = value,
                "total_mapped_file" => memory.mapped_file = value,
                "total_swap" => memory.swap = value,
                "total_inactive_file" => memory.inactive_file = value,
                "pgfault" => memory.page_faults[0] = value,
                "total_pgfault" => memory.page_faults[1] = value,
                "pgmajfault" => memory.major_page_faults[0] = value,
                "total_pgmajfault" => memory.major_page_faults[1] = value,
                _ => {}
            }
        }
        memory.max_usage = self.max_usage.read(buffer).and_then(|text| number(&text));
        memory.fail_count = self.fail_count.read(buffer).and_then(|text| number(&text));
        memory.limit = self.limit.read(buffer).and_then(|text| limit(&text));
        // Without swap accounting there is no such file; cAdvisor prints 0 then.
        let swap_limit = self.swap_limit.read(buffer);
        memory.swap_limit = Some(swap_limit.and_then(|text| limit(&text)).unwrap_or(0));
        memory.reservation = self.soft_limit.read(buffer).and_then(|text| limit(&text));
        Some(memory)
    }
}

impl BlkioFiles {
    fn read(&mut self, devices: &mut Devices, buffer: &mut Vec<u8>) -> Vec<Disk> {
        let mut disks: Vec<(String, Disk)> = Vec::new();
        each(&mut self.bytes, buffer, &mut |device, operation, value| {
            let disk = entry(&mut disks, device);
            match operation {
                "Read" => disk.read_bytes = value,
                "Write" => disk.written_bytes = value,
                _ => {}
            }
        });
        let operations = &mut self.operations;
        each(operations, buffer, &mut |device, operation, value| {
            let disk = entry(&mut disks, device);
            match operation {
                "Read" => disk.reads = value,
                "Write" => disk.writes = value,
                _ => {}
            }
        });
        let named = disks.into_iter().map(|(number, disk)| Disk {
            device: devices.name(&number),
            ..disk
        });
        named.collect()
    }
}

/// The `MAJOR:MINOR Operation value` lines of the first file that has any.
fn each(files: &mut [Kept], buffer: &mut Vec<u8>, take: &mut impl FnMut(&str, &str, u64)) {
    for file in files {
        let Some(text) = file.read(buffer) else {
            continue;
        };
        let mut found = false;
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(device), Some(operation), Some(value)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            if let Ok(value) = value.parse() {
                take(device, operation, value);
                found = true;
            }
        }
        if found {
            return;
        }
    }
}

fn entry<'a>(disks: &'a mut Vec<(String, Disk)>, device: &str) -> &'a mut Disk {
    let at = match disks.iter().position(|(number, _)| number == device) {
        Some(at) => at,
        None => {
            disks.push((device.into(), Disk::default()));
            disks.len() - 1
        }
    };
    &mut disks[at].1
}
