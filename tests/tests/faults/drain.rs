//! The way down: out of service, connections, signal, grace, kill.

use crate::place::{Stage, app, heartbeat, seconds, served, wait_state};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tests::agent::free_port;
use tests::wait;

/// Deaf to its stop signal.
const DEAF: &str = "stop_signal = \"SIGUSR1\"\nstop_grace_period = \"1s\"";

fn draining(
    name: &str,
    port: SocketAddr,
    deregister: &str,
    connections: &str,
    extra: &str,
) -> String {
    served(name, port, extra)
        + &format!(
            "[containers.\"{name}\".drain]\nderegister_wait = \"{deregister}\"\nconnections = \"{connections}\"\n"
        )
}

#[test]
fn each_step_of_a_drain_is_taken_in_order_and_shown() {
    let stage = Stage::new();
    let port = free_port();
    let agent = stage
        .place
        .start(&draining("stepwise", port, "1s", "30s", DEAF));
    agent.wait_well("stepwise");
    assert_eq!(heartbeat(&stage.place), Some(200));
    let open = TcpStream::connect(port).unwrap();
    let shown = std::thread::scope(|scope| {
        let drain = scope.spawn(|| stage.place.cli(&["drain"]));
        let mut open = Some(open);
        let mut closed_at = None;
        let mut shown: Vec<(String, String)> = Vec::new();
        wait::until("it is stopped", || {
            let now = agent.container("stepwise");
            let word = |key: &str| now[key].as_str().unwrap_or_default().to_owned();
            let line = (word("state"), word("message"));
            if line.0 == "draining" {
                assert_eq!(heartbeat(&stage.place), Some(503));
                assert_eq!(stage.daemon.inspect("stepwise", ".State.Running"), "true");
            }
            if line.1.contains("1 connections open") && closed_at.is_none() {
                open.take();
                closed_at = Some(Instant::now());
            }
            if shown.last() != Some(&line) {
                shown.push(line.clone());
            }
            (line.0 == "stopped").then_some(())
        });
        assert_eq!(drain.join().unwrap().status.code(), Some(0));
        // 3 s of quiet, then 1 s of grace.
        let took = closed_at.map(|at| at.elapsed());
        assert!(
            took.is_some_and(|took| took >= seconds(4)),
            "{took:?}: {shown:?}"
        );
        shown
    });
    let steps = [
        ("draining", "no work is sent to it"),
        ("draining", "1 connections open"),
        ("draining", "0 connections open"),
        ("stopping", "signalled"),
        ("stopping", "killed"),
        ("stopped", ""),
    ];
    let mut rest = shown.iter();
    for (state, message) in steps {
        // The kill is over too quickly to be seen for sure.
        if message == "killed" {
            continue;
        }
        let found = rest.any(|line| line.0 == state && line.1.contains(message));
        assert!(found, "no {state} {message} in {shown:?}");
    }
    assert_eq!(stage.daemon.inspect("stepwise", ".State.ExitCode"), "137");
    let signals: Vec<String> = stage
        .proxy
        .called("POST", "/kill")
        .iter()
        .map(|call| call.path.clone())
        .collect();
    assert_eq!(signals.len(), 2, "{signals:?}");
    assert!(
        signals[0].ends_with("SIGUSR1") && signals[1].ends_with("SIGKILL"),
        "{signals:?}"
    );
}

#[test]
fn connections_that_stay_open_are_waited_for_no_longer_than_allowed() {
    let stage = Stage::new();
    let port = free_port();
    let agent = stage.place.start(&draining("clingy", port, "0s", "2s", ""));
    agent.wait_well("clingy");
    let _open = TcpStream::connect(port).unwrap();
    let began = Instant::now();
    stage.order(&["stop", "clingy"]);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(1900) && took < seconds(6),
        "{took:?}"
    );
    wait_state(&agent, "clingy", "stopped");
}

#[test]
fn stop_now_waits_for_no_connection() {
    let stage = Stage::new();
    let port = free_port();
    let agent = stage
        .place
        .start(&draining("hurried", port, "0s", "60s", ""));
    agent.wait_well("hurried");
    let _open = TcpStream::connect(port).unwrap();
    let began = Instant::now();
    stage.order(&["stop", "--now", "hurried"]);
    assert!(began.elapsed() < seconds(5), "{:?}", began.elapsed());
    wait_state(&agent, "hurried", "stopped");
    assert_eq!(
        stage.daemon.inspect("hurried", ".State.ExitCode"),
        "0",
        "no grace"
    );
}

#[test]
fn stop_now_hurries_a_drain_that_is_under_way() {
    let stage = Stage::new();
    let port = free_port();
    let agent = stage
        .place
        .start(&draining("pressed", port, "60s", "60s", ""));
    agent.wait_well("pressed");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| stage.place.cli(&["stop", "pressed"]));
        wait_state(&agent, "pressed", "draining");
        let began = Instant::now();
        stage.order(&["stop", "--now", "pressed"]);
        assert!(began.elapsed() < seconds(5), "{:?}", began.elapsed());
        assert_eq!(slow.join().unwrap().status.code(), Some(0));
    });
}

#[test]
fn a_drain_within_a_time_is_over_by_then_with_its_grace() {
    let stage = Stage::new();
    let port = free_port();
    let agent = stage
        .place
        .start(&draining("bounded", port, "60s", "60s", DEAF));
    agent.wait_well("bounded");
    let _open = TcpStream::connect(port).unwrap();
    let began = Instant::now();
    stage.order(&["drain", "--within", "9s"]);
    assert!(began.elapsed() < seconds(10), "{:?}", began.elapsed());
    wait_state(&agent, "bounded", "stopped");
}

#[test]
fn a_drain_takes_those_that_depend_on_others_first() {
    let stage = Stage::new();
    let config = app("order-c", "depends_on = [\"order-b\"]")
        + &app("order-b", "depends_on = [\"order-a\"]")
        + &app("order-a", "");
    let agent = stage.place.start(&config);
    let names = ["order-c", "order-b", "order-a"];
    for name in names {
        agent.wait_well(name);
    }
    stage.order(&["drain"]);
    let ended = names.map(|name| stage.daemon.inspect(name, ".State.FinishedAt"));
    assert!(ended.is_sorted(), "{ended:?}");
    let signals = stage.proxy.called("POST", "/kill");
    assert_eq!(signals.len(), 3, "{signals:?}");
}

#[test]
fn start_in_the_middle_of_a_stop_brings_it_back_once() {
    let stage = Stage::new();
    let slow = "stop_signal = \"SIGUSR1\"\nstop_grace_period = \"3s\"";
    let agent = stage.place.start(&app("wavering", slow));
    let before = agent.wait_well("wavering");
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| stage.place.cli(&["stop", "wavering"]));
        wait_state(&agent, "wavering", "stopping");
        stage.order(&["start", "wavering"]);
        crate::place::wait_other(&agent, &before);
        let _ = stop.join().unwrap();
    });
    assert_eq!(stage.proxy.called("POST", "/containers/create").len(), 2);
}
