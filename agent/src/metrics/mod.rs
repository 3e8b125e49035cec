//! Node metrics on 9100 under node_exporter's names.
//!
//! A request becomes a job on a desk (`desk`) for one thread (`scraper`), which
//! runs the collectors (`collector`, one file each), writes the page
//! (`exposition`) and hands it back to the HTTP side (`serve`). Nothing is sampled between
//! scrapes; what a collector keeps is descriptors, and state where
//! node_exporter keeps it too. The agent's own families come from a registry
//! and are sorted in among the others.
//!
//! The room does not know of containers or logs, starts no process, and never
//! blocks the reactor: the thread does the reading. A collector that the kernel
//! holds is set aside with the thread that it is in, and another thread goes on;
//! statfs(2) on network file systems, which hang more often, has threads of its
//! own, and systemd is asked by a task (`systemd`). What differs from node_exporter is listed in
//! docs/metrics.md.

mod collector;
pub mod containers;
mod desk;
mod exposition;
mod gzip;
mod left_out;
mod options;
mod process;
mod registry;
mod scraper;
mod serve;
pub mod web;

// collectors
mod arp;
mod bonding;
mod btrfs;
mod cgroups;
mod conntrack;
mod cpu;
mod cpu_sys;
mod cpufreq;
mod cpuinfo;
mod diskstats;
mod dmi;
mod dmmultipath;
mod edac;
mod entropy;
mod ethtool;
mod filefd;
mod filesystem;
mod hwmon;
mod infiniband;
mod interrupts;
mod kernel_hung;
mod loadavg;
mod mdadm;
mod meminfo;
mod netclass;
mod netdev;
mod netstat;
mod nfs;
mod nfsd;
mod nvme;
mod os;
mod powersupplyclass;
mod pressure;
mod processes;
mod rapl;
mod schedstat;
mod selinux;
mod short_hash;
mod sockstat;
mod softirqs;
mod softnet;
mod stat;
pub mod systemd;
mod tcpstat;
mod textfile;
mod thermal_zone;
mod time;
mod timex;
mod udp_queues;
mod uname;
mod vmstat;
mod watchdog;
mod xfs;

// what collectors read with
mod attributes;
mod mounts;
mod netlink;
mod pattern;
mod prom;
mod rpc;
mod rtnetlink;
mod source;
mod statfs;
mod udev;

#[cfg(test)]
mod tests;

use crate::host::bus::Bus;
use crate::host::bus::systemd1::Systemd1;
use crate::host::roots::Roots;
use crate::http::{Door, Handler};
use crate::listener::Address;
use crate::metrics::collector::{Collector, Selection, Summary};
use crate::metrics::desk::{Desk, Look};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::netstat::Octets;
use crate::metrics::rtnetlink::SharedLinks;
use crate::metrics::scraper::{MAX_UNSENT, Tools};
use crate::metrics::web::{Entry, Guard, Web};
pub use left_out::why as why_left_out;
pub use options::{Filter, Options, Units};
pub use pattern::{check as check_pattern, whole};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::error;

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Default 0.0.0.0:9100 (one socket on [::] where IPv6 is there is not assumed). Empty: off.
    pub listen: Vec<Address>,
    /// Collectors that are on, by node_exporter's names. Default: [`COLLECTORS`].
    pub collectors: Vec<String>,
    pub roots: Roots,
    pub options: Options,
}

impl Settings {
    /// Whether that collector is on.
    pub fn has(&self, collector: &str) -> bool {
        self.collectors.iter().any(|name| name == collector)
    }
}

/// Collectors that are on by default, in page order.
pub const COLLECTORS: &[&str] = &[
    "arp",
    "bonding",
    "btrfs",
    "conntrack",
    "cpu",
    "cpufreq",
    "diskstats",
    "dmi",
    "dmmultipath",
    "edac",
    "entropy",
    "filefd",
    "filesystem",
    "hwmon",
    "infiniband",
    "kernel_hung",
    "loadavg",
    "mdadm",
    "meminfo",
    "netclass",
    "netdev",
    "netstat",
    "nfs",
    "nfsd",
    "nvme",
    "os",
    "powersupplyclass",
    "pressure",
    "schedstat",
    "selinux",
    "sockstat",
    "softnet",
    "stat",
    "textfile",
    "thermal_zone",
    "time",
    "timex",
    "udp_queues",
    "uname",
    "vmstat",
    "watchdog",
    "xfs",
];

/// Collectors that are off unless the config includes them, as with node_exporter.
pub const OPTIONAL: &[&str] = &[
    "cgroups",
    "ethtool",
    "interrupts",
    "processes",
    "rapl",
    "softirqs",
    "systemd",
    "tcpstat",
];

/// For `agent status`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    pub scrapes: u64,
    pub last_duration: Option<Duration>,
    pub collectors_ok: usize,
    pub collectors_failed: Vec<String>,
}

/// The room: the way to the thread that makes pages, and the scrape counters.
pub struct Metrics {
    desk: Arc<Desk>,
    /// Collectors that are on.
    enabled: Vec<&'static str>,
    shared: Arc<Shared>,
    telemetry_path: String,
    /// Scrapes served or waiting at once.
    places: usize,
    web: Option<Arc<Web>>,
}

/// Counted on both sides: by the HTTP side and by the thread.
#[derive(Default)]
struct Shared {
    status: Mutex<Status>,
    in_flight: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    gathering_errors: AtomicU64,
    /// Bytes of pages that no client has taken yet.
    unsent: AtomicUsize,
}

impl Metrics {
    /// `registry` holds the agent's own `agent_*` families, appended to each page.
    /// Names that are in neither [`COLLECTORS`] nor [`OPTIONAL`] are ignored: the config is
    /// checked before.
    /// `systemd` is who asks it, if that collector is on.
    pub fn new(
        settings: &Settings,
        registry: prometheus::Registry,
        systemd: &systemd::Asker,
    ) -> Arc<Metrics> {
        let shares = Shares::default();
        let (enabled, collectors) = COLLECTORS
            .iter()
            .chain(OPTIONAL)
            .filter(|name| settings.has(name))
            .filter_map(|name| Some((*name, make(name, settings, &shares, systemd)?)))
            .unzip();
        let shared = Arc::new(Shared::default());
        let tools = Tools::new(
            registry,
            shared.clone(),
            shares.octets,
            !settings.options.disable_exporter_metrics,
        );
        let places = scraper::places(&settings.options);
        let desk = Desk::new(collectors, tools, places);
        look(&desk, Instant::now(), Instant::now());
        Arc::new(Metrics {
            desk,
            enabled,
            shared,
            telemetry_path: settings.options.telemetry_path.clone(),
            places,
            web: settings.options.web_config.clone().map(Web::new),
        })
    }

    /// What the listeners serve: the room, behind the web configuration where there is one.
    pub fn front(self: &Arc<Metrics>) -> (Option<Arc<dyn Door>>, Arc<dyn Handler>) {
        let inner: Arc<dyn Handler> = self.clone();
        let Some(web) = self.web.clone() else {
            return (None, inner);
        };
        let guard = Guard {
            web: web.clone(),
            inner,
        };
        (Some(Arc::new(Entry(web))), Arc::new(guard))
    }

    pub fn status(&self) -> Status {
        self.shared.status().clone()
    }
}

/// The families of `settings.collectors`, made once, in this thread: what these collectors make of
/// the files below `settings.roots`, without agent and listener. One that fails adds what it had.
pub fn page(settings: &Settings) -> String {
    let mut page = Page::default();
    let shares = Shares::default();
    // Nobody reads what it asks: it shows nothing.
    let (systemd, _) = systemd::open(&settings.options.systemd, Systemd1::new(Bus::system()));
    for name in &settings.collectors {
        if let Some(mut collector) = make(name, settings, &shares, &systemd) {
            // What failed would be said by the page's `node_scrape_collector_success`.
            let _ = collector.update(&mut page);
        }
    }
    let mut text = String::new();
    page.render(|piece| text.push_str(piece));
    text
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.desk.close();
    }
}

/// Sees to it that someone works at the desk, for whoever asked at `asked`; returns when to
/// look again.
fn look(desk: &Arc<Desk>, asked: Instant, deadline: Instant) -> Instant {
    let now = Instant::now();
    match desk.look(now, asked, deadline) {
        Look::Again(at) => at,
        Look::Start(worker) => {
            if let Err(error) = scraper::start(desk.clone(), worker) {
                error!(%error, "cannot start the metrics thread");
                desk.unmanned();
            }
            desk::limit(now, asked, deadline)
        }
    }
}

/// What several take from one reading.
#[derive(Default)]
struct Shares {
    links: SharedLinks,
    octets: Octets,
}

/// The collector of that name.
fn make(
    name: &str,
    settings: &Settings,
    shares: &Shares,
    systemd: &systemd::Asker,
) -> Option<Box<dyn Collector>> {
    let (roots, options) = (&settings.roots, &settings.options);
    Some(match name {
        "arp" => Box::new(arp::Arp::new(roots, options)),
        "bonding" => Box::new(bonding::Bonding::new(roots)),
        "btrfs" => Box::new(btrfs::Btrfs::new(roots)),
        "cgroups" => Box::new(cgroups::Cgroups::new(roots)),
        "conntrack" => Box::new(conntrack::Conntrack::new(roots)),
        "cpu" => {
            let is_cpufreq_on = settings.collectors.iter().any(|name| name == "cpufreq");
            Box::new(cpu::Cpu::new(roots, options, is_cpufreq_on))
        }
        "cpufreq" => Box::new(cpufreq::Cpufreq::new(roots)),
        "diskstats" => Box::new(diskstats::Diskstats::new(roots, &options.diskstats)),
        "dmi" => Box::new(dmi::Dmi::new(roots)),
        "dmmultipath" => Box::new(dmmultipath::DmMultipath::new(roots)),
        "edac" => Box::new(edac::Edac::new(roots)),
        "entropy" => Box::new(entropy::Entropy::new(roots)),
        "ethtool" => Box::new(ethtool::Ethtool::new(options, shares.links.clone())),
        "filefd" => Box::new(filefd::Filefd::new(roots)),
        "filesystem" => Box::new(filesystem::Filesystem::new(
            roots,
            &options.mount_points,
            &options.fs_types,
        )),
        "hwmon" => Box::new(hwmon::Hwmon::new(roots, options)),
        "infiniband" => Box::new(infiniband::Infiniband::new(roots, &options.infiniband)),
        "interrupts" => Box::new(interrupts::Interrupts::new(roots, options)),
        "kernel_hung" => Box::new(kernel_hung::KernelHung::new(roots)),
        "loadavg" => Box::new(loadavg::Loadavg::new(roots)),
        "mdadm" => Box::new(mdadm::Mdadm::new(roots)),
        "meminfo" => Box::new(meminfo::Meminfo::new(roots)),
        "netclass" => Box::new(netclass::Netclass::new(
            roots,
            options,
            shares.links.clone(),
        )),
        "netdev" => Box::new(netdev::Netdev::new(&options.netdev, shares.links.clone())),
        "netstat" => Box::new(netstat::Netstat::new(
            roots,
            &options.netstat_fields,
            shares.octets.clone(),
        )),
        "nfs" => Box::new(nfs::Nfs::new(roots)),
        "nfsd" => Box::new(nfsd::Nfsd::new(roots)),
        "nvme" => Box::new(nvme::Nvme::new(roots)),
        "os" => Box::new(os::Os::new(roots)),
        "powersupplyclass" => Box::new(powersupplyclass::PowerSupplyClass::new(
            roots,
            &options.powersupply_ignored,
        )),
        "pressure" => Box::new(pressure::Pressure::new(roots)),
        "processes" => Box::new(processes::Processes::new(roots)),
        "rapl" => Box::new(rapl::Rapl::new(roots, options.rapl_zone_label)),
        "schedstat" => Box::new(schedstat::Schedstat::new(roots)),
        "selinux" => Box::new(selinux::Selinux::new(roots)),
        "sockstat" => Box::new(sockstat::Sockstat::new(roots)),
        "softirqs" => Box::new(softirqs::Softirqs::new(roots)),
        "softnet" => Box::new(softnet::Softnet::new(roots)),
        "stat" => Box::new(stat::Stat::new(roots, options.stat_softirq)),
        "systemd" => Box::new(systemd.clone()),
        "tcpstat" => Box::new(tcpstat::Tcpstat::new(roots)),
        "textfile" => Box::new(textfile::Textfile::new(
            options.textfiles.clone(),
            options.textfile_max_age,
        )),
        "thermal_zone" => Box::new(thermal_zone::ThermalZone::new(roots)),
        "time" => Box::new(time::Time::new(roots)),
        "timex" => Box::new(timex::Timex),
        "udp_queues" => Box::new(udp_queues::UdpQueues::new(roots)),
        "uname" => Box::new(uname::Uname),
        "vmstat" => Box::new(vmstat::Vmstat::new(roots, &options.vmstat_fields)),
        "watchdog" => Box::new(watchdog::Watchdog::new(roots)),
        "xfs" => Box::new(xfs::Xfs::new(roots)),
        _ => return None,
    })
}

impl Shared {
    fn status(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether clients have not taken more than they may of what they asked for.
    fn is_full(&self) -> bool {
        self.unsent.load(Ordering::Relaxed) > MAX_UNSENT
    }

    /// Keeps what a page for so many `scrapes` tells of itself; a page of chosen collectors says nothing of the rest.
    fn note(&self, duration: Duration, scrapes: u64, selection: &Selection, summary: Summary) {
        let mut status = self.status();
        status.scrapes += scrapes;
        status.last_duration = Some(duration);
        if *selection == Selection::All {
            status.collectors_ok = summary.ok;
            status.collectors_failed = summary.failed.iter().map(|n| (*n).into()).collect();
        }
    }

    /// `promhttp_*`, as Go's HTTP handler prints them of itself.
    fn write(&self, page: &mut Page) {
        page.family(
            "promhttp_metric_handler_requests_in_flight",
            Kind::Gauge,
            "Current number of scrapes being served.",
        )
        .bare(self.in_flight.load(Ordering::Relaxed));
        let mut family = page.family(
            "promhttp_metric_handler_requests_total",
            Kind::Counter,
            "Total number of scrapes by HTTP status code.",
        );
        for (code, count) in [
            ("200", &self.ok),
            ("500", &self.failed),
            ("503", &self.refused),
        ] {
            family.sample(&[("code", code)], count.load(Ordering::Relaxed));
        }
        let mut family = page.family(
            "promhttp_metric_handler_errors_total",
            Kind::Counter,
            "Total number of internal errors encountered by the promhttp metric handler.",
        );
        family.sample(&[("cause", "encoding")], 0u64);
        let gathering = self.gathering_errors.load(Ordering::Relaxed);
        family.sample(&[("cause", "gathering")], gathering);
    }
}
