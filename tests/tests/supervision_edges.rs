//! Supervision where it is awkward: short lives, borrowed names, other agents, lost dependencies.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::sync::Mutex;
use std::time::Duration;
use tests::agent::{Agent, Place};
use tests::daemon::Daemon;
use tests::wait;

/// Daemons cost much: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn place_on(daemon: &Daemon) -> Place {
    let mut place = Place::new();
    place.docker_socket = daemon.socket();
    place
}

fn app(name: &str, extra: &str) -> String {
    format!(
        "[containers.\"{name}\"]\nimage = \"agent-test/app:1\"\nentrypoint = [\"/app\"]\n\
         stop_grace_period = \"5s\"\n{extra}\n"
    )
}

fn names(daemon: &Daemon) -> Vec<String> {
    let all = daemon.docker(&["ps", "-a", "--format", "{{.Names}}"]);
    let mut names: Vec<String> = all.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn restarts(agent: &Agent<'_>, name: &str) -> u64 {
    agent.container(name)["restarts"].as_u64().unwrap()
}

#[test]
fn what_exits_at_once_leaves_one_dead_generation_and_not_one_per_exit() {
    let _turn = turn();
    let daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    // Its port is the agent's own already.
    let port = place.metrics.port();
    let taken = format!("network_mode = \"host\"\ncommand = [\"{port}\"]");
    let agent = place.start(&app("brief", &taken));
    wait::until("it has ended five times", || {
        (restarts(&agent, "brief") >= 5).then_some(())
    });
    wait::until("at most one dead generation is left", || {
        let names = names(&daemon);
        (names.len() <= 2).then_some(names)
    });
    assert!(restarts(&agent, "brief") <= 7, "the ladder was not climbed");
}

#[test]
fn a_container_may_have_the_name_of_anothers_dead_generation() {
    let _turn = turn();
    let daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    let agent = place.start(&app("app", ""));
    let before = agent.wait_well("app");
    daemon.kill_main("app");
    wait::until("app is back and its dead generation is kept", || {
        let back = agent.container("app")["pid"] != before["pid"];
        (back && names(&daemon) == ["app", "app.prev"]).then_some(())
    });
    place.write(&(app("app", "") + &app("app.prev", "")));
    assert_eq!(place.cli(&["reload"]).status.code(), Some(0));
    agent.wait_well("app.prev");
    let label = "index .Config.Labels \"agent.container\"";
    assert_eq!(daemon.inspect("app.prev", label), "app.prev");
    assert_eq!(restarts(&agent, "app"), 1, "it was not left alone");
}

#[test]
fn dependencies_are_waited_for_again_after_docker_took_all_containers_down() {
    let _turn = turn();
    let mut daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    // Names against the order of starts: what has no order is begun by name.
    let config = app("aa", "depends_on = { bb = \"started\" }")
        + &app("bb", "depends_on = { cc = \"started\" }")
        + &app("cc", "");
    let agent = place.start(&config);
    for name in ["aa", "bb", "cc"] {
        agent.wait_well(name);
    }
    let pids = |agent: &Agent<'_>| -> Vec<Value> {
        ["aa", "bb", "cc"]
            .map(|name| agent.container(name)["pid"].clone())
            .into()
    };
    let before = pids(&agent);
    daemon.crash_and_restart();
    wait::until("all are back", || {
        let now = pids(&agent);
        let fresh = now
            .iter()
            .zip(&before)
            .all(|(now, before)| now != before && now.is_i64());
        fresh.then_some(())
    });
    let created = |name: &str| daemon.inspect(name, ".Created");
    let started = |name: &str| daemon.inspect(name, ".State.StartedAt");
    for (later, earlier) in [("aa", "bb"), ("bb", "cc")] {
        assert!(
            created(later) > started(earlier),
            "{later}, made {}, did not wait for {earlier}, started {}",
            created(later),
            started(earlier)
        );
    }
}

#[test]
fn the_stop_signal_of_the_image_is_the_one_that_is_sent() {
    let _turn = turn();
    let daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    daemon.docker(&[
        "create",
        "--stop-signal",
        "INT",
        "--name",
        "seed",
        "agent-test/app:1",
        "/app",
    ]);
    daemon.docker(&["commit", "seed", "agent-test/int:1"]);
    daemon.docker(&["rm", "seed"]);
    let agent = place.start(&app("app", "").replace("agent-test/app:1", "agent-test/int:1"));
    agent.wait_well("app");
    let since = daemon.docker(&["info", "-f", "{{.SystemTime}}"]);
    assert_eq!(place.cli(&["stop", "app"]).status.code(), Some(0));
    let until = daemon.docker(&["info", "-f", "{{.SystemTime}}"]);
    let killed = [
        "--filter",
        "event=kill",
        "--format",
        "{{.Actor.Attributes.signal}}",
    ];
    let events = [
        &["events", "--since", &since, "--until", &until][..],
        &killed,
    ]
    .concat();
    assert_eq!(daemon.docker(&events), "2", "not SIGINT");
}

#[test]
fn another_agent_leaves_alone_what_it_has_never_managed() {
    let _turn = turn();
    let daemon = Daemon::start(&["app"]);
    let (first, second) = (place_on(&daemon), place_on(&daemon));
    let agent = first.start(&(app("app", "") + &app("old", "")));
    let before = agent.wait_well("app");
    agent.wait_well("old");
    let stranger = second.start("");
    wait::until("the other one has seen Docker", || {
        (stranger.status()["docker"]["reachable"] == true).then_some(())
    });
    wait::holds_for(Duration::from_secs(3), "the app is left alone", || {
        agent.container("app")["pid"] == before["pid"]
    });
    assert!(stranger.stop().success());
    // What it did manage, and what has left the config meanwhile, goes.
    agent.kill();
    let agent = first.start(&app("app", ""));
    wait::until("old is gone", || {
        names(&daemon)
            .iter()
            .all(|name| name != "old")
            .then_some(())
    });
    assert_eq!(agent.container("app")["pid"], before["pid"]);
}

#[test]
fn docker_killed_in_the_middle_of_launches_leaves_none_lost_and_none_doubled() {
    let _turn = turn();
    let mut daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    let all = ["one", "three", "two"];
    let config = all.map(|name| app(name, "")).concat();
    let agent = place.start(&config);
    for pause in [40, 120, 250] {
        for name in all {
            agent.wait_well(name);
        }
        for name in all {
            assert_eq!(place.cli(&["restart", name]).status.code(), Some(0));
        }
        std::thread::sleep(Duration::from_millis(pause));
        daemon.crash_and_restart();
        wait::until("each runs once and at most one dead of it is kept", || {
            let running = daemon.docker(&["ps", "--format", "{{.Names}}"]);
            let mut running: Vec<&str> = running.lines().collect();
            running.sort_unstable();
            let is_tidy = names(&daemon).len() <= 2 * all.len();
            (running == all && is_tidy).then_some(())
        });
    }
}

#[test]
fn restarts_ordered_while_one_is_under_way_do_not_stop_what_it_starts() {
    let _turn = turn();
    let daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    // Deaf to its stop signal, so that the orders fall into the stop.
    let slow = "stop_signal = \"SIGUSR1\"\nstop_grace_period = \"2s\"";
    let agent = place.start(&app("app", "").replace("stop_grace_period = \"5s\"", slow));
    agent.wait_well("app");
    let before = daemon.inspect("app", ".Id");
    for _ in 0..3 {
        assert_eq!(place.cli(&["restart", "app"]).status.code(), Some(0));
    }
    let after = wait::until("app has been restarted", || {
        let now = agent.container("app");
        (now["well"] == true && now["id"] != before.as_str()).then(|| now["id"].clone())
    });
    wait::holds_for(Duration::from_secs(4), "the new one is left alone", || {
        agent.container("app")["id"] == after
    });
    let prev = daemon.inspect("app.prev", ".Id");
    assert_eq!(prev, before, "there was one between");
}
