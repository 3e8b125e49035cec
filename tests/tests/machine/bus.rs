//! logind's shutdown and update_engine's status, over the system bus.

use crate::{CONFIG, CONTAINERS, ENGINE, Machine, all_well, plan};
use std::time::Instant;
use tests::systemd_host::{AGENT, Cgroups};
use tests::{http, wait};

#[test]
fn a_reboot_waits_for_the_containers_and_brings_them_back() {
    // As on Flatcar.
    let plan = plan().cgroups(Cgroups::V2);
    let machine = Machine::boot(plan, &format!("{CONFIG}{CONTAINERS}"));
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
    let update = serde_json::json!({
        "operation": "downloading",
        "progress": 0.25,
        "new_version": "4593.2.0",
        "last_checked": "2026-09-21T14:13:20Z",
    });
    assert_eq!(status["host"]["update"], update);
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
