//! The agent beside two releases of node_exporter, on one host within one second: the same families,
//! the same label sets, the same numbers; but for what [`DIFFERENCES`] lists with its reason.

use crate::page::{Beside, Sample, families, installed, samples};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tests::agent::{Place, free_port};
use tests::program::workspace;
use tests::{foreign_root, http, wait};

/// What the agent leaves out by default, as newer releases do; Debian's builds leave out more.
pub const FLAGS: [&str; 4] = [
    "--no-collector.systemd",
    r"--collector.filesystem.mount-points-exclude=^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
    "--collector.filesystem.fs-types-exclude=^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$",
    r"--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
];

/// Collectors that are on by default there and have no line of their own here.
const NOT_BUILT: &[&str] = &[
    "bcache",
    "bcachefs",
    "dmmultipath",
    "fibrechannel",
    "hwmon",
    "infiniband",
    "ipvs",
    "kernel_hung",
    "powersupplyclass",
    "rapl",
    "tapestats",
    "watchdog",
    "zfs",
];

/// How a family may differ.
enum What {
    /// On one of the pages only.
    Absent,
    /// One of the pages alone has this label.
    Label(&'static str),
    /// Series with one of these values of the label are on one of the pages only.
    Series(&'static str, &'static [&'static str]),
    /// The number, of all series or of those with this value of the label.
    Value(&'static [&'static str]),
}

/// A family, or all that begin with what stands before `*`; beside which release; what; why.
type Difference = (&'static str, &'static str, What, &'static str);

const LATER: &str = "later releases have it";

/// Every intended difference. docs/metrics.md has the same table.
const DIFFERENCES: &[Difference] = &[
    ("go_*", "1.5, 1.9", What::Absent, "there is no Go runtime"),
    (
        "agent_*",
        "1.5, 1.9",
        What::Absent,
        "what the agent tells of its own rooms",
    ),
    (
        "node_exporter_build_info",
        "1.5, 1.9",
        What::Label("version"),
        "the agent's",
    ),
    (
        "node_exporter_build_info",
        "1.5, 1.9",
        What::Label("branch"),
        "there is no node_exporter build",
    ),
    (
        "node_exporter_build_info",
        "1.5, 1.9",
        What::Label("revision"),
        "there is no node_exporter build",
    ),
    (
        "node_exporter_build_info",
        "1.5, 1.9",
        What::Label("goversion"),
        "there is no Go",
    ),
    (
        "node_exporter_build_info",
        "1.5",
        What::Label("tags"),
        LATER,
    ),
    (
        "node_scrape_collector_*",
        "1.5, 1.9",
        What::Series("collector", NOT_BUILT),
        "not built here, or not there yet; rapl is off unless included",
    ),
    (
        "node_scrape_collector_success",
        "1.9",
        What::Value(&["pressure"]),
        "a kernel without /proc/pressure/irq fails the collector there",
    ),
    (
        "node_scrape_collector_duration_seconds",
        "1.5, 1.9",
        What::Value(&[]),
        "each measures itself",
    ),
    (
        "process_network_*",
        "1.5",
        What::Absent,
        "later releases have it",
    ),
    (
        "process_*",
        "1.5, 1.9",
        What::Value(&[]),
        "of another process",
    ),
    (
        "process_network_*",
        "1.9",
        What::Absent,
        "costs more than it tells; netdev has the host's",
    ),
    (
        "promhttp_metric_handler_*",
        "1.5, 1.9",
        What::Value(&[]),
        "each counts its own scrapes",
    ),
    (
        "node_memory_*",
        "1.9",
        What::Absent,
        "every line of /proc/meminfo is shown, as up to 1.5; later a fixed list",
    ),
    ("node_disk_info", "1.5", What::Label("rotational"), LATER),
    (
        "node_disk_info",
        "1.9",
        What::Label("rotational"),
        "0 there where any other file of the queue cannot be read, up to 1.11",
    ),
    (
        "node_filesystem_*",
        "1.5",
        What::Label("device_error"),
        LATER,
    ),
    ("node_filesystem_mount_info", "1.5", What::Absent, LATER),
    (
        "node_filesystem_purgeable_bytes",
        "1.5, 1.9",
        What::Absent,
        LATER,
    ),
    ("node_network_info", "1.5", What::Label("adminstate"), LATER),
    (
        "node_network_*_total",
        "1.5",
        What::Series("device", &["lo"]),
        "1.5 shows no loopback",
    ),
    ("node_softnet_*", "1.5", What::Absent, LATER),
    (
        "node_netstat_TcpExt_TCPOFOQueue",
        "1.5",
        What::Absent,
        LATER,
    ),
    (
        "node_netstat_TcpExt_TCPRcvQDrop",
        "1.5",
        What::Absent,
        LATER,
    ),
    ("node_pressure_irq_*", "1.5", What::Absent, LATER),
    ("node_kernel_hung_*", "1.5, 1.9", What::Absent, LATER),
    ("node_watchdog_*", "1.5", What::Absent, LATER),
];

/// How far outside of what node_exporter said just before and just after a number may be: the
/// first row whose prefix fits counts. Whatever only grows has to lie between.
const DELTAS: &[(&str, f64)] = &[
    // The kernel's idle and I/O wait of a CPU may step back; both pages hold them, each its own.
    ("node_cpu_", 1.0),
    ("node_load", 1.0),
    ("node_procs_", 200.0),
    ("node_memory_Huge", 0.0),
    // Other programs of the host come and go.
    ("node_memory_", 1024.0 * 1024.0 * 1024.0),
    ("node_filesystem_files", 100_000.0),
    ("node_filesystem_", 1024.0 * 1024.0 * 1024.0),
    ("node_filefd_allocated", 10_000.0),
    ("node_sockstat_", 10_000.0),
    ("node_netstat_Tcp_CurrEstab", 1_000.0),
    ("node_nf_conntrack_entries", 1_000.0),
    ("node_udp_queues", 1_048_576.0),
    ("node_softnet_backlog_len", 10_000.0),
    ("node_disk_io_now", 10_000.0),
    ("node_arp_entries", 100.0),
    // Made of two clocks.
    ("node_boot_time_seconds", 1.0),
    ("node_timex_", 1.0),
    ("node_entropy_", 256.0),
    ("node_cpu_scaling_frequency_hertz", 1e10),
    ("node_thermal_", 20.0),
    // Milliseconds as seconds: the last digit of a sum.
    ("", 1e-6),
];

const ATTEMPTS: usize = 20;
/// Three scrapes, the agent's in the middle.
const TOGETHER: Duration = Duration::from_secs(1);

fn fits(pattern: &str, family: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => {
            family.len() >= start.len() + end.len()
                && family.starts_with(start)
                && family.ends_with(end)
        }
        None => pattern == family,
    }
}

fn rows<'a>(release: &'a str, family: &'a str) -> impl Iterator<Item = &'a What> {
    let rows = DIFFERENCES.iter();
    let rows = rows.filter(move |(pattern, releases, ..)| {
        fits(pattern, family) && releases.split(", ").any(|one| one == release)
    });
    rows.map(|(_, _, what, _)| what)
}

/// All label sets of a page by family, without labels that one page alone has.
type Series = BTreeMap<String, BTreeMap<BTreeMap<String, String>, f64>>;

fn series(release: &str, page: &str) -> Series {
    let mut all = Series::new();
    for Sample {
        name,
        mut labels,
        value,
    } in samples(page)
    {
        for what in rows(release, &name) {
            if let What::Label(label) = what {
                labels.remove(*label);
            }
        }
        all.entry(name).or_default().insert(labels, value);
    }
    all
}

/// What differs and is in no row.
fn faults(release: &str, pages: [&str; 3]) -> Vec<String> {
    let [before, ours, after] = pages;
    let mut faults = Vec::new();
    let (theirs, mine) = (families(before), families(ours));
    let names: BTreeSet<&String> = theirs.keys().chain(mine.keys()).collect();
    let [before, ours, after] = [before, ours, after].map(|page| series(release, page));
    let empty = BTreeMap::new();
    for name in names {
        if theirs.get(name) != mine.get(name) {
            let absent = theirs.contains_key(name) != mine.contains_key(name);
            if !absent || !rows(release, name).any(|what| matches!(what, What::Absent)) {
                let [there, here] = [theirs.get(name), mine.get(name)];
                faults.push(format!("{name}: {there:?} there, {here:?} here"));
            }
            continue;
        }
        if name.starts_with("go_") {
            continue;
        }
        let [before, ours, after] =
            [&before, &ours, &after].map(|page| page.get(name).unwrap_or(&empty));
        let sets: BTreeSet<_> = before
            .keys()
            .chain(ours.keys())
            .chain(after.keys())
            .collect();
        for labels in sets {
            let values = (before.get(labels), ours.get(labels), after.get(labels));
            match values {
                // It came or went meanwhile.
                (None, _, Some(_)) | (Some(_), _, None) => {}
                (Some(before), Some(ours), Some(after))
                    if !is_near(name, *before, *ours, *after)
                        && !value_may_differ(release, name, labels) =>
                {
                    faults.push(format!("{name}{labels:?}: {ours}, {before} to {after}"));
                }
                (Some(_), Some(_), Some(_)) => {}
                (there, ..) if !series_may_differ(release, name, labels) => {
                    let where_ = there.map_or("here", |_| "there");
                    faults.push(format!("{name}{labels:?}: only {where_}"));
                }
                _ => {}
            }
        }
    }
    faults
}

fn is_near(family: &str, before: f64, ours: f64, after: f64) -> bool {
    let row = DELTAS.iter().find(|(prefix, _)| family.starts_with(prefix));
    let delta = row.map_or(0.0, |(_, delta)| *delta) + 1e-9 * before.abs();
    before.min(after) - delta <= ours && ours <= before.max(after) + delta
}

fn value_may_differ(release: &str, family: &str, labels: &BTreeMap<String, String>) -> bool {
    rows(release, family).any(|what| match what {
        What::Value(values) => {
            values.is_empty()
                || labels
                    .values()
                    .any(|value| values.contains(&value.as_str()))
        }
        _ => false,
    })
}

fn series_may_differ(release: &str, family: &str, labels: &BTreeMap<String, String>) -> bool {
    rows(release, family).any(|what| match what {
        What::Series(label, values) => labels
            .get(*label)
            .is_some_and(|value| values.contains(&value.as_str())),
        _ => false,
    })
}

fn page(address: SocketAddr) -> String {
    let reply = http::get(address, "/metrics", &[]).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}

/// node_exporter with its defaults, looking at the place's text files.
pub fn twin(program: &str, place: &Place, more: &[&str]) -> (Beside, SocketAddr) {
    let address = free_port();
    let mut arguments = vec![
        format!("--web.listen-address={address}"),
        format!(
            "--collector.textfile.directory={}",
            place.path("texts").display()
        ),
    ];
    arguments.extend(FLAGS.iter().chain(more).map(|flag| (*flag).to_owned()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let beside = Beside::start(program, &arguments);
    wait::until("node_exporter answers", || {
        let reply = http::get(address, "/metrics", &[]).ok()?;
        (reply.status == 200).then_some(())
    });
    (beside, address)
}

/// The releases beside which the agent stands, and their programs.
pub fn releases() -> [(&'static str, String); 2] {
    let newer = foreign_root::newer_node_exporter().unwrap();
    [
        (
            "1.5",
            installed("prometheus-node-exporter", "prometheus-node-exporter"),
        ),
        ("1.9", newer.display().to_string()),
    ]
}

/// The place with text files that both look at.
pub fn with_texts(place: &Place) -> String {
    fs::create_dir_all(place.path("texts")).unwrap();
    fs::write(
        place.path("texts/backup.prom"),
        "# HELP backup_seconds Last.\n# TYPE backup_seconds gauge\nbackup_seconds{job=\"x\"} 1\n\
         backup_seconds 2\n",
    )
    .unwrap();
    format!(
        "[metrics.textfile]\ndirectories = [\"{}\"]\n",
        place.path("texts").display()
    )
}

fn is_twin_of(release: &str, program: &str) {
    let place = Place::new();
    let config = with_texts(&place);
    let (_twin, theirs) = twin(program, &place, &[]);
    let _agent = place.start(&config);
    page(place.metrics);
    let mut last = Vec::new();
    for _ in 0..ATTEMPTS {
        let start = Instant::now();
        let [before, ours, after] = [theirs, place.metrics, theirs].map(page);
        let took = start.elapsed();
        if took > TOGETHER {
            last = vec![format!("three scrapes took {took:?}")];
            continue;
        }
        assert!(families(&before).len() > 250, "{before}");
        last = faults(release, [&before, &ours, &after]);
        if last.is_empty() {
            return;
        }
    }
    panic!("beside node_exporter {release}: {last:#?}");
}

#[test]
fn the_page_is_that_of_node_exporter_1_5() {
    let [(release, program), _] = releases();
    is_twin_of(release, &program);
}

#[test]
fn the_page_is_that_of_node_exporter_1_9() {
    let [_, (release, program)] = releases();
    is_twin_of(release, &program);
}

/// A difference that no row allows is seen.
#[test]
fn a_missing_family_label_or_number_is_a_fault() {
    let page = |text: &str| format!("# HELP node_x X.\n# TYPE node_x counter\n{text}\n");
    let beside = page("node_x{a=\"1\"} 5");
    for (ours, fault) in [
        (page("node_x{a=\"1\"} 7"), "7, 5 to 5"),
        (page("node_x{a=\"2\"} 5"), "only here"),
        (page("node_x 5"), "only there"),
        (
            page("node_x{a=\"1\"} 5").replace("counter", "gauge"),
            "gauge",
        ),
        (String::new(), "there"),
    ] {
        let found = faults("1.9", [&beside, &ours, &beside]);
        assert!(found.iter().any(|one| one.contains(fault)), "{found:?}");
    }
    assert!(faults("1.9", [&beside, &beside, &beside]).is_empty());
}

#[test]
fn the_documentation_has_the_same_table() {
    let docs = fs::read_to_string(workspace().join("docs/metrics.md")).unwrap();
    let (_, docs) = docs
        .split_once("| family | beside | what | why |\n| --- | --- | --- | --- |\n")
        .unwrap();
    let listed = docs.lines().take_while(|line| line.starts_with('|'));
    let rows = DIFFERENCES.iter().map(|(family, releases, what, why)| {
        let what = match what {
            What::Absent => "family".to_owned(),
            What::Label(label) => format!("label `{label}`"),
            What::Series(label, values) => format!("series of `{label}` {}", values.join(", ")),
            What::Value([]) => "number".to_owned(),
            What::Value(values) => format!("number of {}", values.join(", ")),
        };
        format!("| `{family}` | {releases} | {what} | {why} |")
    });
    let rows: Vec<String> = rows.collect();
    let listed: Vec<&str> = listed.collect();
    assert_eq!(listed, rows, "as it has to be:\n{}", rows.join("\n"));
}
