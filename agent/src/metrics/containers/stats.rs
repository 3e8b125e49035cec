//! What one scrape knows of one container, whatever it was read from.

/// None or empty: this kernel, or this container, does not have it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    pub cpu: Option<Cpu>,
    pub memory: Option<Memory>,
    pub disks: Vec<Disk>,
    pub interfaces: Vec<Interface>,
    /// Kills by the kernel's OOM killer since the cgroup was made.
    pub oom_kills: Option<u64>,
}

/// Seconds since the cgroup was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cpu {
    pub user: Option<f64>,
    pub system: Option<f64>,
    pub usage: Usage,
    pub throttling: Option<Throttling>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Microseconds per period; None: no limit.
    pub quota: Option<u64>,
    pub shares: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Usage {
    /// One number per CPU, v1.
    PerCpu(Vec<f64>),
    /// v2 counts no CPUs apart.
    Total(f64),
}

impl Default for Usage {
    fn default() -> Usage {
        Usage::PerCpu(Vec::new())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    pub seconds: f64,
}

/// Bytes, but for the counts. Sums over the cgroup and those below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    pub usage: u64,
    pub max_usage: Option<u64>,
    pub cache: u64,
    pub rss: u64,
    pub mapped_file: u64,
    pub swap: u64,
    pub inactive_file: u64,
    /// How often the limit was hit.
    pub fail_count: Option<u64>,
    /// Of the cgroup alone, and with those below it.
    pub page_faults: [u64; 2],
    pub major_page_faults: [u64; 2],
    /// 0: no limit.
    pub limit: Option<u64>,
    pub swap_limit: Option<u64>,
    pub reservation: Option<u64>,
}

impl Memory {
    /// cAdvisor's working set: what could not be dropped at once.
    pub fn working_set(&self) -> u64 {
        self.usage.saturating_sub(self.inactive_file)
    }
}

/// One block device, by cAdvisor's name of it: `/dev/nvme0n1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    pub device: String,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

/// One interface of the container's network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub received: Traffic,
    pub sent: Traffic,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}
