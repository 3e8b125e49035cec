//! Agents that die, are stopped or replaced: containers never notice.

use crate::place::{Stage, app, brief, heartbeat, restarts, served, wait_other, wait_state};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use tests::agent::{Agent, free_port};
use tests::wait;

/// Starts the agent again and has its heartbeat and its status watched until it has looked.
fn succeed<'a>(stage: &'a Stage, name: &str) -> (Agent<'a>, Vec<u16>) {
    stage.proxy.forget();
    let seen = std::sync::Mutex::new(Vec::new());
    let over = AtomicBool::new(false);
    let agent = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let status = heartbeat(&stage.place);
                seen.lock().unwrap().extend(status);
            }
        });
        let mut agent = stage.place.spawn();
        agent.wait_ready();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
        let mut looked = false;
        while !looked || std::time::Instant::now() < end {
            let now = agent.container(name);
            looked |= now["state"] == "running";
            assert!(
                !looked || now["ready"] == true,
                "not ready in between: {now}"
            );
        }
        over.store(true, Ordering::Relaxed);
        agent
    });
    (agent, seen.into_inner().unwrap())
}

#[test]
fn after_kill_9_the_next_agent_changes_nothing_and_says_ready_from_its_first_look() {
    let stage = Stage::new();
    let config = served("kept", free_port(), "") + &app("kept-too", "");
    let agent = stage.place.start(&config);
    let before = [agent.wait_well("kept"), agent.wait_well("kept-too")];
    // What is known reaches the memory file with the report of it.
    wait::until("readiness is written down", || {
        let memory = std::fs::read_to_string(stage.place.path("state/supervise.json")).ok()?;
        memory.contains("\"ready\":true").then_some(())
    });
    agent.kill();
    let (agent, beats) = succeed(&stage, "kept");
    for before in &before {
        let after = agent.wait_well(before["name"].as_str().unwrap());
        assert_eq!(
            (&after["pid"], &after["id"]),
            (&before["pid"], &before["id"])
        );
        assert_eq!(after["restarts"], 0);
    }
    assert_eq!(stage.proxy.mutations(), [""; 0]);
    assert!(beats.contains(&200), "{beats:?}");
    let unready = beats.iter().filter(|status| **status != 200).count();
    assert_eq!(unready, 0, "heartbeats between: {beats:?}");
}

#[test]
fn an_upgrade_by_stop_and_start_changes_nothing() {
    let stage = Stage::new();
    let agent = stage.place.start(&served("upgraded", free_port(), ""));
    let before = agent.wait_well("upgraded");
    assert!(agent.stop().success());
    stage.proxy.forget();
    let (agent, beats) = succeed(&stage, "upgraded");
    assert_eq!(agent.wait_well("upgraded")["pid"], before["pid"]);
    assert_eq!(stage.proxy.mutations(), [""; 0]);
    let unready = beats.iter().filter(|status| **status != 200).count();
    assert_eq!(unready, 0, "heartbeats between: {beats:?}");
}

#[test]
fn the_climb_and_the_counters_go_on_in_the_next_agent() {
    let stage = Stage::new();
    let agent = stage.place.start(&brief("climber", 0, 3));
    wait::until("it waits for the fourth start", || {
        let now = agent.container("climber");
        (now["restarts"] == 4 && now["state"] == "backoff").then_some(())
    });
    wait::until("that is written down", || {
        let memory = std::fs::read_to_string(stage.place.path("state/supervise.json")).ok()?;
        memory.contains("\"restarts\":4").then_some(())
    });
    agent.kill();
    stage.proxy.forget();
    let mut agent = stage.place.spawn();
    agent.wait_ready();
    let now = wait_state(&agent, "climber", "backoff");
    assert_eq!(now["restarts"], 4, "{now}");
    assert_eq!(now["last_exit"]["code"], 3, "{now}");
    assert!(stage.proxy.mutations().is_empty(), "the ladder began anew");
    wait::until("it goes on", || {
        (restarts(&agent, "climber") == 5).then_some(())
    });
}

#[test]
fn what_dies_while_no_agent_lives_is_started_by_the_next_one_and_counts_once() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("bereft", ""));
    let before = agent.wait_well("bereft");
    agent.kill();
    stage.daemon.kill_main("bereft");
    wait::until("it is dead", || {
        (stage.daemon.inspect("bereft", ".State.Running") == "false").then_some(())
    });
    let mut agent = stage.place.spawn();
    agent.wait_ready();
    let after = wait_other(&agent, &before);
    assert_eq!(after["restarts"], 1, "{after}");
    assert_eq!(after["last_exit"]["code"], 137, "{after}");
}

#[test]
fn a_stop_that_was_ordered_lasts_over_the_next_agent_until_start() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("resting", ""));
    agent.wait_well("resting");
    stage.order(&["stop", "resting"]);
    wait_state(&agent, "resting", "stopped");
    agent.signal(Signal::TERM);
    drop(agent);
    stage.proxy.forget();
    let mut agent = stage.place.spawn();
    agent.wait_ready();
    wait_state(&agent, "resting", "stopped");
    assert_eq!(stage.proxy.mutations(), [""; 0]);
    stage.order(&["start", "resting"]);
    agent.wait_well("resting");
}
