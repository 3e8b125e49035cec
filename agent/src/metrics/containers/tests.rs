//! Pages over small cgroup trees: v1 with Docker's own driver, v2 with systemd's.

use super::list::{Found, List, Listing, Ooms};
use super::sampler::Sampler;
use super::{network, text};
use crate::host::cgroup::Cgroup;
use crate::host::roots::Roots;
use crate::metrics::tests::{Pages, expect, host, parse_text};
use proptest::prelude::{prop, proptest};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NET: &str = "head\nhead\n lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                   eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n";

const V1: &[(&str, &str)] = &[
    (
        "cpuacct/D/cpuacct.usage_percpu",
        "1500000000 0 250000000 \n",
    ),
    ("cpuacct/D/cpuacct.stat", "user 120\nsystem 45\n"),
    ("cpu/D/cpu.shares", "512\n"),
    ("cpu/D/cpu.cfs_period_us", "100000\n"),
    ("cpu/D/cpu.cfs_quota_us", "50000\n"),
    (
        "cpu/D/cpu.stat",
        "nr_periods 30\nnr_throttled 4\nthrottled_time 2500000000\n",
    ),
    ("memory/D/memory.usage_in_bytes", "9000\n"),
    ("memory/D/memory.max_usage_in_bytes", "12000\n"),
    ("memory/D/memory.failcnt", "3\n"),
    (
        "memory/D/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    ),
    ("memory/D/memory.limit_in_bytes", "104857600\n"),
    ("memory/D/memory.memsw.limit_in_bytes", "209715200\n"),
    (
        "memory/D/memory.soft_limit_in_bytes",
        "9223372036854771712\n",
    ),
    (
        "memory/D/memory.stat",
        "cache 1\nrss 2\npgfault 5\npgmajfault 6\ntotal_cache 4000\ntotal_rss 3000\n\
         total_mapped_file 500\ntotal_swap 70\ntotal_inactive_file 1000\ntotal_pgfault 50\n\
         total_pgmajfault 60\n",
    ),
    ("blkio/D/blkio.bfq.io_service_bytes_recursive", "Total 0\n"),
    (
        "blkio/D/blkio.throttle.io_service_bytes_recursive",
        "259:0 Read 4096\n259:0 Write 8192\n259:0 Total 12288\nTotal 12288\n",
    ),
    (
        "blkio/D/blkio.throttle.io_serviced_recursive",
        "259:0 Read 1\n259:0 Write 2\nTotal 3\n",
    ),
];

const V2: &[(&str, &str)] = &[
    (
        "D/cpu.stat",
        "usage_usec 1750000\nuser_usec 1200000\nsystem_usec 550000\nnr_periods 30\n\
         nr_throttled 4\nthrottled_usec 2500000\n",
    ),
    ("D/cpu.max", "max 100000\n"),
    ("D/cpu.weight", "100\n"),
    ("D/memory.current", "9000\n"),
    ("D/memory.peak", "12000\n"),
    (
        "D/memory.events",
        "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n",
    ),
    ("D/memory.swap.current", "70\n"),
    ("D/memory.max", "104857600\n"),
    ("D/memory.swap.max", "max\n"),
    ("D/memory.low", "0\n"),
    (
        "D/memory.stat",
        "anon 3000\nfile 4000\nfile_mapped 500\ninactive_file 1000\npgfault 50\npgmajfault 60\n",
    ),
    (
        "D/io.stat",
        "259:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n259:1 \n",
    ),
];

/// A host with one container, and the sampler over it.
struct Place {
    dir: tempfile::TempDir,
    list: List,
    sampler: Sampler,
}

impl Place {
    /// `D` in the files' names stands for `cgroup`, the container's.
    fn new(files: &[(&str, &str)], cgroup: &str, lines: &str) -> Place {
        Place::with(files, cgroup, lines, false, found())
    }

    fn with(
        files: &[(&str, &str)],
        cgroup: &str,
        lines: &str,
        labels: bool,
        found: Found,
    ) -> Place {
        let below = cgroup.trim_start_matches('/');
        let paths = files.iter().map(|(path, content)| {
            (
                format!("sys/fs/cgroup/{}", path.replace('D', below)),
                *content,
            )
        });
        let mut all: Vec<(String, &str)> = paths.collect();
        let lines = lines.replace('D', cgroup);
        all.push(("proc/77/cgroup".into(), &lines));
        all.push(("proc/77/net/dev".into(), NET));
        let all: Vec<(&str, &str)> = all.iter().map(|(p, c)| (p.as_str(), *c)).collect();
        let (dir, roots) = host(&all);
        let devices = dir.path().join("sys/dev/block");
        std::fs::create_dir_all(&devices).unwrap();
        let target = "../../devices/pci0000:00/nvme/nvme0/nvme0n1";
        std::os::unix::fs::symlink(target, devices.join("259:0")).unwrap();
        let list = List::new();
        list.set(listing(vec![found]));
        let sampler = sampler(roots, labels, &list);
        Place { dir, list, sampler }
    }

    fn v1() -> Place {
        let lines = "4:memory:D\n3:blkio:D\n2:cpuacct:D\n1:cpu:D\n0::D\n";
        Place::new(V1, &format!("/docker/{ID}"), lines)
    }

    fn page(&mut self) -> Pages {
        let body = self.sampler.scrape(false);
        parse_text(std::str::from_utf8(&body.bytes).unwrap())
    }

    fn remove(&self, path: &str) {
        std::fs::remove_dir_all(self.dir.path().join(path)).unwrap();
    }
}

fn sampler(roots: Roots, labels: bool, list: &List) -> Sampler {
    let restarts = Box::new(|id: &str| if id == ID { 3 } else { 0 });
    Sampler::new(
        roots,
        labels,
        list.clone(),
        restarts,
        prometheus::Registry::new(),
    )
}

fn listing(found: Vec<Found>) -> Listing {
    Listing {
        found: Arc::new(found),
        seen: UNIX_EPOCH + Duration::from_secs(1_795_000_100),
        ok: true,
    }
}

fn found() -> Found {
    Found {
        id: ID.into(),
        name: "web".into(),
        image: "app:1".into(),
        labels: BTreeMap::from([("com.example/team".into(), "x".into())]),
        pid: 77,
        started_at: Some(UNIX_EPOCH + Duration::from_millis(1_795_000_000_900)),
        restarts: 1,
        borrows_network: false,
        ooms: Arc::default(),
    }
}

#[track_caller]
fn holds(pages: &Pages, id: &str, family: &str, own: &[(&str, &str)], value: f64) {
    let mut labels = vec![("id", id), ("image", "app:1"), ("name", "web")];
    labels.extend(own);
    expect(pages, family, &labels, value);
}

/// What both trees tell alike.
fn expect_common(pages: &Pages, id: &str) {
    for (family, value) in [
        ("container_last_seen", 1_795_000_100.0),
        ("container_start_time_seconds", 1_795_000_000.0),
        ("container_restarts_total", 4.0),
        ("container_oom_events_total", 2.0),
        ("container_memory_usage_bytes", 9000.0),
        ("container_memory_working_set_bytes", 8000.0),
        ("container_memory_max_usage_bytes", 12000.0),
        ("container_memory_cache", 4000.0),
        ("container_memory_rss", 3000.0),
        ("container_memory_mapped_file", 500.0),
        ("container_memory_swap", 70.0),
        ("container_memory_failcnt", 3.0),
        ("container_spec_memory_limit_bytes", 104_857_600.0),
        ("container_spec_memory_reservation_limit_bytes", 0.0),
        ("container_spec_cpu_period", 100_000.0),
    ] {
        holds(pages, id, family, &[], value);
    }
    for (family, value) in [
        ("container_fs_reads_bytes_total", 4096.0),
        ("container_fs_writes_bytes_total", 8192.0),
        ("container_fs_reads_total", 1.0),
        ("container_fs_writes_total", 2.0),
    ] {
        holds(pages, id, family, &[("device", "/dev/nvme0n1")], value);
        assert_eq!(pages[family].series.len(), 1, "{family}");
    }
    for (kind, values) in [
        ("receive", [1000.0, 10.0, 1.0, 2.0]),
        ("transmit", [2000.0, 20.0, 3.0, 4.0]),
    ] {
        let names = ["bytes", "packets", "errors", "packets_dropped"];
        for (what, value) in names.into_iter().zip(values) {
            let family = format!("container_network_{kind}_{what}_total");
            holds(pages, id, &family, &[("interface", "eth0")], value);
            assert_eq!(pages[&family].series.len(), 1, "{family}");
        }
    }
    expect(pages, "container_scrape_error", &[], 0.0);
}

#[test]
fn a_v1_container_prints_as_cadvisor_prints_it() {
    let mut place = Place::v1();
    let pages = place.page();
    let id = format!("/docker/{ID}");
    expect_common(&pages, &id);
    let usage = "container_cpu_usage_seconds_total";
    holds(&pages, &id, usage, &[("cpu", "cpu00")], 1.5);
    holds(&pages, &id, usage, &[("cpu", "cpu02")], 0.25);
    // a CPU that never ran it is left out
    assert_eq!(pages[usage].series.len(), 2);
    for (family, value) in [
        ("container_cpu_user_seconds_total", 1.2),
        ("container_cpu_system_seconds_total", 0.45),
        ("container_spec_cpu_shares", 512.0),
        ("container_spec_cpu_quota", 50_000.0),
        ("container_cpu_cfs_periods_total", 30.0),
        ("container_cpu_cfs_throttled_periods_total", 4.0),
        ("container_cpu_cfs_throttled_seconds_total", 2.5),
        ("container_spec_memory_swap_limit_bytes", 209_715_200.0),
    ] {
        holds(&pages, &id, family, &[], value);
    }
    for (kind, scope, value) in [
        ("pgfault", "container", 5.0),
        ("pgfault", "hierarchy", 50.0),
        ("pgmajfault", "container", 6.0),
        ("pgmajfault", "hierarchy", 60.0),
    ] {
        let own = [("failure_type", kind), ("scope", scope)];
        holds(&pages, &id, "container_memory_failures_total", &own, value);
    }
}

#[test]
fn a_v2_container_in_a_slice_prints_as_cadvisor_prints_it() {
    let id = format!("/system.slice/docker-{ID}.scope");
    let mut place = Place::new(V2, &id, "0::D/init.scope\n");
    let pages = place.page();
    expect_common(&pages, &id);
    let total = [("cpu", "total")];
    holds(
        &pages,
        &id,
        "container_cpu_usage_seconds_total",
        &total,
        1.75,
    );
    holds(&pages, &id, "container_cpu_user_seconds_total", &[], 1.2);
    holds(&pages, &id, "container_spec_cpu_shares", &[], 2597.0);
    holds(
        &pages,
        &id,
        "container_spec_memory_swap_limit_bytes",
        &[],
        0.0,
    );
    // without a quota there is nothing to throttle
    for absent in [
        "container_spec_cpu_quota",
        "container_cpu_cfs_periods_total",
    ] {
        assert!(!pages.contains_key(absent), "{absent}");
    }
}

#[test]
fn a_controller_that_is_missing_costs_its_own_families_only() {
    let mut place = Place::v1();
    place.remove("sys/fs/cgroup/blkio");
    place.remove("sys/fs/cgroup/cpuacct");
    let pages = place.page();
    assert!(!pages.contains_key("container_fs_reads_total"));
    assert!(!pages.contains_key("container_cpu_usage_seconds_total"));
    let id = format!("/docker/{ID}");
    holds(&pages, &id, "container_memory_usage_bytes", &[], 9000.0);
    holds(&pages, &id, "container_spec_cpu_shares", &[], 512.0);
}

#[test]
fn a_container_that_ended_leaves_the_page_without_an_error() {
    let mut place = Place::v1();
    assert!(place.page().contains_key("container_last_seen"));
    place.remove("proc/77");
    place.remove("sys/fs/cgroup/memory");
    let pages = place.page();
    assert!(!pages.contains_key("container_last_seen"));
    expect(&pages, "container_scrape_error", &[], 0.0);
}

#[test]
fn the_oom_kill_that_ended_a_container_is_still_seen() {
    let mut place = Place::v1();
    place.page();
    let ooms = place.list.now().found[0].ooms.clone();
    place.list.set(listing(Vec::new()));
    // its cgroup counted two, Docker tells of the third that took it away
    (0..3).for_each(|_| ooms.event());
    let pages = place.page();
    let id = format!("/docker/{ID}");
    holds(&pages, &id, "container_oom_events_total", &[], 3.0);
    for gone in ["container_last_seen", "container_restarts_total"] {
        assert!(!pages.contains_key(gone), "{gone}");
    }
    // started again, it is there once
    place.list.set(listing(vec![found()]));
    let pages = place.page();
    assert_eq!(pages["container_oom_events_total"].series.len(), 1);
}

#[test]
fn cgroups_that_cannot_be_seen_and_a_late_docker_are_scrape_errors() {
    let mut place = Place::v1();
    place.remove("sys/fs/cgroup");
    expect(&place.page(), "container_scrape_error", &[], 1.0);

    let mut place = Place::v1();
    let late = Listing {
        ok: false,
        ..place.list.now()
    };
    place.list.set(late);
    let pages = place.page();
    expect(&pages, "container_scrape_error", &[], 1.0);
    // the last list holds on, its age shows
    let id = format!("/docker/{ID}");
    holds(&pages, &id, "container_last_seen", &[], 1_795_000_100.0);
    holds(&pages, &id, "container_memory_usage_bytes", &[], 9000.0);
}

#[test]
fn a_network_is_shown_once_and_only_of_the_right_process() {
    let mut borrowing = found();
    borrowing.borrows_network = true;
    let lines = "4:memory:D\n";
    let cgroup = format!("/docker/{ID}");
    let mut place = Place::with(V1, &cgroup, lines, false, borrowing);
    let family = "container_network_receive_bytes_total";
    assert!(!place.page().contains_key(family));

    let mut place = Place::v1();
    assert!(place.page().contains_key(family));
    // its cgroup stands, its pid is another's by now
    std::fs::write(place.dir.path().join("proc/77/cgroup"), "0::/user.slice\n").unwrap();
    let pages = place.page();
    assert!(!pages.contains_key(family));
    assert!(pages.contains_key("container_memory_usage_bytes"));
}

#[test]
fn container_labels_are_printed_when_asked_for() {
    let lines = "4:memory:D\n";
    let cgroup = format!("/docker/{ID}");
    let mut place = Place::with(V1, &cgroup, lines, true, found());
    let labels = [
        ("container_label_com_example_team", "x"),
        ("container_label_restartcount", "1"),
    ];
    holds(
        &place.page(),
        &cgroup,
        "container_memory_rss",
        &labels,
        3000.0,
    );
}

#[test]
fn oom_kills_are_counted_once_and_over_all_runs() {
    let ooms = Ooms::default();
    assert_eq!(ooms.total(None), 0);
    // both ways tell of the same one
    ooms.event();
    assert_eq!(ooms.total(Some(1)), 1);
    ooms.next_run();
    assert_eq!(ooms.total(Some(0)), 1);
    // the cgroup went with the kill before anyone read it
    ooms.event();
    assert_eq!(ooms.total(None), 2);
    // nobody listened to Docker, the cgroup stayed
    assert_eq!(ooms.total(Some(4)), 5);
    ooms.next_run();
    assert_eq!(ooms.total(Some(0)), 5);
}

#[test]
fn pages_hold_their_form_whatever_the_names() {
    let restarts = Arc::new(AtomicU64::new(0));
    let asked = restarts.clone();
    let mut odd = found();
    odd.name = "a\"b\\c\nd".into();
    odd.image = "\u{1}é".into();
    odd.labels = BTreeMap::from([("a.b".into(), "1".into()), ("a-b".into(), "2".into())]);
    let Place { dir, list, .. } =
        Place::with(V1, &format!("/docker/{ID}"), "4:memory:D\n", true, odd);
    let roots = crate::metrics::tests::roots_in(dir.path());
    let count = Box::new(move |_: &str| asked.fetch_add(1, Ordering::Relaxed));
    let mut sampler = Sampler::new(roots, true, list, count, prometheus::Registry::new());
    let body = sampler.scrape(false);
    let pages = parse_text(std::str::from_utf8(&body.bytes).unwrap());
    let labels = pages["container_memory_rss"].series.keys().next().unwrap();
    assert!(
        format!("{labels:?}").contains("container_label_a_b"),
        "{labels:?}"
    );
    assert_eq!(restarts.load(Ordering::Relaxed), 1);
}

proptest! {
    #[test]
    fn no_text_of_the_kernel_breaks_a_parser(bytes in prop::collection::vec(0u8.., 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = Cgroup::of(&text, "a", Path::new("/sys/fs/cgroup"));
        let _ = network::interfaces(&text);
        let _ = text::pairs(&text).count();
        let _ = (text::limit(&text), text::cpu_max(&text), text::number(&text));
    }
}
