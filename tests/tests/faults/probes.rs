//! Probes that restart.

use crate::place::{Stage, app, heartbeat, seconds, wait_other};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tests::agent::free_port;
use tests::{http, wait};

fn probed(name: &str, port: u16, probes: &str) -> String {
    app(name, &format!("ports = [\"{port}:8080\"]"))
        + &format!("[containers.\"{name}\".probes]\n{probes}\n")
}

#[test]
fn a_container_that_fails_its_liveness_probe_is_restarted_and_says_why() {
    let stage = Stage::new();
    let port = free_port();
    let liveness = format!(
        "liveness = {{ http = \":{}/heartbeat\", period = \"300ms\", timeout = \"1s\", failures = 3 }}",
        port.port()
    );
    let agent = stage
        .place
        .start(&probed("lifeless", port.port(), &liveness));
    let before = agent.wait_well("lifeless");
    wait::until("it serves", || http::get(port, "/fail", &[]).ok());
    let after = wait_other(&agent, &before);
    assert_eq!(after["restarts"], 1, "{after}");
    let series = "agent_container_restarts_total{container=\"lifeless\",reason=\"liveness\"}";
    assert_eq!(stage.metric(series).as_deref(), Some("1"));
    let series = "agent_container_probe_failures_total{container=\"lifeless\",probe=\"liveness\"}";
    let bad: u32 = stage.metric(series).unwrap().parse().unwrap();
    assert!((3..=5).contains(&bad), "{bad}");
    let series = "agent_container_start_time_seconds{container=\"lifeless\"}";
    let started: f64 = stage.metric(series).unwrap().parse().unwrap();
    let age = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
        - started;
    assert!((0.0..120.0).contains(&age), "{age}");
    // the fresh one answers 200 and is left alone
    wait::holds_for(seconds(2), "it is left alone", || {
        agent.container("lifeless")["pid"] == after["pid"]
    });
}

#[test]
fn a_container_that_never_starts_up_is_restarted_after_its_allowance_and_climbs() {
    let stage = Stage::new();
    let port = free_port();
    let startup = format!(
        "startup = {{ http = \":{}/nowhere\", period = \"300ms\", timeout = \"1s\", failures = 5 }}",
        port.port()
    );
    let began = Instant::now();
    let agent = stage
        .place
        .start(&probed("sluggish", port.port(), &startup));
    wait::until("it is given up", || {
        (agent.container("sluggish")["restarts"] == 1).then_some(())
    });
    assert!(began.elapsed() >= seconds(1), "{:?}", began.elapsed());
    assert_eq!(agent.container("sluggish")["ready"], false);
    wait::until("it is given up again", || {
        (agent.container("sluggish")["restarts"] == 2).then_some(())
    });
    let series = "agent_container_restarts_total{container=\"sluggish\",reason=\"startup\"}";
    assert_eq!(stage.metric(series).as_deref(), Some("2"));
}

#[test]
fn until_it_has_started_up_a_container_is_not_ready_and_its_liveness_not_asked() {
    let stage = Stage::new();
    let port = free_port();
    let number = port.port();
    let probes = format!(
        "startup = {{ http = \":{number}/heartbeat\", period = \"300ms\", timeout = \"1s\", failures = 100 }}\n\
         liveness = {{ http = \":{number}/nowhere\", period = \"300ms\", timeout = \"1s\", failures = 2 }}"
    );
    let config = probed("unborn", number, &probes);
    // Not told to listen on the port that is asked.
    let config = config.replace(
        "[containers.\"unborn\".probes]",
        "command = [\"9999\"]\n[containers.\"unborn\".probes]",
    );
    let agent = stage.place.start(&config);
    wait::until("it runs", || {
        (agent.container("unborn")["state"] == "running").then_some(())
    });
    wait::holds_for(seconds(2), "it is not restarted", || {
        let now = agent.container("unborn");
        now["restarts"] == 0 && now["ready"] == false && heartbeat(&stage.place) == Some(503)
    });
}
