//! What is acknowledged is delivered: aggregators that are away or silent, an agent that is killed.

use crate::place::{forward_to, sample};
use crate::server::Server;
use rmpv::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use tests::agent::{Place, free_port};
use tests::forward::{Client, Mode, frame, numbered};
use tests::receiver::Receiver;
use tests::{http, wait};

fn send<S: Read + Write>(client: &mut Client<S>, ids: std::ops::Range<u64>) {
    for id in ids.clone().step_by(100) {
        let records: Vec<Value> = (id..(id + 100).min(ids.end)).map(numbered).collect();
        client
            .send(&frame(Mode::Packed, "raw", &records, Some("c")))
            .unwrap();
        assert_eq!(client.ack().as_deref(), Some("c"));
    }
}

fn all_arrive(aggregator: &Receiver, n: usize) -> BTreeMap<u64, usize> {
    wait::until(&format!("{n} records arrive"), || {
        Some(aggregator.ids()).filter(|ids| ids.len() >= n)
    })
}

#[test]
fn while_the_aggregator_is_down_records_wait_and_status_says_so() {
    let address = free_port();
    let place = Place::new();
    let agent = place.start(&forward_to(address));
    send(&mut Client::tcp(place.forward), 0..3000);
    let status = wait::until("status tells the error", || {
        Some(agent.status()).filter(|status| status["logs"]["outputs"][0]["last_error"].is_string())
    });
    let logs = &status["logs"];
    let error = logs["outputs"][0]["last_error"].as_str().unwrap();
    assert!(
        error.contains(&address.to_string()) && error.contains("refused"),
        "{error}"
    );
    assert!(logs["buffered_bytes"].as_u64().unwrap() > 100_000, "{logs}");
    assert!(
        logs["outputs"][0]["pending_bytes"].as_u64().unwrap() > 100_000,
        "{logs}"
    );
    assert_eq!(logs["accepting"], true);
    assert!(
        sample(
            &place,
            "agent_log_output_errors_total{output=\"aggregator\"}"
        ) >= 1.0
    );

    let aggregator = Receiver::start_at(address);
    let ids = all_arrive(&aggregator, 3000);
    assert!(ids.values().all(|&n| n == 1), "some arrived twice");
    wait::until("status is well again", || {
        let output = &agent.status()["logs"]["outputs"][0];
        (output["last_error"].is_null() && output["pending_bytes"] == 0).then_some(())
    });

    // Down in mid-stream, back on the same address.
    drop(aggregator);
    send(&mut Client::tcp(place.forward), 3000..6000);
    let aggregator = Receiver::start_at(address);
    let again = all_arrive(&aggregator, 3000);
    assert!((3000..6000).all(|id| again.contains_key(&id)));
    assert!(agent.stop().success());
}

#[test]
fn a_full_buffer_holds_senders_back_until_there_is_room() {
    let address = free_port();
    let place = Place::new();
    let full = "chunk_size = \"64KiB\"\nmax_chunks = 2\nflush_interval";
    let config = forward_to(address).replace("flush_interval", full);
    let agent = place.start(&config);
    let (tell, acked) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let tell = tell;
            let mut client = Client::unix(&place.forward_socket());
            for first in (0..5000).step_by(100) {
                send(&mut client, first..first + 100);
                tell.send(first + 100).unwrap();
            }
        });
        let heartbeat = || http::get(place.heartbeat, "/heartbeat", &[]).unwrap();
        let reply = wait::until("the heartbeat fails", || {
            Some(heartbeat()).filter(|reply| reply.status == 503)
        });
        assert!(
            reply.text().contains("accepts no records"),
            "{}",
            reply.text()
        );
        let logs = agent.status()["logs"].clone();
        assert_eq!(logs["accepting"], false);
        assert!(logs["buffered_bytes"].as_u64() <= Some(128 << 10), "{logs}");
        let before = acked.try_iter().last().unwrap();
        assert!(before < 5000, "the sender waits");

        let aggregator = Receiver::start_at(address);
        let ids = all_arrive(&aggregator, 5000);
        assert!(ids.values().all(|&n| n == 1), "some arrived twice");
        wait::until("the heartbeat is well", || {
            (heartbeat().status == 200).then_some(())
        });
        assert_eq!(acked.iter().last(), Some(5000));
    });
    assert_eq!(agent.status()["logs"]["dropped"], 0);
    assert!(agent.stop().success());
}

#[test]
fn a_chunk_without_ack_is_sent_again_under_the_same_id() {
    let server = Server::start();
    let place = Place::new();
    let agent = place.start(&forward_to(server.address));
    send(&mut Client::tcp(place.forward), 0..10);
    let chunks = wait::until("the chunk came three times", || {
        Some(server.chunks()).filter(|chunks| chunks.len() >= 3)
    });
    assert!(
        chunks.iter().all(|chunk| *chunk == chunks[0]),
        "same id, same records"
    );
    let error = agent.status()["logs"]["outputs"][0]["last_error"].clone();
    assert!(error.as_str().unwrap().contains("no ack"), "{error}");

    // Nor does a restart change it.
    agent.kill();
    let agent = place.start(&forward_to(server.address));
    let seen = server.chunks().len();
    wait::until("it came once more", || {
        (server.chunks().len() > seen).then_some(())
    });
    assert_eq!(server.chunks().last(), chunks.first());

    server.acknowledge();
    wait::until("it is delivered", || {
        (agent.status()["logs"]["outputs"][0]["pending_bytes"] == 0).then_some(())
    });
    assert!(agent.stop().success());
}

trait Wire: Read + Write {}
impl<S: Read + Write> Wire for S {}

/// A connection, if the agent is there.
fn connect_tcp(place: &Place) -> Option<Box<dyn Wire>> {
    let stream = TcpStream::connect(place.forward).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    Some(Box::new(stream))
}

fn connect_unix(place: &Place) -> Option<Box<dyn Wire>> {
    let stream = UnixStream::connect(place.forward_socket()).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    Some(Box::new(stream))
}

/// None: the connection broke before the ack came.
fn try_send(mut wire: &mut dyn Wire, bytes: &[u8]) -> Option<Value> {
    wire.write_all(bytes).ok()?;
    rmpv::decode::read_value(&mut wire).ok()
}

/// Sends numbered records until told to stop, each frame until it is acknowledged, whatever happens
/// to the agent meanwhile, as Docker's driver does. Gives the id after the last one.
fn insist(
    connect: impl Fn() -> Option<Box<dyn Wire>>,
    (first, per_frame): (u64, u64),
    stop: &AtomicBool,
) -> u64 {
    let mut wire = None;
    let mut next = first;
    while !stop.load(Ordering::SeqCst) {
        let records: Vec<Value> = (next..next + per_frame).map(numbered).collect();
        let mode = if per_frame == 1 {
            Mode::Message
        } else {
            Mode::Packed
        };
        let chunk = format!("chunk-{next}");
        let bytes = frame(mode, "raw", &records, Some(&chunk));
        let ack = Value::Map(vec![("ack".into(), chunk.into())]);
        loop {
            let answer = wire
                .as_mut()
                .and_then(|wire: &mut Box<dyn Wire>| try_send(wire, &bytes));
            if let Some(answer) = answer {
                assert_eq!(answer, ack);
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            wire = connect();
        }
        next += per_frame;
    }
    next
}

#[test]
fn every_acknowledged_record_survives_kill_9() {
    /// Where the second client's ids begin.
    const MANY: u64 = 1 << 32;
    let aggregator = Receiver::start();
    let place = Place::new();
    let stop = AtomicBool::new(false);
    let (single, packed, kills) = std::thread::scope(|scope| {
        let single = scope.spawn(|| insist(|| connect_unix(&place), (0, 1), &stop));
        let packed = scope.spawn(|| insist(|| connect_tcp(&place), (MANY, 50), &stop));
        let mut kills = 0;
        for pause in [700, 300, 1100, 50, 900] {
            let agent = place.start(&forward_to(aggregator.address));
            std::thread::sleep(Duration::from_millis(pause));
            agent.kill();
            kills += 1;
        }
        // Acks are answered again, so the clients see the flag.
        let agent = place.start(&forward_to(aggregator.address));
        stop.store(true, Ordering::SeqCst);
        let ends = (single.join().unwrap(), packed.join().unwrap(), kills);
        let n = ends.0 + (ends.1 - MANY);
        all_arrive(&aggregator, n as usize);
        assert!(agent.stop().success());
        ends
    });
    let ids = aggregator.ids();
    let missing: Vec<u64> = (0..single)
        .chain(MANY..packed)
        .filter(|id| !ids.contains_key(id))
        .collect();
    let duplicates: usize = ids.values().map(|n| n - 1).sum();
    eprintln!(
        "{kills} kills: {} ids acknowledged, {} missing, {duplicates} arrived again",
        single + (packed - MANY),
        missing.len(),
    );
    assert!(missing.is_empty(), "lost: {missing:?}");
    assert!(
        single > 100 && packed - MANY > 1000,
        "too little was sent to tell"
    );
}
