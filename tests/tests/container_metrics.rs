//! The agent's container metrics beside a real cAdvisor, on one host, over the same containers.

// A helper of a test may fail like the test; figures are for the log.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tests::agent::{Place, free_port};
use tests::daemon::Daemon;
use tests::program::{target_directory, workspace};
use tests::{http, wait};

/// cAdvisor's families that the agent does not print, and why. docs/container-metrics.md has the
/// same list for readers.
const NOT_PRINTED: &[(&str, &str)] = &[
    (
        "container_cpu_load_average_10s",
        "0 unless cAdvisor's load reader is on",
    ),
    (
        "container_tasks_state",
        "0 unless cAdvisor's load reader is on",
    ),
    (
        "container_fs_inodes_free",
        "of the host's file system: node_filesystem_files_free",
    ),
    (
        "container_fs_inodes_total",
        "needs a walk through the container's files",
    ),
    ("container_fs_io_current", "0 for containers"),
    ("container_fs_io_time_seconds_total", "0 for containers"),
    (
        "container_fs_io_time_weighted_seconds_total",
        "0 for containers",
    ),
    (
        "container_fs_limit_bytes",
        "of the host's file system: node_filesystem_size_bytes",
    ),
    ("container_fs_read_seconds_total", "0 for containers"),
    ("container_fs_reads_merged_total", "0 for containers"),
    ("container_fs_sector_reads_total", "0 for containers"),
    ("container_fs_sector_writes_total", "0 for containers"),
    (
        "container_fs_usage_bytes",
        "needs a walk through the container's files",
    ),
    ("container_fs_write_seconds_total", "0 for containers"),
    ("container_fs_writes_merged_total", "0 for containers"),
];

/// The agent's families that this cAdvisor does not print, and why they are there.
const BESIDE: &[(&str, &str)] = &[
    (
        "container_oom_events_total",
        "later versions of cAdvisor have it",
    ),
    (
        "container_restarts_total",
        "the agent's own: cAdvisor has a label at most",
    ),
];

/// How far a value may be from what cAdvisor said just before and just after.
fn delta(family: &str) -> f64 {
    match family {
        // This cAdvisor prints when it was created, later ones and we when it was started.
        "container_start_time_seconds" => 3.0,
        // The age of Docker's list; cAdvisor prints now.
        "container_last_seen" => 15.0,
        "container_memory_failures_total" => 300.0,
        name if name.starts_with("container_spec_") => 0.0,
        // The kernel adds up its counters per CPU in steps of 32 pages.
        name if name.starts_with("container_memory_") => 65_536.0,
        name if name.ends_with("_seconds_total") => 0.15,
        name if name.ends_with("_periods_total") => 20.0,
        // A neighbour discovery now and then.
        name if name.starts_with("container_network_") && name.ends_with("_bytes_total") => 2000.0,
        name if name.starts_with("container_network_") => 20.0,
        name if name.starts_with("container_fs_") && name.ends_with("_bytes_total") => 65_536.0,
        name if name.starts_with("container_fs_") => 4.0,
        _ => 0.0,
    }
}

/// Daemons and cAdvisor share the host: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// family → labels without the container's own → value
type Series = BTreeMap<String, BTreeMap<BTreeMap<String, String>, f64>>;

/// The series of the container of that name. cAdvisor prints labels of other containers as empty
/// ones, which Prometheus takes for absent.
fn series(page: &str, container: &str) -> Series {
    let mut all = Series::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((family, rest)) = line.split_once('{') else {
            continue;
        };
        let Some((labels, value)) = rest.split_once("} ") else {
            continue;
        };
        let labels: BTreeMap<String, String> = labels
            .split("\",")
            .filter_map(|label| label.split_once("=\""))
            .map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()))
            .filter(|(name, value)| !value.is_empty() && !name.starts_with("container_label_"))
            .collect();
        if labels.get("name").is_none_or(|name| name != container) {
            continue;
        }
        // cAdvisor adds a timestamp.
        let value = value.split(' ').next().unwrap().parse().unwrap();
        let family = all.entry(family.to_owned()).or_default();
        family.insert(labels, value);
    }
    all
}

struct Host {
    daemon: Daemon,
    place: Place,
    app: SocketAddr,
    cadvisor: SocketAddr,
    containers: SocketAddr,
    scratch: PathBuf,
}

impl Host {
    fn new(images: &[&str]) -> Host {
        let daemon = Daemon::start(images);
        let mut place = Place::new();
        place.docker_socket = daemon.socket();
        let scratch = target_directory().join(format!("container-metrics-{}", std::process::id()));
        fs::create_dir_all(&scratch).unwrap();
        Host {
            daemon,
            place,
            app: free_port(),
            cadvisor: free_port(),
            containers: free_port(),
            scratch,
        }
    }

    fn config(&self) -> String {
        format!("[metrics.containers]\nlisten = \"{}\"\n", self.containers)
    }

    /// The app with limits, a shell, and a place on disk.
    fn run_app(&self, name: &str, options: &[&str]) {
        let port = format!("{}:8080", self.app);
        let scratch = format!("{}:/scratch", self.scratch.display());
        let mut run = vec!["run", "-d", "--name", name, "-v", &scratch];
        run.extend(["-v", "/bin/busybox:/bin/busybox:ro", "-p", &port]);
        run.extend(options);
        run.push("agent-test/app:1");
        self.daemon.docker(&run);
    }

    /// As the fleet runs it, but with the test's daemon, and asked often enough to compare.
    fn run_cadvisor(&self) {
        let port = format!("{}:8080", self.cadvisor);
        let socket = self.daemon.socket();
        let runtime = format!("{}:/daemon:ro", socket.parent().unwrap().display());
        self.daemon.docker(&[
            "run",
            "-d",
            "--name",
            "cadvisor",
            "-p",
            &port,
            "-v",
            "/:/rootfs:ro",
            "-v",
            "/sys:/sys:ro",
            "-v",
            &runtime,
            "agent-test/cadvisor:1",
            "--docker=unix:///daemon/docker.sock",
            "--housekeeping_interval=200ms",
            "--allow_dynamic_housekeeping=false",
        ]);
    }

    fn page(&self, address: SocketAddr) -> String {
        let reply = http::get(address, "/metrics", &[]).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text()
    }

    fn ours(&self, container: &str) -> Series {
        series(&self.page(self.containers), container)
    }

    fn value(&self, container: &str, family: &str) -> Option<f64> {
        self.ours(container).get(family)?.values().next().copied()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// The disk that holds `path`, `/dev/vda`; None in a container, whose root is no disk.
fn disk(path: &Path) -> Option<String> {
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let node = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let whole = match node.join("partition").exists() {
        true => node.parent()?.to_owned(),
        false => node,
    };
    let name = format!("/dev/{}", whole.file_name()?.to_string_lossy());
    Path::new(&name).exists().then_some(name)
}

/// What differs between two pages of cAdvisor and ours, taken between them. Empty: nothing.
fn differences(before: &Series, ours: &Series, after: &Series) -> Vec<String> {
    let mut found = Vec::new();
    let is_known = |list: &[(&str, &str)], name: &str| list.iter().any(|(known, _)| *known == name);
    for name in after.keys() {
        if !ours.contains_key(name) && !is_known(NOT_PRINTED, name) {
            found.push(format!("{name} is missing"));
        }
    }
    for (name, series) in ours {
        let Some(theirs) = after.get(name) else {
            if !is_known(BESIDE, name) {
                found.push(format!("{name} is not cAdvisor's"));
            }
            continue;
        };
        let labels = |series: &BTreeMap<_, f64>| series.keys().cloned().collect::<BTreeSet<_>>();
        if labels(series) != labels(theirs) {
            let (a, b) = (labels(series), labels(theirs));
            found.push(format!("{name}: labels {a:?}, cAdvisor's {b:?}"));
            continue;
        }
        for (labels, value) in series {
            let last = theirs[labels];
            let first = before.get(name).and_then(|series| series.get(labels));
            let first = first.copied().unwrap_or(last);
            let (low, high) = (first.min(last) - delta(name), first.max(last) + delta(name));
            if !(low..=high).contains(value) {
                found.push(format!(
                    "{name} {labels:?}: {value}, cAdvisor's {first}, {last}"
                ));
            }
        }
    }
    found
}

#[test]
fn the_page_agrees_with_cadvisors() {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let host = Host::new(&["app", "cadvisor"]);
    let disk = disk(&host.scratch);
    let mut options = vec!["--memory", "100m", "--memory-reservation", "64m"];
    options.extend(["--cpus", "0.5", "--cpu-shares", "512", "--label", "team=x"]);
    let limit = disk.as_ref().map(|disk| format!("{disk}:1gb"));
    // Kernels since 6.9 count v1's block I/O only where some limit stands.
    options.extend(limit.iter().flat_map(|limit| ["--device-write-bps", limit]));
    host.run_app("web", &options);
    host.run_cadvisor();
    let agent = host.place.start(&host.config());

    // memory, processor, network and disk have something to tell
    let write = "/bin/busybox dd if=/dev/zero of=/scratch/file bs=1M count=30 conv=fsync && \
                 /bin/busybox dd if=/scratch/file of=/dev/null bs=1M iflag=direct && \
                 i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
    host.daemon
        .docker(&["exec", "web", "/bin/busybox", "sh", "-c", write]);
    for _ in 0..20 {
        assert_eq!(http::get(host.app, "/heartbeat", &[]).unwrap().status, 200);
    }

    let mut last = Vec::new();
    let (compared, families) =
        wait::until_within(Duration::from_secs(90), "the pages agree", || {
            let scrape = || {
                http::get(host.cadvisor, "/metrics", &[])
                    .ok()
                    .map(|r| r.text())
            };
            let before = series(&scrape()?, "web");
            let ours = host.ours("web");
            // cAdvisor looks at a container every 200 ms
            std::thread::sleep(Duration::from_millis(500));
            let after = series(&scrape()?, "web");
            if after.len() < 30 {
                return None;
            }
            let found = differences(&before, &ours, &after);
            if found != last {
                eprintln!("differences: {found:#?}");
                last = found;
            }
            last.is_empty()
                .then(|| (ours.values().map(BTreeMap::len).sum::<usize>(), ours.len()))
        });
    eprintln!("compared {families} families, {compared} series");
    assert!(
        families >= 35 && compared >= 40,
        "{families} families, {compared} series"
    );

    // It is not agreement on nothing.
    let page = host.ours("web");
    let at_least = |family: &str, least: f64| {
        let sum: f64 = page[family].values().sum();
        assert!(sum >= least, "{family}: {sum}");
    };
    at_least("container_cpu_usage_seconds_total", 0.3);
    at_least("container_memory_usage_bytes", 10e6);
    at_least("container_memory_rss", 70e3);
    at_least("container_network_receive_bytes_total", 3000.0);
    at_least("container_network_receive_packets_total", 50.0);
    at_least("container_spec_memory_limit_bytes", 104_857_600.0);
    at_least("container_spec_cpu_quota", 50_000.0);
    if disk.is_some() {
        at_least("container_fs_writes_bytes_total", 30e6);
        at_least("container_fs_reads_bytes_total", 30e6);
    }
    let id = format!("/{}", host.daemon.inspect("web", ".Id"));
    let labels = page["container_memory_rss"].keys().next().unwrap();
    assert!(labels["id"].ends_with(&id), "{labels:?}");
    assert_eq!(labels["image"], "agent-test/app:1");
    // unasked, container labels are not printed
    assert!(!host.page(host.containers).contains("container_label_"));

    // gzip, landing page, cAdvisor's health check
    let packed = http::get(host.containers, "/metrics", &["accept-encoding: gzip"]).unwrap();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    for (path, status) in [("/", 200), ("/healthz", 200), ("/nothing", 404)] {
        let reply = http::get(host.containers, path, &[]).unwrap();
        assert_eq!(reply.status, status, "{path}");
    }
    cost(&host, agent.pid());
    assert!(agent.stop().success());
}

/// CPU of both for the same scrapes, for the log: the machine is shared.
fn cost(host: &Host, agent: u32) {
    const SCRAPES: u32 = 100;
    let cadvisor = host
        .daemon
        .inspect("cadvisor", ".State.Pid")
        .parse()
        .unwrap();
    let ticks = |pid: u32| -> f64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
    };
    for (name, pid, address) in [
        ("agent", agent, host.containers),
        ("cAdvisor", cadvisor, host.cadvisor),
    ] {
        let (began, before) = (Instant::now(), ticks(pid));
        for _ in 0..SCRAPES {
            let gzip = ["accept-encoding: gzip"];
            assert_eq!(http::get(address, "/metrics", &gzip).unwrap().status, 200);
        }
        let each = (ticks(pid) - before) * 10.0 / f64::from(SCRAPES);
        let wall = began.elapsed() / SCRAPES;
        eprintln!("{name}: {each:.2} ms CPU a scrape, {wall:?} each");
    }
}

#[test]
fn containers_come_and_go_and_their_oom_kills_and_restarts_stay_counted() {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let host = Host::new(&["app"]);
    let agent = host.place.start(&host.config());
    assert!(host.ours("web").is_empty());
    host.run_app("web", &[]);
    wait::until_within(Duration::from_secs(5), "web is on the page", || {
        host.value("web", "container_memory_usage_bytes")
    });
    host.daemon.docker(&["rename", "web", "renamed"]);
    wait::until_within(
        Duration::from_secs(5),
        "its new name is on the page",
        || host.value("renamed", "container_memory_usage_bytes"),
    );
    host.daemon.docker(&["rm", "-f", "renamed"]);
    assert!(
        host.ours("renamed").is_empty(),
        "a container that ended is on the page"
    );

    // Both eat memory until the kernel ends that, and end by it; only one is started again. Of a
    // main process that is killed itself Docker often tells nothing: its cgroup is gone too soon.
    for (name, policy) in [("hog", "always"), ("once", "no")] {
        let eat = "/bin/busybox sleep 1; /bin/busybox tail /dev/zero; exit 1";
        let shell = "/bin/busybox:/bin/busybox:ro";
        let mut run = vec![
            "run",
            "-d",
            "--name",
            name,
            "--restart",
            policy,
            "-v",
            shell,
        ];
        run.extend(["--memory", "16m", "--memory-swap", "16m"]);
        run.extend([
            "--entrypoint",
            "/bin/busybox",
            "agent-test/app:1",
            "sh",
            "-c",
            eat,
        ]);
        host.daemon.docker(&run);
        wait::until("it is on the page", || {
            host.value(name, "container_memory_rss")
        });
    }
    wait::until("the kill that ended a container is counted", || {
        let kills = host.value("once", "container_oom_events_total")?;
        let ended = host.value("once", "container_last_seen").is_none();
        (kills >= 1.0 && ended).then_some(())
    });
    // Each kill ends a run: one cgroup alone never counts more than one.
    wait::until("three OOM kills and two restarts are counted", || {
        let kills = host.value("hog", "container_oom_events_total")?;
        let restarts = host.value("hog", "container_restarts_total")?;
        (kills >= 3.0 && restarts >= 2.0).then_some(())
    });
    assert!(agent.stop().success());
}

#[test]
fn a_docker_that_hangs_costs_no_page_and_shows_its_age() {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let host = Host::new(&["app"]);
    host.run_app("web", &[]);
    let agent = host.place.start(&host.config());
    wait::until("web is on the page", || {
        host.value("web", "container_last_seen")
    });
    host.daemon.freeze();
    let pause = Duration::from_millis(200);
    let errors = |page: &str| page.contains("\ncontainer_scrape_error 1\n");
    let seen = wait::until("the age of the list shows", || {
        let began = Instant::now();
        let page = host.page(host.containers);
        assert!(began.elapsed() < Duration::from_secs(1), "a page waited");
        let web = series(&page, "web");
        // the last list holds on, and its containers are read afresh
        let seen = *web["container_last_seen"].values().next().unwrap();
        assert!(web.contains_key("container_memory_usage_bytes"));
        std::thread::sleep(pause);
        errors(&page).then_some(seen)
    });
    assert_eq!(host.value("web", "container_last_seen"), Some(seen));
    host.daemon.thaw();
    wait::until("Docker is heard again", || {
        let now = host.value("web", "container_last_seen")?;
        (now > seen && !errors(&host.page(host.containers))).then_some(())
    });
    assert!(agent.stop().success());
}

#[test]
fn every_family_left_out_stands_on_the_page_for_readers() {
    let page = fs::read_to_string(workspace().join("docs/container-metrics.md")).unwrap();
    for (family, reason) in NOT_PRINTED.iter().chain(BESIDE) {
        assert!(page.contains(&format!("`{family}`")), "{family}: {reason}");
    }
}
