//! A container read from cgroup v2.

use super::devices::Devices;
use super::files::Kept;
use super::stats::{Cpu, Disk, Memory, Stats, Throttling, Usage};
use super::text::{cpu_max, limit, number, pairs, shares, value};
use std::path::Path;

const MICROSECONDS: f64 = 1e6;

/// The files of one container, open.
#[derive(Debug)]
pub struct Reader {
    cpu_stat: Kept,
    cpu_max: Kept,
    cpu_weight: Kept,
    current: Kept,
    peak: Kept,
    memory_stat: Kept,
    events: Kept,
    swap_current: Kept,
    max: Kept,
    swap_max: Kept,
    low: Kept,
    io_stat: Kept,
}

impl Reader {
    pub fn new(directory: &Path, keep: bool) -> Reader {
        let at = |name: &str| Kept::new(directory.join(name), keep);
        Reader {
            cpu_stat: at("cpu.stat"),
            cpu_max: at("cpu.max"),
            cpu_weight: at("cpu.weight"),
            current: at("memory.current"),
            peak: at("memory.peak"),
            memory_stat: at("memory.stat"),
            events: at("memory.events"),
            swap_current: at("memory.swap.current"),
            max: at("memory.max"),
            swap_max: at("memory.swap.max"),
            low: at("memory.low"),
            io_stat: at("io.stat"),
        }
    }

    pub fn read(&mut self, devices: &mut Devices, buffer: &mut Vec<u8>) -> Stats {
        let cpu = self.cpu(buffer);
        let memory = self.memory(buffer);
        let events = self.events.read(buffer);
        let oom_kills = events.and_then(|text| value(&text, "oom_kill"));
        let io = self.io_stat.read(buffer);
        Stats {
            cpu,
            memory,
            disks: io.map_or_else(Vec::new, |text| disks(&text, devices)),
            interfaces: Vec::new(),
            oom_kills,
        }
    }

    fn cpu(&mut self, buffer: &mut Vec<u8>) -> Option<Cpu> {
        let mut cpu = Cpu::default();
        let mut throttling = Throttling::default();
        let seconds = |micros: u64| micros as f64 / MICROSECONDS;
        for (key, value) in pairs(&self.cpu_stat.read(buffer)?) {
            match key {
                "usage_usec" => cpu.usage = Usage::Total(seconds(value)),
                "user_usec" => cpu.user = Some(seconds(value)),
                "system_usec" => cpu.system = Some(seconds(value)),
                "nr_periods" => throttling.periods = value,
                "nr_throttled" => throttling.throttled_periods = value,
                "throttled_usec" => throttling.seconds = seconds(value),
                _ => {}
            }
        }
        cpu.throttling = Some(throttling);
        if let Some(text) = self.cpu_max.read(buffer) {
            (cpu.quota, cpu.period) = cpu_max(&text);
        }
        let weight = self.cpu_weight.read(buffer).and_then(|text| number(&text));
        cpu.shares = weight.and_then(shares);
        Some(cpu)
    }

    fn memory(&mut self, buffer: &mut Vec<u8>) -> Option<Memory> {
        let mut memory = Memory {
            usage: number(&self.current.read(buffer)?)?,
            ..Memory::default()
        };
        for (key, value) in pairs(&self.memory_stat.read(buffer)?) {
            match key {
                "file" => memory.cache = value,
                "anon" => memory.rss = value,
                "file_mapped" => memory.mapped_file = value,
                "inactive_file" => memory.inactive_file = value,
                "pgfault" => memory.page_faults = [value; 2],
                "pgmajfault" => memory.major_page_faults = [value; 2],
                _ => {}
            }
        }
        // Linux 5.19 and later.
        memory.max_usage = self.peak.read(buffer).and_then(|text| number(&text));
        let events = self.events.read(buffer);
        memory.fail_count = events.and_then(|text| value(&text, "max"));
        let swap = self.swap_current.read(buffer);
        memory.swap = swap.and_then(|text| number(&text)).unwrap_or(0);
        memory.limit = self.max.read(buffer).and_then(|text| limit(&text));
        let swap_limit = self.swap_max.read(buffer);
        memory.swap_limit = Some(swap_limit.and_then(|text| limit(&text)).unwrap_or(0));
        memory.reservation = self.low.read(buffer).and_then(|text| limit(&text));
        Some(memory)
    }
}

/// `254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn disks(text: &str, devices: &mut Devices) -> Vec<Disk> {
    let disks = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let number = words.next()?;
        let mut disk = Disk::default();
        let mut found = false;
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let slot = match key {
                "rbytes" => &mut disk.read_bytes,
                "wbytes" => &mut disk.written_bytes,
                "rios" => &mut disk.reads,
                "wios" => &mut disk.writes,
                _ => continue,
            };
            *slot = value.parse().ok()?;
            found = true;
        }
        // The kernel leaves lines without counts for devices that went away.
        found.then(|| Disk {
            device: devices.name(number),
            ..disk
        })
    });
    disks.collect()
}
