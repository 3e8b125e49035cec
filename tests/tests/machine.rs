//! The agent as a citizen of a host with systemd: its unit, logind, update_engine, Docker's units.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tests::program::{command, stdout, target_directory, workspace};
use tests::systemd_host::{AGENT, Plan, SystemdHost};
use tests::{http, wait};

const RIGHTS: &str = "/opt/bin/rights";
const ENGINE: &str = "/opt/bin/update_engine";
/// Flatcar's, shortened: root owns the name and calls the methods.
const ENGINE_POLICY: &str = "\
<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN\"
 \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">
<busconfig><policy user=\"root\"><allow own=\"com.coreos.update1\"/>
<allow send_destination=\"com.coreos.update1\"/></policy></busconfig>
";
const CONFIG: &str = "\
[cloud]
imds = false
[heartbeat]
listen = [\"0.0.0.0:8081\"]
";
/// Drained for longer than logind waits by default.
const CONTAINERS: &str = "\
[containers.base]
image = \"agent-test/app:1\"
pull_policy = \"never\"
[containers.app]
image = \"agent-test/app:1\"
pull_policy = \"never\"
ports = [\"8080:8080\"]
depends_on = { base = \"started\" }
[containers.app.probes]
readiness = { http = \":8080/heartbeat\", period = \"1s\", timeout = \"1s\" }
[containers.app.drain]
deregister_wait = \"7s\"
";

/// A host with the agent's units in place, as packages put them, and not started.
fn plan() -> Plan {
    let mut plan = Plan::new()
        .bind(&format!("{}:{RIGHTS}:ro", env!("CARGO_BIN_EXE_rights")))
        .bind(&format!(
            "{}:{ENGINE}:ro",
            env!("CARGO_BIN_EXE_update_engine")
        ))
        .bind(&format!(
            "{}:/images:ro",
            target_directory().join("images").display()
        ))
        .file(
            "/etc/dbus-1/system.d/com.coreos.update1.conf",
            ENGINE_POLICY,
        )
        .file("/etc/sysusers.d/agent.conf", unit("agent.sysusers.conf"));
    for name in ["agent.service", "agent.socket", "agent-metrics.socket"] {
        plan = plan.file(&format!("/etc/systemd/system/{name}"), unit(name));
    }
    for name in drop_ins() {
        plan = plan.file(&format!("/etc/systemd/system/{name}"), unit(&name));
    }
    let logind = "logind.conf.d/10-agent.conf";
    plan.file(&format!("/etc/systemd/{logind}"), unit(logind))
}

fn unit(name: &str) -> String {
    fs::read_to_string(workspace().join("systemd").join(name)).unwrap()
}

fn drop_ins() -> Vec<String> {
    let folder = "agent.service.d";
    let entries = fs::read_dir(workspace().join("systemd").join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| format!("{folder}/{name}")).collect()
}

struct Machine {
    host: SystemdHost,
    booted: Instant,
}

impl Machine {
    /// Boots, and starts the agent with that config.
    fn start(config: &str) -> Machine {
        make_image();
        let host = plan().file("/etc/agent/agent.toml", config).boot();
        host.shell("systemd-sysusers; docker import -c 'ENTRYPOINT [\"/app\"]' /images/app.tar agent-test/app:1");
        let machine = Machine {
            host,
            booted: Instant::now(),
        };
        let units = "agent.socket agent-metrics.socket agent.service";
        machine
            .host
            .shell(&format!("systemctl enable --now {units}"));
        machine
    }

    fn address(&self, port: u16) -> SocketAddr {
        let form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let mut inspect = command("docker");
        inspect.args(["inspect", "-f", form, self.host.name()]);
        let ip = stdout(&mut inspect, "docker").unwrap();
        SocketAddr::new(ip.trim().parse().unwrap(), port)
    }

    fn status(&self) -> Option<Value> {
        let output = self.host.output(&[AGENT, "status", "--json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until the status document is so, and returns it.
    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let patience = Duration::from_secs(90);
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until_within(patience, what, || {
                last = self.status()?;
                holds(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|_| panic!("{what}: {last:#}"))
    }

    fn page(&self) -> String {
        http::get(self.address(9100), "/metrics", &[])
            .unwrap()
            .text()
    }

    fn has_line(&self, line: &str) -> bool {
        self.page().lines().any(|one| one == line)
    }

    /// The audit log, oldest first: container, from, to, reason.
    fn events(&self) -> Vec<[String; 4]> {
        let text = self.host.run(&["cat", "/var/lib/agent/events.jsonl"]);
        let parsed = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let word = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        parsed
            .map(|event| ["container", "from", "to", "reason"].map(|key| word(&event, key)))
            .collect()
    }
}

fn make_image() {
    let mut make = command(workspace().join("tests/images/make"));
    stdout(make.arg("app"), "see above").unwrap();
}

fn all_well(status: &Value) -> bool {
    let containers = status["containers"].as_array().unwrap();
    status["healthy"] == true && containers.iter().all(|one| one["well"] == true)
}

/// Each right, tried under the agent's own unit.
#[test]
fn the_unit_gives_the_rights_that_are_needed_and_no_others() {
    let machine = Machine::start(CONFIG);
    let host = &machine.host;
    host.shell(
        "# PID 1 does that on a machine, and credentials come by it.
         mount --make-rshared /
         mkdir -p /var/log/another /etc/credstore /home/inner /etc/systemd/system/rights.service.d
         echo secret >/etc/credstore/agent.word
         echo line >/var/log/another/private.log
         chown -R nobody /var/log/another; chmod 700 /var/log/another; chmod 600 /var/log/another/*
         systemd-run --unit=another --uid=nobody sleep infinity
         cd /etc/systemd/system; cp agent.service rights.service
         cp agent.service.d/20-restart-steps.conf rights.service.d/",
    );
    let pid = host.property("another", "MainPID");
    let report = "/var/lib/agent/rights";
    let other_program = format!(
        "[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nExecReload=\nExecStart=\n\
         ExecStart={RIGHTS} {report} {pid}\n"
    );
    host.write(
        "/etc/systemd/system/rights.service.d/90-probe.conf",
        &other_program,
    );
    host.shell("systemctl daemon-reload && systemctl start rights");
    let told = host.run(&["cat", report]);
    let told: BTreeMap<&str, &str> = told
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    let needed = [
        "docker",
        "bus",
        "state",
        "runtime",
        "listen",
        "send",
        "statfs-root",
        "statfs-home",
        "netlink-route",
        "netlink-sock-diag",
        "proc-io",
        "proc-smaps",
        "proc-net",
        "proc-fd",
        "proc-root-mounts",
        "proc-meminfo",
        "sys-net",
        "cgroups",
        "log-of-another",
        "credential",
        "random",
        "cpus",
        "kill-another",
        // No filter can see it: it comes with CAP_SYS_PTRACE, as the unit says.
        "proc-memory-of-root",
    ];
    let denied = [
        "not permitted",
        "Read-only",
        "No such file",
        "Permission denied",
        "not supported",
    ];
    let mut wrong = Vec::new();
    for (name, word) in &told {
        let as_wanted = match needed.contains(name) {
            true => *word == "ok",
            false => denied.iter().any(|reason| word.contains(reason)),
        };
        if !as_wanted {
            wrong.push(format!("{name}: {word}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(
        needed.iter().all(|name| told.contains_key(name)),
        "{told:?}"
    );
    assert!(told.len() >= needed.len() + 30, "{told:?}");

    // The real binary, under the real unit.
    machine.until("docker is reached", |status| {
        status["docker"]["reachable"] == true
    });
    let status = machine.until("held", |status| {
        status["host"]["shutdown_inhibited"] == true
    });
    assert_eq!(status["healthy"], true, "{status:#}");
    assert!(!status["host"]["systemd"].is_null(), "{status:#}");
    machine.page();
    // ProtectClock= is worth more than the clock's state, says the unit; a drop-in may say otherwise.
    let failed = |status: Option<Value>| status.unwrap()["metrics"]["collectors_failed"].clone();
    assert_eq!(failed(machine.status()), serde_json::json!(["timex"]));
    host.write(
        "/etc/systemd/system/agent.service.d/clock.conf",
        &unit("optional/clock.conf"),
    );
    host.shell("systemctl daemon-reload && systemctl restart agent");
    let page = machine.page();
    assert!(page.contains("\nnode_timex_sync_status "), "{page}");
    assert_eq!(failed(machine.status()), serde_json::json!([]));
    let shown = "node_filesystem_size_bytes{device=\"";
    assert!(page.contains(shown), "{page}");
    wait::until("systemctl status says so", || {
        let text = host.property("agent", "StatusText");
        (text == "healthy: 0 of 0 containers well").then_some(())
    });
    let journal = host.shell("journalctl -u agent -o cat --no-pager");
    let is_denial = |line: &&str| {
        let line = line.to_lowercase();
        (line.contains("not permitted") || line.contains("denied")) && !line.contains("adjtimex")
    };
    let denials: Vec<&str> = journal.lines().filter(is_denial).collect();
    assert_eq!(denials, Vec::<&str>::new());
}

#[test]
fn a_reboot_waits_for_the_containers_and_brings_them_back() {
    let machine = Machine::start(&format!("{CONFIG}{CONTAINERS}"));
    let host = &machine.host;
    machine.until("all is well", |status| {
        all_well(status) && status["host"]["shutdown_inhibited"] == true
    });
    println!("from boot to all well: {:?}", machine.booted.elapsed());
    let list = host.run(&[
        "busctl",
        "call",
        "org.freedesktop.login1",
        "/org/freedesktop/login1",
        "org.freedesktop.login1.Manager",
        "ListInhibitors",
    ]);
    assert!(list.contains("\"shutdown\" \"agent\""), "{list}");

    // A stop of the agent is no shutdown of the host, nor is its death.
    let pids = || host.shell("docker inspect -f '{{.State.Pid}}' app base");
    let before = pids();
    host.run(&["systemctl", "restart", "agent"]);
    machine.until("well again", |status| {
        all_well(status) && status["host"]["shutdown_inhibited"] == true
    });
    assert_eq!(pids(), before);

    let heartbeat = machine.address(8081);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| host.reboot());
        let draining = wait::until("the heartbeat says that the host drains", || {
            let reply = http::get(heartbeat, "/heartbeat", &[]).ok()?;
            (reply.status == 503).then(|| (reply.text(), began.elapsed()))
        });
        println!("heartbeat 503 after {:?}", draining.1);
        assert!(
            draining.0.contains("draining: it shuts down"),
            "{}",
            draining.0
        );
        // The app still serves what has begun.
        let app = http::get(machine.address(8080), "/heartbeat", &[]).unwrap();
        assert_eq!(app.status, 200);
        wait::until("systemctl status says so", || {
            let text = host.property("agent", "StatusText");
            let says = text.starts_with("draining, the host shuts down: ");
            says.then_some(())
        });
    });
    let again = Instant::now();
    machine.until("all is well after the boot", all_well);
    println!(
        "reboot {:?}, then all well after {:?}",
        again - began,
        again.elapsed()
    );
    let events = machine.events();
    let at = |name: &str, to: &str| {
        let found = events
            .iter()
            .position(|[container, _, phase, _]| container == name && phase == to);
        found.unwrap_or_else(|| panic!("{name} never was {to}: {events:#?}"))
    };
    assert!(
        events
            .iter()
            .any(|event| event[0] == "app" && event[3] == "the host shuts down")
    );
    // The one that depends on the other first.
    assert!(at("app", "stopped") < at("base", "stopping"), "{events:#?}");
    let journal = host.shell("journalctl -u agent -o cat --no-pager");
    assert!(journal.contains("the host may go down"), "{journal}");
}

#[test]
fn what_update_engine_says_and_a_reboot_that_is_needed_are_shown() {
    let machine = Machine::start(CONFIG);
    let host = &machine.host;
    let status = machine.until("the host is known", |status| {
        !status["host"]["systemd"].is_null()
    });
    assert!(status["host"]["update"].is_null(), "{status:#}");
    assert!(!machine.page().contains("agent_host_update"));
    assert!(machine.has_line("agent_host_reboot_required 0"));

    host.write("/run/operation", "DOWNLOADING");
    host.run(&[
        "systemd-run",
        "--unit=update-engine",
        ENGINE,
        "/run/operation",
    ]);
    let status = machine.until("an update is on its way", |status| {
        status["host"]["update"]["operation"] == "downloading"
    });
    assert_eq!(status["host"]["reboot_required"], false);
    host.write("/run/operation", "UPDATED_NEED_REBOOT");
    let status = machine.until("a reboot is needed", |status| {
        status["host"]["reboot_required"] == true
    });
    assert_eq!(
        status["host"]["reboot_reason"],
        "update 4593.2.0 is installed"
    );
    assert!(machine.has_line("agent_host_reboot_required 1"));
    assert!(machine.has_line("agent_host_update_status{operation=\"updated_need_reboot\"} 1"));
    assert!(machine.has_line("agent_host_update_status{operation=\"downloading\"} 0"));
    let text = host.output(&[AGENT, "status"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("  reboot: needed, update 4593.2.0 is installed"),
        "{text}"
    );

    host.run(&["systemctl", "stop", "update-engine"]);
    machine.until("it has gone", |status| status["host"]["update"].is_null());
    assert!(!machine.page().contains("agent_host_update"));

    // The bus goes and comes back: noticed, and everything is as before.
    host.shell(
        "systemctl kill -s KILL dbus; systemctl start dbus; systemctl restart systemd-logind",
    );
    machine.until("held again", |status| {
        status["host"]["bus"] == true && status["host"]["shutdown_inhibited"] == true
    });
    host.run(&[
        "systemd-run",
        "--unit=update-engine",
        ENGINE,
        "/run/operation",
    ]);
    machine.until("seen over the new bus", |status| {
        status["host"]["reboot_required"] == true
    });
    assert_eq!(host.property("agent", "NRestarts"), "0");
}

/// Kills the daemon whenever it is up, until systemd has given it up.
fn crash_docker(host: &SystemdHost) {
    wait::until_within(Duration::from_secs(90), "systemd gives docker up", || {
        let _ = host.try_run(&["systemctl", "kill", "-s", "KILL", "docker"]);
        let log = host.shell("journalctl -u docker -o cat --no-pager");
        log.contains("Start request repeated too quickly")
            .then_some(())
    });
}

#[test]
fn docker_that_systemd_has_given_up_is_revived_unless_the_config_says_no() {
    let machine = Machine::start(&format!("{CONFIG}{CONTAINERS}"));
    let host = &machine.host;
    machine.until("all is well", all_well);
    crash_docker(host);
    machine.until("all is well again", all_well);
    let page = machine.page();
    assert!(
        page.contains("agent_docker_revivals_total{result=\"started\",unit=\"docker.service\"}"),
        "{page}"
    );
    let events = machine.events();
    let revived = events.iter().find(|event| event[0] == "docker.service");
    let revived = revived.unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!((&revived[1][..], &revived[2][..]), ("failed", "starting"));
    assert!(
        revived[3].contains("reset and started, try "),
        "{revived:?}"
    );

    // What somebody has stopped stays so.
    host.run(&["systemctl", "stop", "docker.socket", "docker.service"]);
    machine.until("docker is away", |status| {
        status["docker"]["reachable"] == false
    });
    wait::holds_for(Duration::from_secs(15), "docker stays stopped", || {
        host.property("docker", "ActiveState") == "inactive"
    });

    // And nothing is done where the config says so.
    host.shell("systemctl start docker.socket docker.service; printf '[docker]\\nrevive = false\\n' >>/etc/agent/agent.toml; systemctl restart agent");
    machine.until("all is well with another config", all_well);
    host.shell("systemctl reset-failed docker; journalctl --rotate --vacuum-time=1s -q");
    crash_docker(host);
    wait::holds_for(Duration::from_secs(15), "docker stays down", || {
        host.property("docker", "ActiveState") == "failed"
    });
}

/// 257, as Flatcar has it; the machine's own may count otherwise.
#[test]
fn newer_systemd_scores_the_unit_as_well() {
    let host = plan().boot();
    let said = host.output(&[
        "systemd-analyze",
        "security",
        "--no-pager",
        "--offline=yes",
        "--threshold=23",
        "/etc/systemd/system/agent.service",
    ]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    println!("{}", text.lines().last().unwrap_or_default());
    assert!(said.status.success(), "{text}");
    let findings = host.output(&[
        "systemd-analyze",
        "verify",
        "/etc/systemd/system/agent.service",
    ]);
    assert!(findings.status.success());
    assert_eq!(String::from_utf8_lossy(&findings.stderr), "");
}

/// Only cgroups of version 1 can freeze a thread.
#[test]
fn a_loop_that_hangs_is_named_and_systemd_restarts_the_agent() {
    if !std::path::Path::new("/sys/fs/cgroup/freezer").is_dir() {
        println!("left out: this machine has no freezer of cgroup version 1");
        return;
    }
    let machine = Machine::start(CONFIG);
    let host = &machine.host;
    machine.until("the agent is up", |status| status["healthy"] == true);
    let pid = host.property("agent", "MainPID");
    let group = format!("/sys/fs/cgroup/freezer/{}", host.name());
    let freeze = format!(
        "mkdir {group}; cd /proc/{pid}/task; \
         echo $(grep -lx 'log writer' */comm | cut -d/ -f1) >{group}/tasks; \
         echo FROZEN >{group}/freezer.state"
    );
    host.shell(&freeze);
    let named = wait::until_within(Duration::from_secs(120), "the log writer is named", || {
        let text = host.property("agent", "StatusText");
        text.contains("no sign of life from log writer")
            .then_some(text)
    });
    assert!(named.starts_with("degraded: "), "{named}");
    let live = http::get(machine.address(8081), "/livez", &[]).unwrap();
    assert_eq!(live.status, 503, "{}", live.text());
    wait::until("systemd loses patience", || {
        let log = host.shell("journalctl -u agent -o cat --no-pager");
        let told = log.matches("no sign of life, the watchdog is not fed");
        assert!(told.count() <= 1, "{log}");
        log.contains("Watchdog timeout").then_some(())
    });
    host.shell(&format!("echo THAWED >{group}/freezer.state"));
    wait::until("another agent runs", || {
        let is_new = host.property("agent", "MainPID") != pid;
        let is_up = host.property("agent", "ActiveState") == "active";
        (is_new && is_up).then_some(())
    });
    machine.until("all is well", |status| status["healthy"] == true);
    host.shell(&format!("rmdir {group}"));
}
