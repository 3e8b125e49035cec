//! Paused containers are left alone.

use crate::place::{Stage, app, served, state, wait_other};
use std::time::{Duration, Instant};
use tests::agent::free_port;
use tests::{http, wait};

fn dies_alone(stage: &Stage, name: &str) {
    stage.daemon.kill_main(name);
    wait::until("it is dead", || {
        (stage.daemon.inspect(name, ".State.Running") == "false").then_some(())
    });
}

#[test]
fn a_pause_outlives_the_agent_and_ends_by_itself() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("lull", ""));
    let before = agent.wait_well("lull");
    let began = Instant::now();
    stage.order(&["pause", "lull", "--for", "8s"]);
    wait::until("the pause is written down", || {
        let memory = std::fs::read_to_string(stage.place.path("state/supervise.json")).ok()?;
        memory.contains("\"paused_until\":1").then_some(())
    });
    agent.kill();
    dies_alone(&stage, "lull");
    let mut agent = stage.place.spawn();
    agent.wait_ready();
    wait::until("it is known to be paused", || {
        (agent.container("lull")["paused"] == true).then_some(())
    });
    while began.elapsed() < Duration::from_secs(7) {
        assert_ne!(state(&agent, "lull"), "running");
        std::thread::sleep(Duration::from_millis(100));
    }
    let after = wait_other(&agent, &before);
    assert!(began.elapsed() >= Duration::from_millis(7900));
    assert_eq!(after["paused"], false);
}

#[test]
fn a_paused_container_that_dies_stays_dead_until_resume() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("hushed", ""));
    let before = agent.wait_well("hushed");
    stage.order(&["pause", "hushed"]);
    dies_alone(&stage, "hushed");
    wait::holds_for(Duration::from_secs(2), "it stays dead", || {
        stage.daemon.inspect("hushed", ".State.Running") == "false"
    });
    assert_eq!(agent.container("hushed")["paused"], true);
    stage.order(&["resume", "hushed"]);
    wait_other(&agent, &before);
}

#[test]
fn a_paused_container_is_neither_replaced_nor_restarted_by_a_probe() {
    let stage = Stage::new();
    let port = free_port();
    let probes = |env: &str| {
        served("mute", port, env)
            + &format!(
                "liveness = {{ http = \":{}/heartbeat\", period = \"300ms\", timeout = \"1s\", failures = 2 }}\n",
                port.port()
            )
    };
    let agent = stage.place.start(&probes(""));
    let before = agent.wait_well("mute");
    stage.order(&["pause", "--all"]);
    assert_eq!(http::get(port, "/fail", &[]).unwrap().status, 200);
    stage
        .place
        .write(&probes("environment = { MODE = \"two\" }"));
    stage.order(&["reload"]);
    stage.proxy.forget();
    wait::until("it is seen to be unready", || {
        (agent.container("mute")["ready"] == false).then_some(())
    });
    wait::holds_for(Duration::from_secs(2), "it is left alone", || {
        agent.container("mute")["pid"] == before["pid"]
    });
    assert_eq!(stage.proxy.mutations(), [""; 0]);
    stage.order(&["resume", "--all"]);
    wait_other(&agent, &before);
}
