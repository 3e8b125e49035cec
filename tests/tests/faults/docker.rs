//! Docker itself: away, killed, hung.

use crate::place::{Stage, app, before, heartbeat, seconds, served, state, wait_other};
use tests::agent::free_port;
use tests::daemon::Daemon;
use tests::wait;

#[test]
fn while_docker_is_away_nothing_changes_and_back_it_changes_nothing() {
    let stage = Stage::new();
    let agent = stage.place.start(&served("away", free_port(), ""));
    let before = agent.wait_well("away");
    stage.proxy.hide();
    wait::until("Docker is gone", || {
        (agent.status()["docker"]["reachable"] == false).then_some(())
    });
    let now = agent.container("away");
    assert_eq!((&now["ready"], &now["pid"]), (&true.into(), &before["pid"]));
    assert_eq!(heartbeat(&stage.place), Some(200));
    stage.proxy.forget();
    stage.proxy.show();
    wait::until("Docker is back", || {
        (agent.status()["docker"]["reachable"] == true).then_some(())
    });
    wait::holds_for(seconds(2), "it is ready all along", || {
        let now = agent.container("away");
        now["ready"] == true && now["pid"] == before["pid"] && heartbeat(&stage.place) == Some(200)
    });
    assert_eq!(stage.proxy.mutations(), [""; 0]);
}

#[test]
fn what_is_ordered_while_docker_is_away_is_done_once_when_it_is_back() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("patient", ""));
    let before = agent.wait_well("patient");
    stage.proxy.hide();
    wait::until("Docker is gone", || {
        (agent.status()["docker"]["reachable"] == false).then_some(())
    });
    stage.order(&["restart", "patient"]);
    stage.proxy.forget();
    stage.proxy.show();
    wait_other(&agent, &before);
    wait::holds_for(seconds(2), "it runs on", || {
        state(&agent, "patient") == "running"
    });
    assert_eq!(stage.proxy.called("POST", "/containers/create").len(), 1);
}

#[test]
fn a_socket_that_is_absent_at_the_start_is_waited_for() {
    let stage = Stage::new();
    stage.proxy.hide();
    let agent = stage.place.start(&app("late", ""));
    wait::until("status says so", || {
        (agent.status()["docker"]["reachable"] == false).then_some(())
    });
    assert_eq!(state(&agent, "late"), "unknown");
    stage.proxy.show();
    agent.wait_well("late");
}

#[test]
fn with_live_restore_a_killed_docker_costs_no_container_anything() {
    let mut daemon = Daemon::start_with(&["app"], &["--live-restore"]);
    let (place, proxy) = before(&daemon);
    let agent = place.start(&(app("survivor", "") + &app("survivor-too", "")));
    let names = ["survivor", "survivor-too"];
    let all = names.map(|name| agent.wait_well(name));
    proxy.forget();
    daemon.crash_and_restart();
    wait::until("Docker is back", || {
        let calls = proxy.called("GET", "/version");
        (!calls.is_empty() && agent.status()["docker"]["reachable"] == true).then_some(())
    });
    wait::holds_for(seconds(3), "all are as they were", || {
        names.iter().zip(&all).all(|(name, before)| {
            let now = agent.container(name);
            now["pid"] == before["pid"] && now["restarts"] == 0 && now["state"] == "running"
        })
    });
    assert_eq!(proxy.mutations(), [""; 0]);
}

#[test]
fn without_live_restore_a_killed_docker_is_the_daemons_fault_and_no_rung() {
    let mut daemon = Daemon::start(&["app"]);
    let (place, _proxy) = before(&daemon);
    let agent = place.start(&app("victim", ""));
    let before = agent.wait_well("victim");
    daemon.crash_and_restart();
    let after = wait_other(&agent, &before);
    assert_eq!(after["last_exit"]["class"], "daemon", "{after}");
    assert_eq!(after["crash_loop"], false);
    let page = tests::http::get(place.metrics, "/metrics", &[])
        .unwrap()
        .text();
    let line = "agent_container_restarts_total{container=\"victim\",reason=\"daemon\"} 1";
    assert!(page.contains(line), "no {line}");
    // its next fall is its first: it waits on no rung
    daemon.kill_main("victim");
    wait_other(&agent, &after);
    let told = place.cli(&["events", "victim", "--json"]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.contains("\"running\"") && !told.contains("\"backoff\""),
        "{told}"
    );
}

#[test]
fn a_docker_that_hangs_freezes_its_containers_states_and_nothing_else() {
    let daemon = Daemon::start(&["app"]);
    let (place, proxy) = before(&daemon);
    let agent = place.start(&served("frozen", free_port(), ""));
    let before = agent.wait_well("frozen");
    daemon.freeze();
    proxy.forget();
    wait::until("status says so", || {
        (agent.status()["docker"]["reachable"] == false).then_some(())
    });
    let now = agent.container("frozen");
    assert_eq!(
        (&now["state"], &now["pid"], &now["ready"]),
        (&before["state"], &before["pid"], &true.into())
    );
    assert_eq!(heartbeat(&place), Some(200));
    assert_eq!(proxy.mutations(), [""; 0]);
    daemon.thaw();
    wait::until("Docker is back", || {
        (agent.status()["docker"]["reachable"] == true).then_some(())
    });
    wait::holds_for(seconds(1), "it is as it was", || {
        agent.container("frozen")["pid"] == before["pid"]
    });
    assert_eq!(proxy.mutations(), [""; 0]);
}
