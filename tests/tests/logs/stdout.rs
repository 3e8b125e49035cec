//! With no output configured: JSON lines on the agent's own stdout.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::Duration;
use tests::agent::{Agent, Place};
use tests::forward::{Client, Mode, frame, numbered};
use tests::program::{command, stdout};
use tests::{http, wait};

/// Sends `n` records from id `first` on and waits for each ack.
fn send(place: &Place, first: u64, n: u64) {
    let mut client = Client::unix(&place.forward_socket());
    for id in (first..first + n).step_by(100) {
        let records: Vec<rmpv::Value> = (id..(id + 100).min(first + n)).map(numbered).collect();
        client
            .send(&frame(Mode::Forward, "raw", &records, Some("c")))
            .unwrap();
        assert_eq!(client.ack().as_deref(), Some("c"));
    }
}

#[test]
fn without_an_output_records_are_json_lines_on_stdout() {
    let place = Place::new();
    let agent = place.start("[logs.enrich]\nhost = \"h1\"\n");
    send(&place, 0, 3);
    let lines = wait::until("three lines are printed", || {
        let text = agent.stdout();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (lines.len() == 3).then_some(lines)
    });
    for (id, line) in lines.iter().enumerate() {
        assert_eq!(line["time"], "2023-11-14T22:13:20.000000000Z");
        assert_eq!(line["tag"], "raw");
        assert_eq!(line["id"], id);
        assert_eq!(line["host"], "h1");
    }
    assert!(agent.stop().success());
}

#[test]
fn a_stdout_that_is_closed_from_the_start_stops_nothing() {
    let place = Place::new();
    place.write("");
    let config = place.config();
    let mut agent = place.spawn_with(
        &["sh", "-c", "exec \"$@\" >&-", "sh"],
        &["run", "--config", &config.to_string_lossy()],
        &[],
    );
    agent.wait_ready();
    send(&place, 0, 200);
    assert_alive(&place, &agent);
    assert!(agent.stop().success());
}

/// An agent whose stdout is the pipe at `out`, which somebody holds open.
fn start_into_pipe(place: &Place) -> (Agent<'_>, File) {
    let out = place.path("out");
    stdout(command("mkfifo").arg(&out), "mkfifo is in coreutils").unwrap();
    // Opened both ways it does not wait for the other end.
    let reader = File::options().read(true).write(true).open(&out).unwrap();
    place.write("");
    let script = "exec \"$@\" >\"$OUT\"";
    let config = place.config();
    let mut agent = place.spawn_with(
        &["sh", "-c", script, "sh"],
        &["run", "--config", &config.to_string_lossy()],
        &[("OUT", &out.to_string_lossy())],
    );
    agent.wait_ready();
    (agent, reader)
}

fn assert_alive(place: &Place, agent: &Agent<'_>) {
    assert_eq!(
        http::get(place.heartbeat, "/heartbeat", &[])
            .unwrap()
            .status,
        200
    );
    assert_eq!(
        http::get(place.metrics, "/metrics", &[]).unwrap().status,
        200
    );
    assert_eq!(agent.status()["logs"]["accepting"], true);
}

#[test]
fn a_stdout_that_nobody_reads_stops_nothing_and_loses_nothing() {
    let place = Place::new();
    let (agent, reader) = start_into_pipe(&place);
    // Some 300 KiB of JSON; a pipe holds 64 KiB.
    send(&place, 0, 4000);
    wait::holds_for(Duration::from_secs(1), "the agent is alive", || {
        assert_alive(&place, &agent);
        true
    });
    let pending = agent.status()["logs"]["outputs"][0]["pending_bytes"]
        .as_u64()
        .unwrap();
    assert!(pending > 0, "records wait");
    let counting = std::thread::spawn(move || {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for line in BufReader::new(reader).lines() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            *counts.entry(line["id"].as_u64().unwrap()).or_default() += 1;
            if counts.len() == 4000 {
                break;
            }
        }
        counts
    });
    let counts = counting.join().unwrap();
    assert!(counts.values().all(|&n| n == 1), "printed twice");
    assert!(agent.stop().success());
}

#[test]
fn an_agent_whose_stdout_is_stuck_stops_within_its_deadline() {
    let place = Place::new();
    let (agent, _reader) = start_into_pipe(&place);
    send(&place, 0, 4000);
    assert!(agent.stop().success(), "records that are left wait on disk");
}

#[test]
fn a_stdout_whose_reader_is_gone_is_an_error_of_that_output_alone() {
    let place = Place::new();
    let (agent, reader) = start_into_pipe(&place);
    drop(reader);
    send(&place, 0, 100);
    let error = wait::until("status tells the error", || {
        let status = agent.status();
        let error = status["logs"]["outputs"][0]["last_error"].as_str();
        error.map(str::to_owned)
    });
    assert!(error.contains("stdout"), "{error}");
    assert_alive(&place, &agent);
    send(&place, 100, 100);
    // A new reader of the same pipe gets all of it.
    let reader = File::open(place.path("out")).unwrap();
    let mut ids = BufReader::new(reader).lines().map(|line| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        line["id"].as_u64().unwrap()
    });
    let first: Vec<u64> = ids.by_ref().take(200).collect();
    assert_eq!(first, (0..200).collect::<Vec<_>>());
    assert!(agent.stop().success());
}
