//! The unit: its rights, its score, its watchdog.

use crate::{CONFIG, Machine, RIGHTS, plan, unit};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tests::{http, wait};

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
