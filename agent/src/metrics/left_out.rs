//! The collectors of node_exporter that are not built here, each with the
//! reason, which the config tells whoever includes one. Kept in step with
//! docs/metrics.md by test.

/// A collector that is left out.
pub struct LeftOut {
    pub name: &'static str,
    /// On by default there: a scraper may ask for it.
    pub is_on_there: bool,
    pub reason: &'static str,
}

const fn on(name: &'static str, reason: &'static str) -> LeftOut {
    LeftOut {
        name,
        is_on_there: true,
        reason,
    }
}

const fn off(name: &'static str, reason: &'static str) -> LeftOut {
    LeftOut {
        name,
        is_on_there: false,
        reason,
    }
}

/// Sorted by name.
pub const LEFT_OUT: &[LeftOut] = &[
    on("bcache", "no such caches on EC2"),
    on("bcachefs", "no such file system in Flatcar's kernel"),
    off("buddyinfo", "free pages by order: for kernel work"),
    off("cpu_vulnerabilities", "a fact of the image, no measure"),
    off("drbd", "no such devices on EC2"),
    off("drm", "no graphics cards in the fleet"),
    on("fibrechannel", "no such adapters on EC2"),
    on("ipvs", "no load balancer on these hosts"),
    off("ksmd", "no virtual machines on these hosts"),
    off("lnstat", "counters for kernel work"),
    off("logind", "nobody logs in"),
    off("meminfo_numa", "one node on most instances"),
    off(
        "mountstats",
        "a series per NFS operation and mount; nfs has the sums",
    ),
    off("network_route", "a series per route"),
    off(
        "ntp",
        "asks a server at each scrape; timex has the clock's state",
    ),
    off("pcidevice", "a fact of the instance type, no measure"),
    off("perf", "wants rights over the whole kernel"),
    off("qdisc", "netdev has the drops"),
    off("runit", "systemd supervises these hosts"),
    off("slabinfo", "for kernel work"),
    off("supervisord", "the agent supervises these hosts"),
    off(
        "swap",
        "no swap on these hosts; meminfo and vmstat have the sums",
    ),
    off("sysctl", "settings, no measure"),
    on("tapestats", "no tapes on EC2"),
    off("wifi", "no radio on EC2"),
    off("xfrm", "no IPsec on these hosts"),
    on("zfs", "no such file system in Flatcar's kernel"),
    off("zoneinfo", "for kernel work"),
];

pub fn find(name: &str) -> Option<&'static LeftOut> {
    LEFT_OUT.iter().find(|one| one.name == name)
}

/// The reason why a collector of node_exporter is left out.
pub fn why(name: &str) -> Option<&'static str> {
    find(name).map(|one| one.reason)
}
