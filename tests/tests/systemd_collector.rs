//! The `systemd` collector beside a real systemd, its bus, and Debian's node_exporter.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tests::systemd_host::{AGENT, Plan, SystemdHost};
use tests::{http, wait};

/// The bounds of one look in docs/metrics.md, on a loaded machine.
const ON_TIME: Duration = Duration::from_secs(5);
const SERVICE: &str = "\
[Service]
Type=simple
ExecStart=/bin/sleep infinity
";
const FAILED: &str = "\
[Service]
Type=oneshot
ExecStart=/bin/false
";
/// Ends three times, then stays.
const FLAPPING: &str = "\
[Unit]
StartLimitIntervalSec=0
[Service]
Restart=always
RestartSec=100ms
ExecStart=/bin/bash -c 'n=$(cat /run/flapping 2>/dev/null || echo 0); echo $((n + 1)) >/run/flapping; \
[ $n -lt 3 ] || exec sleep infinity'
";
const TIMER: &str = "\
[Timer]
OnActiveSec=1ms
AccuracySec=1ms
Unit=ticked.service
";
const TICKED: &str = "\
[Service]
Type=oneshot
ExecStart=/bin/true
";
/// The collector's flags there; the exclusion is upstream's default, Debian's own is another.
const FLAGS: [&str; 6] = [
    "--collector.systemd.unit-exclude=.+\\.(automount|device|mount|scope|slice)",
    "--collector.disable-defaults",
    "--collector.systemd",
    "--collector.systemd.enable-restarts-metrics",
    "--collector.systemd.enable-task-metrics",
    "--collector.systemd.enable-start-time-metrics",
];
const KEYS: &str = "enable_restarts_metrics = true\nenable_task_metrics = true\n\
                    enable_start_time_metrics = true\n";

/// A host with a directory that it shares with the test, for the agents' sockets.
struct Place {
    shared: TempDir,
    host: SystemdHost,
}

impl Place {
    fn boot(plan: Plan) -> Place {
        let shared = tempfile::Builder::new().prefix("agent-").tempdir().unwrap();
        let open = PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(shared.path(), open).unwrap();
        let bind = format!("{}:/shared", shared.path().display());
        let host = plan.bind(&bind).boot();
        Place { shared, host }
    }

    /// Starts an agent with the collector on, as that user; it is up when this returns.
    fn start(&self, user: &str, keys: &str) {
        let config = format!(
            "[agent]\nstate_dir = \"/run/agent-{user}/state\"\n\
             control = \"/run/agent-{user}/control.sock\"\n[cloud]\nimds = false\n\
             [docker]\nsocket = \"/nonexistent/docker.sock\"\n\
             [heartbeat]\nlisten = [\"unix:/run/agent-{user}/heartbeat.sock\"]\n\
             [logs.inputs.docker]\nlisten = [\"unix:/run/agent-{user}/forward.sock\"]\n\
             [metrics]\nlisten = [\"unix:/shared/{user}.sock\"]\n\
             [metrics.collectors]\ninclude = [\"loadavg\", \"systemd\"]\n[metrics.systemd]\n{keys}"
        );
        self.host.write(&format!("/etc/agent/{user}.toml"), &config);
        let unit = format!(
            "[Service]\nType=notify\nUser={user}\nRuntimeDirectory=agent-{user}\nUMask=0000\n\
             ExecStart={AGENT} run --config /etc/agent/{user}.toml\n"
        );
        let path = format!("/etc/systemd/system/agent-{user}.service");
        self.host.write(&path, &unit);
        self.host.run(&["systemctl", "daemon-reload"]);
        self.host
            .run(&["systemctl", "start", &format!("agent-{user}")]);
    }

    /// The page of that user's agent, which comes on time.
    fn page(&self, user: &str) -> String {
        let socket = self.shared.path().join(format!("{user}.sock"));
        let began = Instant::now();
        let reply = http::request_unix(&socket, "GET", "/metrics").unwrap();
        let took = began.elapsed();
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(took < ON_TIME, "the page took {took:?}");
        reply.text()
    }

    /// Waits until the page shows all of these lines.
    #[track_caller]
    fn wait_page(&self, user: &str, lines: &[&str]) -> String {
        wait::until(&format!("{user}'s page shows {lines:?}"), || {
            let page = self.page(user);
            let shows = |line: &&str| page.lines().any(|one| one == *line);
            lines.iter().all(shows).then_some(page)
        })
    }

    /// Sockets that the agent has open: listeners, and what it connected to.
    fn sockets(&self, user: &str) -> usize {
        let pid = self.host.property(&format!("agent-{user}"), "MainPID");
        let list = format!("ls -l /proc/{pid}/fd | grep -c socket:");
        self.host.shell(&list).trim().parse().unwrap()
    }
}

fn state(name: &str, state: &str, kind: &str, value: u8) -> String {
    format!("node_systemd_unit_state{{name=\"{name}\",state=\"{state}\",type=\"{kind}\"}} {value}")
}

fn success(value: u8) -> String {
    format!("node_scrape_collector_success{{collector=\"systemd\"}} {value}")
}

/// Series → value, of the collector alone.
fn series(page: &str) -> BTreeMap<String, String> {
    let ours = page
        .lines()
        .filter(|line| line.starts_with("node_systemd_"));
    ours.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.to_owned())
    })
    .collect()
}

/// Help and type lines of the collector's families.
fn headers(page: &str) -> BTreeSet<String> {
    let ours = page
        .lines()
        .filter(|line| line.starts_with('#') && line.contains(" node_systemd_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn units_are_shown_as_systemd_has_them_and_as_node_exporter_shows_them() {
    let plan = Plan::new()
        .file("/etc/systemd/system/steady.service", SERVICE)
        .file("/etc/systemd/system/failing.service", FAILED)
        .file("/etc/systemd/system/flapping.service", FLAPPING)
        .file("/etc/systemd/system/ticked.timer", TIMER)
        .file("/etc/systemd/system/ticked.service", TICKED);
    let place = Place::boot(plan);
    let host = &place.host;
    host.run(&["systemctl", "start", "steady", "flapping", "ticked.timer"]);
    host.output(&["systemctl", "start", "failing"]);
    place.start("root", KEYS);
    let restarts =
        |count| format!("node_systemd_service_restart_total{{name=\"flapping.service\"}} {count}");
    place.wait_page(
        "root",
        &[
            &success(1),
            &state("steady.service", "active", "simple", 1),
            &state("steady.service", "failed", "simple", 0),
            &state("failing.service", "failed", "oneshot", 1),
            &state("flapping.service", "active", "simple", 1),
            &state("docker.socket", "active", "", 1),
            "node_systemd_units{state=\"failed\"} 1",
            "node_systemd_system_running 0",
            &restarts(3),
        ],
    );

    // One more restart is counted, a failure that was seen to is gone.
    host.run(&["systemctl", "kill", "-s", "KILL", "flapping"]);
    host.run(&["systemctl", "reset-failed", "failing"]);
    let healed = [
        restarts(4),
        "node_systemd_units{state=\"failed\"} 0".into(),
        "node_systemd_system_running 1".into(),
    ];
    place.wait_page("root", &healed.each_ref().map(String::as_str));

    // Transient units come and go.
    host.run(&["systemd-run", "--unit=passing", "sleep", "infinity"]);
    place.wait_page("root", &[&state("passing.service", "active", "simple", 1)]);
    host.run(&["systemctl", "stop", "passing"]);
    wait::until("the transient unit is gone", || {
        (!place.page("root").contains("passing.service")).then_some(())
    });

    compare(&place);
}

/// node_exporter's page in the same host, scraped between two of ours that are alike.
fn compare(place: &Place) {
    let host = &place.host;
    let mut run = vec!["systemd-run", "--unit=twin", "prometheus-node-exporter"];
    run.push("--web.listen-address=127.0.0.1:9200");
    run.extend(FLAGS);
    host.run(&run);
    let fetch =
        "exec 3<>/dev/tcp/127.0.0.1/9200; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let fetch = || {
        let page = host.try_run(&["bash", "-ec", fetch]).ok()?;
        page.contains("node_systemd_unit_state").then_some(page)
    };
    wait::until("node_exporter answers", fetch);
    let (theirs, page) = wait::until("all three pages show the same host", || {
        let before = place.page("root");
        let theirs = fetch()?;
        let page = place.page("root");
        let same = series(&before).keys().eq(series(&page).keys());
        same.then_some((theirs, page))
    });
    // Newer than the one in Debian 13.
    let newer = "node_systemd_virtualization_info";
    let mut ours = series(&page);
    let info = ours.remove(&format!("{newer}{{virtualization_type=\"docker\"}}"));
    assert_eq!(info.as_deref(), Some("1"));
    let theirs_series = series(&theirs);
    let (mine, other): (BTreeSet<_>, BTreeSet<_>) =
        (ours.keys().collect(), theirs_series.keys().collect());
    let differing: Vec<_> = mine.symmetric_difference(&other).collect();
    assert!(differing.is_empty(), "{differing:#?}");
    let mut headers_of_ours = headers(&page);
    headers_of_ours.retain(|line| !line.contains(newer));
    assert_eq!(headers_of_ours, headers(&theirs));
    // Values, but for what the scrapes themselves change.
    let moving = ["tasks_current", "socket_accepted"];
    for (name, value) in &theirs_series {
        if !moving.iter().any(|part| name.contains(part)) {
            let (mine, other): (f64, f64) = (ours[name].parse().unwrap(), value.parse().unwrap());
            assert!((mine - other).abs() < 1e-3, "{name} {mine}, not {other}");
        }
    }
    for family in [
        "unit_state{",
        "units{",
        "system_running",
        "version{",
        "service_restart_total{",
        "unit_tasks_current{",
        "unit_tasks_max{",
        "unit_start_time_seconds{",
        "timer_last_trigger_seconds{name=\"ticked.timer\"",
        "socket_accepted_connections_total{",
        "socket_current_connections{",
        "socket_refused_connections_total{",
    ] {
        let prefix = format!("node_systemd_{family}");
        assert!(
            ours.keys().any(|name| name.starts_with(&prefix)),
            "{family}"
        );
    }
    assert!(ours.len() > 100, "only {} series", ours.len());
}

#[test]
fn a_bus_that_stops_hangs_or_restarts_costs_success_alone_and_comes_back() {
    let place = Place::boot(Plan::new().file("/etc/systemd/system/steady.service", SERVICE));
    let host = &place.host;
    host.run(&["systemctl", "start", "steady"]);
    let keys = "unit_include = \"(steady|gone)\\\\.service\"\n";
    place.start("root", keys);
    place.start("nobody", keys);
    let active = state("steady.service", "active", "simple", 1);
    let well = [success(1), active.clone()];
    let well = well.each_ref().map(String::as_str);
    for user in ["root", "nobody"] {
        let page = place.wait_page(user, &well);
        let units = page.matches("node_systemd_unit_state{").count();
        assert_eq!(units, 5, "only the chosen unit is shown:\n{page}");
    }
    let before = ["root", "nobody"].map(|user| place.sockets(user));

    // No bus, nobody to ask.
    host.run(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    for user in ["root", "nobody"] {
        let page = place.wait_page(user, &[&success(0)]);
        assert!(!page.contains("node_systemd_"), "{page}");
        assert!(page.contains("\nnode_load1 "), "{page}");
    }
    host.run(&["systemctl", "start", "dbus.socket", "dbus.service"]);
    place.wait_page("root", &well);
    place.wait_page("nobody", &well);

    host.run(&["systemctl", "restart", "dbus.service"]);
    place.wait_page("root", &well);
    place.wait_page("nobody", &well);

    // A bus that hangs: connections are taken, nothing is answered. Each page is on time.
    let pid = host.property("dbus", "MainPID");
    host.run(&["kill", "-STOP", &pid]);
    for _ in 0..3 {
        let page = place.page("nobody");
        assert!(page.lines().any(|line| line == success(0)), "{page}");
        assert!(page.contains("\nnode_load1 "), "{page}");
    }
    place.wait_page("root", &[&success(0)]);
    host.run(&["kill", "-CONT", &pid]);
    place.wait_page("root", &well);
    place.wait_page("nobody", &well);

    // Forty scrapes and all that trouble later: the same descriptors, told once per change.
    for _ in 0..20 {
        place.page("root");
        place.page("nobody");
    }
    // The host's own watch over the bus comes back by itself, half a minute later at most.
    wait::until("as many sockets are open as before", || {
        let after = ["root", "nobody"].map(|user| place.sockets(user));
        (before == after).then_some(())
    });
    let journal = host.journal(Some("agent-nobody"));
    let told = journal.matches("collector failed").count();
    assert!((1..=4).contains(&told), "{told} times:\n{journal}");
    assert!(journal.contains("collector works again"), "{journal}");
    for user in ["root", "nobody"] {
        let unit = format!("agent-{user}");
        assert_eq!(host.property(&unit, "NRestarts"), "0");
        host.run(&["systemctl", "stop", &unit]);
        assert_eq!(host.property(&unit, "Result"), "success");
    }
}

#[test]
fn a_reboot_keeps_the_disk_and_empties_run() {
    let place = Place::boot(Plan::new().file("/etc/systemd/system/steady.service", SERVICE));
    let host = &place.host;
    host.write("/var/kept", "x");
    host.write("/run/lost", "x");
    assert_eq!(host.property("steady", "ActiveState"), "inactive");
    host.reboot();
    host.run(&["test", "-e", "/var/kept"]);
    assert!(host.try_run(&["test", "-e", "/run/lost"]).is_err());
    assert!(host.try_run(&["touch", "/usr/x"]).is_err());
    place.start("root", "");
    place.wait_page("root", &[&success(1), "node_systemd_system_running 1"]);
    host.cut_power();
    host.start();
    host.run(&["test", "-e", "/var/kept"]);
}
