//! Kills, reloads, restarts, stops and a reboot; containers are touched by the last alone.

use crate::place::{CONFIG, Host, METRICS, Scenario};
use std::time::{Duration, Instant};
use tests::wait;

pub const SCENARIOS: &[Scenario] = &[
    (
        "an_agent_that_hangs_is_killed_by_the_watchdog_and_comes_back",
        hung,
    ),
    ("a_killed_agent_comes_back_and_adopts", killed),
    ("a_reload_applies_what_changed_and_nothing_else", reload),
    (
        "a_faulty_config_is_refused_with_its_reason_and_nothing_changes",
        faulty_reload,
    ),
    ("no_connection_is_refused_while_the_agent_restarts", restart),
    ("a_stop_leaves_the_containers_running", stop),
    ("the_next_scrape_starts_a_stopped_agent", next_scrape),
    (
        "a_reboot_waits_for_the_containers_and_brings_all_of_it_back",
        reboot,
    ),
];

const FILE: &str = "/etc/agent/agent.toml";
const SPAN: Duration = Duration::from_secs(2);

/// Another agent takes over, by systemd's hand, the containers as they are.
#[track_caller]
fn comes_back(host: &Host, before: &str, mains: &[String]) {
    host.wait_other_agent(before);
    host.wait_well();
    assert_eq!(host.pids(), mains);
}

fn hung(host: &Host) {
    let (mains, agent) = (host.pids(), host.agent_pid());
    host.run(&["kill", "-STOP", &agent]);
    comes_back(host, &agent, &mains);
    host.wait_journal("agent.service: Watchdog timeout");
    assert_eq!(host.property("agent", "NRestarts"), "1");
}

fn killed(host: &Host) {
    let (mains, agent) = (host.pids(), host.agent_pid());
    host.run(&["kill", "-KILL", &agent]);
    let began = Instant::now();
    comes_back(host, &agent, &mains);
    eprintln!(
        "  killed until all well: {:.2} s",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(host.property("agent", "NRestarts"), "2");
}

fn reload(host: &Host) {
    let (mains, agent) = (host.pids(), host.agent_pid());
    host.write(FILE, &CONFIG.replace("hello", "goodbye"));
    host.run(&["systemctl", "reload", "agent"]);
    wait::until("the app has its new environment", || {
        let shown = host.try_run(&["docker", "inspect", "-f", "{{.Config.Env}}", "app"]);
        shown.ok()?.contains("GREETING=goodbye").then_some(())
    });
    host.wait_others(&mains, |at| at == 1);
    assert_eq!(host.agent_pid(), agent);
    assert_eq!(host.property("agent", "ActiveState"), "active");
}

fn faulty_reload(host: &Host) {
    let (mains, agent) = (host.pids(), host.agent_pid());
    host.write(FILE, &format!("{CONFIG}\n[containers.app.probe]\n"));
    // The type notify-reload hears only that a reload is over; by ExecReload= it hears how it went.
    host.output(&["systemctl", "reload", "agent"]);
    let asked = host.output(&["/opt/bin/agent", "reload"]);
    assert_eq!(asked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&[asked.stdout, asked.stderr].concat()).into_owned();
    assert!(said.contains("containers.app.probe"), "{said}");
    host.wait_journal("reload refused, the settings before it run on");
    let error = host.status()["config"]["error"].to_string();
    assert!(error.contains("containers.app.probe"), "{error}");
    host.assert_same(&mains, SPAN);
    assert_eq!(host.agent_pid(), agent);

    host.write(FILE, &CONFIG.replace("hello", "goodbye"));
    host.run(&["systemctl", "reload", "agent"]);
    wait::until("the refusal is over", || {
        host.status()["config"]["error"].is_null().then_some(())
    });
    assert_eq!(host.pids(), mains);
}

/// Connects to both listeners in turn, until told otherwise; prints how often, and what was refused.
const KNOCK: &str = r#"
rm -f /run/knock.*
(
    n=0
    until [ -e /run/knock.end ]; do
        for port in 9100 24224; do
            { : <>/dev/tcp/127.0.0.1/$port; } 2>>/run/knock.refused
            n=$((n + 1))
        done
        echo $n >/run/knock.count
    done
    mv /run/knock.count /run/knock.done
) >/dev/null 2>&1 </dev/null &
"#;

/// Runs `act` while somebody knocks at both listeners; none is turned away.
pub fn nobody_is_refused(host: &Host, act: impl FnOnce()) {
    host.shell(KNOCK);
    let knocks = || -> u32 {
        let count = host.try_run(&["cat", "/run/knock.count"]);
        count
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    };
    wait::until("somebody knocks", || (knocks() > 10).then_some(()));
    let before = knocks();
    act();
    let after = wait::until("somebody still knocks", || {
        Some(knocks()).filter(|now| *now > before + 10)
    });
    host.shell("touch /run/knock.end");
    let count = wait::until("nobody knocks any more", || {
        host.try_run(&["cat", "/run/knock.done"]).ok()
    });
    assert_eq!(host.run(&["cat", "/run/knock.refused"]), "");
    eprintln!(
        "  {} connections, {} while it went on",
        count.trim(),
        after - before
    );
}

fn restart(host: &Host) {
    let (mains, agent) = (host.pids(), host.agent_pid());
    nobody_is_refused(host, || {
        let began = Instant::now();
        host.run(&["systemctl", "restart", "agent"]);
        assert_ne!(host.agent_pid(), agent);
        host.wait_well();
        eprintln!(
            "  restart until all well: {:.2} s",
            began.elapsed().as_secs_f64()
        );
        host.log(1001);
    });
    assert_eq!(host.pids(), mains);
    host.wait_journal("\"id\":1001");
}

fn stop(host: &Host) {
    let mains = host.pids();
    host.run(&["systemctl", "stop", "agent.service"]);
    assert_eq!(host.property("agent", "Result"), "success");
    host.assert_same(&mains, SPAN);
    assert_eq!(host.property("agent", "ActiveState"), "inactive");
    assert!(host.agent_journal().contains("stopped"));
}

fn next_scrape(host: &Host) {
    let mains = host.pids();
    let page = host.get(METRICS, "/metrics").unwrap();
    assert_eq!(page.status, 200);
    host.wait_state("agent.service", "active");
    host.wait_well();
    assert_eq!(host.pids(), mains);
}

fn reboot(host: &Host) {
    let mains = host.pids();
    host.log(2001);
    wait::until("the agent may hold a shutdown back", || {
        (host.status()["host"]["shutdown_inhibited"] == true).then_some(())
    });
    host.reboot();
    let began = Instant::now();
    host.wait_well();
    let waited = began.elapsed().as_secs_f64();
    assert_eq!(host.property("docker.service", "UnitFileState"), "disabled");
    host.wait_journal("the host may go down");
    let now = host.pids();
    assert!(now.iter().all(|main| !mains.contains(main)), "{now:?}");
    assert_eq!(host.property("agent", "NRestarts"), "0");
    let since = |unit: &str, property: &str| -> f64 {
        let at: u64 = host.property(unit, property).parse().unwrap();
        at as f64 / 1e6
    };
    let shown = host.run(&[
        "systemctl",
        "show",
        "--value",
        "-p",
        "UserspaceTimestampMonotonic",
    ]);
    let boot = shown.trim().parse::<u64>().unwrap() as f64 / 1e6;
    let ready = since("agent", "ActiveEnterTimestampMonotonic") - boot;
    let docker = since("docker", "ActiveEnterTimestampMonotonic") - boot;
    eprintln!(
        "  agent ready after {ready:.2} s, Docker after {docker:.2} s, all well {waited:.2} s after the boot was over"
    );
    host.log(2002);
    host.wait_journal("\"id\":2002");
}
