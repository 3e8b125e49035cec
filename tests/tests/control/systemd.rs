//! The service manager's side: notifications, listeners handed over, signals, log lines.

use crate::place::{WEB, forward_to};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tests::agent::Place;
use tests::forward::{Client, Mode, frame, numbered};
use tests::{http, wait};

#[test]
fn notifications_come_in_the_order_of_a_life() {
    let place = Place::new();
    place.write("");
    let config = place.config();
    let arguments = ["run", "--config", config.to_str().unwrap()];
    let mut agent = place.spawn_with(&[], &arguments, &[("WATCHDOG_USEC", "1500000")]);
    agent.wait_ready();
    agent.wait_said("WATCHDOG=1");
    agent.wait_said("STATUS=healthy: 0 of 0 containers well");
    agent.signal(Signal::HUP);
    agent.wait_said("RELOADING=1");
    wait::until("READY is said again", || {
        let said = agent.said();
        let ready = said.iter().filter(|said| *said == "READY=1");
        (ready.count() == 2).then_some(())
    });
    // Fed three times a period: every 500 ms.
    let feeds = |said: &[String]| said.iter().filter(|said| *said == "WATCHDOG=1").count();
    let before = feeds(&agent.said());
    std::thread::sleep(Duration::from_secs(3));
    let fed = feeds(&agent.said()) - before;
    assert!((4..=8).contains(&fed), "fed {fed} times in 3 s");
    agent.signal(Signal::TERM);
    assert!(agent.wait_end(Duration::from_secs(10)).success());

    let mut order: Vec<&str> = Vec::new();
    let all = agent.said();
    for said in &all {
        let (name, _) = said.split_once('=').unwrap();
        if name != "STATUS" && name != "WATCHDOG" {
            order.push(name);
        }
    }
    let life = ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STOPPING"];
    assert_eq!(order, life);
}

#[test]
fn without_a_watchdog_none_is_fed_and_the_status_names_what_is_wrong() {
    let place = Place::new();
    let agent = place.start(WEB);
    wait::until("the status text names the container", || {
        let degraded = |said: &&String| said.starts_with("STATUS=degraded: 0 of 1 containers well");
        let all = agent.said();
        let said = all.iter().find(degraded)?;
        said.contains("container web").then_some(())
    });
    assert!(!agent.said().iter().any(|said| said.starts_with("WATCHDOG")));
}

#[test]
fn forward_listeners_of_that_name_stand_in_for_the_configured_ones() {
    let place = Place::new();
    // Its own address is taken: it must not want it.
    let _taken = TcpListener::bind(place.forward).unwrap();
    place.write("");
    let handed = tests::agent::free_port();
    let listen = format!("--listen={handed}");
    let notify = format!(
        "--setenv=NOTIFY_SOCKET={}",
        place.path("notify.sock").display()
    );
    let wrapper = [
        "systemd-socket-activate",
        &listen,
        "--fdname=forward",
        &notify,
    ];
    let config = place.config();
    let arguments = ["run", "--config", config.to_str().unwrap()];
    let mut agent = place.spawn_with(&wrapper, &arguments, &[]);
    // The first connection starts it, and is served.
    let mut client = wait::until("the listener is there", || {
        agent_up(&mut agent);
        std::net::TcpStream::connect(handed)
            .is_ok()
            .then(|| Client::tcp(handed))
    });
    let bytes = frame(Mode::Message, "t", &[numbered(1)], Some("c"));
    client.send(&bytes).unwrap();
    assert_eq!(client.ack().as_deref(), Some("c"));
    agent.wait_ready();
    assert!(!place.forward_socket().exists());
    assert_eq!(agent.status()["logs"]["records_in"], 1);
    assert_eq!(agent.stop().code(), Some(0));
}

/// systemd-socket-activate itself says so when it cannot.
fn agent_up(agent: &mut tests::agent::Agent<'_>) {
    let said = agent.stderr();
    assert!(
        !said.contains("ailed"),
        "apt-get install systemd (tests/run does): {said}"
    );
}

#[test]
fn a_stop_keeps_its_deadline_when_the_receiver_hangs() {
    let place = Place::new();
    // Accepted by the kernel, answered by nobody.
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let rest = forward_to(hung.local_addr().unwrap());
    let flush = "[logs.buffer]\nflush_interval = \"100ms\"\n";
    place.write(&(rest + flush));
    let text = fs::read_to_string(place.config()).unwrap();
    let text = text.replace("[agent]\n", "[agent]\nstop_timeout = \"3s\"\n");
    fs::write(place.config(), text).unwrap();
    let mut agent = place.spawn();
    agent.wait_ready();
    let mut client = Client::tcp(place.forward);
    let bytes = frame(Mode::Message, "t", &[numbered(1)], Some("c"));
    client.send(&bytes).unwrap();
    assert_eq!(client.ack().as_deref(), Some("c"));
    wait::until("the record waits for the receiver", || {
        let output = agent.status()["logs"]["outputs"][0].clone();
        (output["pending_bytes"].as_u64() > Some(0)).then_some(())
    });

    // Neither a client that stays nor one in the middle of a request holds it up.
    let _stays = std::net::TcpStream::connect(place.metrics).unwrap();
    let asked = Instant::now();
    agent.signal(Signal::TERM);
    let status = agent.wait_end(Duration::from_secs(10));
    let took = asked.elapsed();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(agent.said().iter().any(|said| said == "STOPPING=1"));

    // What was acknowledged is still there.
    let agent = place.spawn();
    let left = wait::until("the next agent answers", || {
        let reply = http::request_unix(&place.control(), "GET", "/status").ok()?;
        let status: Value = serde_json::from_slice(&reply.body).unwrap();
        status["logs"]["outputs"][0]["pending_bytes"].as_u64()
    });
    assert!(left > 0);
    drop(agent);
}

#[test]
fn without_anything_to_drain_a_stop_is_short() {
    let place = Place::new();
    let agent = place.start(WEB);
    let asked = Instant::now();
    assert_eq!(agent.stop().code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn sigusr1_switches_debug_on_and_off() {
    let place = Place::new();
    let agent = place.start("");
    let changes = |agent: &tests::agent::Agent<'_>, level: &str, n: usize| {
        wait::until(&format!("the level is {level}"), || {
            let said = agent.stderr();
            let lines = said.lines().filter(|line| line.contains("SIGUSR1"));
            let lines: Vec<&str> = lines.collect();
            assert!(lines.len() <= n, "{said}");
            (lines.len() == n && lines[n - 1].contains(&format!("level={level}"))).then_some(())
        });
    };
    agent.signal(Signal::USR1);
    changes(&agent, "debug", 1);
    agent.signal(Signal::USR1);
    changes(&agent, "info", 2);
}

#[test]
fn json_log_lines_are_json_objects_with_a_level_and_a_message() {
    let place = Place::new();
    place.write("");
    let text = fs::read_to_string(place.config()).unwrap();
    let text = text.replace("[agent]\n", "[agent]\nlog = { format = \"json\" }\n");
    fs::write(place.config(), text).unwrap();
    let mut agent = place.spawn();
    agent.wait_ready();
    agent.signal(Signal::TERM);
    agent.wait_end(Duration::from_secs(10));
    let said = agent.stderr();
    let mut messages = Vec::new();
    for line in said.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(
            line["level"].is_string() && line["timestamp"].is_string(),
            "{line}"
        );
        messages.push(line["message"].as_str().unwrap().to_owned());
    }
    assert!(
        messages.contains(&"agent started".to_owned()),
        "{messages:?}"
    );
    assert!(messages.contains(&"stopped".to_owned()), "{messages:?}");
}

#[test]
fn under_journald_lines_carry_a_priority_and_no_time() {
    let place = Place::new();
    place.write("");
    let config = place.config();
    let arguments = ["run", "--config", config.to_str().unwrap()];
    let mut agent = place.spawn_with(&[], &arguments, &[("JOURNAL_STREAM", "8:1")]);
    agent.wait_ready();
    agent.signal(Signal::HUP);
    agent.signal(Signal::TERM);
    agent.wait_end(Duration::from_secs(10));
    let said = agent.stderr();
    assert!(said.contains("<6>agent started version="), "{said}");
    let priority = |line: &str| line.starts_with('<') && line.as_bytes().get(2) == Some(&b'>');
    assert!(said.lines().all(priority), "{said}");
}
