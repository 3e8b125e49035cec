//! The proxy itself: what it does not fault it does not change.

use crate::place::{Stage, app, wait_state};
use std::time::{Duration, Instant};
use tests::program::command;
use tests::proxy::Fault;

#[test]
fn the_proxy_passes_what_no_rule_matches_hijacked_connections_included() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("proxied", ""));
    agent.wait_well("proxied");
    let host = format!("unix://{}", stage.place.docker_socket.display());
    let docker = |words: &[&str]| {
        let mut run = command("docker");
        let output = run.args(words).env("DOCKER_HOST", &host).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    // an exec whose 100 MB come through a connection that has left HTTP
    let (code, text) = docker(&["exec", "proxied", "/app", "check", "flood"]);
    assert_eq!(code, Some(1));
    assert_eq!(text.len(), 100_000 * 1000 + "the end of the flood\n".len());
    // chunked bodies up and down
    let (code, text) = docker(&["cp", "proxied:/app", "-"]);
    assert_eq!(code, Some(0));
    assert!(text.len() > 100_000);
    let (_, log) = docker(&["logs", "proxied"]);
    assert!(log.contains("listening"), "{log}");

    let began = Instant::now();
    let slow = Duration::from_millis(700);
    stage
        .proxy
        .fault("GET", "/containers/proxied/json", 1, Fault::Delay(slow));
    assert_eq!(docker(&["inspect", "proxied"]).0, Some(0));
    assert!(began.elapsed() >= slow);
    // Docker's own client asks once more where a connection ends.
    stage
        .proxy
        .fault("GET", "/containers/proxied/json", 9, Fault::CutBefore);
    assert_ne!(docker(&["inspect", "proxied"]).0, Some(0));
    stage.proxy.heal();
    assert_eq!(docker(&["inspect", "proxied"]).0, Some(0));
    wait_state(&agent, "proxied", "running");
}
