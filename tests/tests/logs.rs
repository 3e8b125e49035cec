//! One record's whole way: a container's line, Docker's driver, the agent, an independent receiver.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tests::agent::{Agent, Place, free_port};
use tests::daemon::Daemon;
use tests::forward::{Client, MODES, Mode, frame, numbered};
use tests::receiver::Receiver;
use tests::{http, wait};

const NODE: &str = "[node]\nregion = \"us-east-1\"\nproduct = \"titan\"\nenvironment = \"prod1\"\n\
     instance_id = \"i-0123456789abcdef0\"\nprivate_ip = \"10.1.2.3\"\n";
const ENRICH: &str = "[logs.enrich]\naws_region = \"${node.region}\"\nproduct_name = \"${node.product}\"\n\
     environment_tag = \"${node.environment}\"\ninstance_id = \"${node.instance_id}\"\n\
     ip_address = \"${node.private_ip}\"\n";
const FIELDS: [(&str, &str); 5] = [
    ("aws_region", "us-east-1"),
    ("product_name", "titan"),
    ("environment_tag", "prod1"),
    ("instance_id", "i-0123456789abcdef0"),
    ("ip_address", "10.1.2.3"),
];

fn to(receiver: SocketAddr) -> String {
    format!(
        "{NODE}{ENRICH}[logs.buffer]\nflush_interval = \"200ms\"\n\
         [logs.outputs.aggregator]\ntype = \"forward\"\nservers = [\"{receiver}\"]\nrequire_ack = true\n\
         ack_timeout = \"3s\"\n"
    )
}

fn logging_app(port: u16) -> String {
    format!(
        "[containers.app]\nimage = \"agent-test/app:1\"\nports = [\"{port}:8080\"]\n\
         logging = {{ tag = \"campaigns\" }}\nstop_grace_period = \"5s\"\n"
    )
}

fn wait_ids(receiver: &Receiver, wanted: u64) {
    wait::until(&format!("{wanted} numbered records have arrived"), || {
        (receiver.ids().len() as u64 >= wanted).then_some(())
    });
}

fn serving(address: SocketAddr) {
    wait::until("the app serves", || {
        http::get(address, "/heartbeat", &[]).ok()
    });
}

#[test]
fn what_a_container_prints_arrives_once_parsed_and_enriched() {
    let daemon = Daemon::start(&["app"]);
    let receiver = Receiver::start();
    let mut place = Place::new();
    place.docker_socket = daemon.socket();
    let app = free_port();
    let agent = place.start(&(to(receiver.address) + &logging_app(app.port())));
    agent.wait_well("app");
    serving(app);
    http::get(app, "/log?n=1000&from=0", &[]).unwrap();
    wait_ids(&receiver, 1000);
    std::thread::sleep(Duration::from_secs(1));
    let ids = receiver.ids();
    assert_eq!(
        ids.keys().copied().collect::<Vec<_>>(),
        (0..1000).collect::<Vec<_>>()
    );
    assert!(ids.values().all(|count| *count == 1), "some arrived twice");

    let records = receiver.records();
    let one = records
        .iter()
        .find(|record| record.id() == Some(7))
        .unwrap();
    assert_eq!(one.tag, "campaigns");
    assert_eq!(one.text("level"), Some("info"));
    assert_eq!(one.fields["duration"].as_f64(), Some(12.5));
    assert_eq!(one.text("source"), Some("stdout"));
    assert!(
        one.text("container_name").unwrap().ends_with("app"),
        "{one:?}"
    );
    assert_eq!(
        one.text("container_id").unwrap(),
        daemon.inspect("app", ".Id")
    );
    assert!(
        !one.fields.contains_key("log"),
        "the raw line stays only where asked for: {one:?}"
    );
    for (name, value) in FIELDS {
        assert_eq!(one.text(name), Some(value), "{one:?}");
    }

    // plain text and a line longer than the driver's 16 KiB
    http::get(app, "/log?n=1&from=1&plain=1", &[]).unwrap();
    http::get(app, "/log?n=1&from=2000&bytes=40000", &[]).unwrap();
    wait_ids(&receiver, 1001);
    let plain = wait::until("the plain line arrives", || {
        let records = receiver.records();
        records.into_iter().find(|record| {
            record
                .text("log")
                .is_some_and(|line| line.starts_with("plain line 1"))
        })
    });
    assert_eq!(plain.text("environment_tag"), Some("prod1"));
    let records = receiver.records();
    let long = records
        .iter()
        .find(|record| record.id() == Some(2000))
        .unwrap();
    let whole = "{\"level\":\"info\",\"id\":2000,\"duration\":12.5,\"text\":\"\"}".len();
    assert_eq!(long.text("text").unwrap().len(), 40_000 - whole);
    assert!(
        !long.fields.keys().any(|key| key.starts_with("partial_")),
        "{:?}",
        long.fields.keys()
    );

    let logs = &agent.status()["logs"];
    assert_eq!(logs["accepting"], true);
    assert!(logs["records_in"].as_u64().unwrap() >= 1002, "{logs}");
    assert_eq!(logs["dropped"], 0);
    wait::until("everything is delivered", || {
        (agent.status()["logs"]["outputs"][0]["pending_bytes"] == 0).then_some(())
    });
}

/// Sends numbered records one by one, each acknowledged, until the connection or `n` ends.
/// Returns how many were acknowledged.
fn stream(address: SocketAddr, from: u64, n: u64) -> BTreeSet<u64> {
    let mut acked = BTreeSet::new();
    let mut client = Client::tcp(address);
    for id in from..from + n {
        let chunk = format!("chunk-{id}");
        let bytes = frame(Mode::Message, "t", &[numbered(id)], Some(&chunk));
        if client.send(&bytes).is_err() {
            break;
        }
        match client.ack() {
            Some(ack) => assert_eq!(ack, chunk),
            None => break,
        }
        acked.insert(id);
    }
    acked
}

#[test]
fn nothing_acknowledged_is_lost_when_the_agent_is_killed() {
    let receiver = Receiver::start();
    let place = Place::new();
    let config = to(receiver.address);
    let agent = place.start(&config);
    let address = place.forward;
    let sender = std::thread::spawn(move || stream(address, 0, 100_000));
    wait::until("records flow", || {
        (receiver.ids().len() > 200).then_some(())
    });
    agent.kill();
    let acked = sender.join().unwrap();
    assert!(acked.len() < 100_000, "the agent was killed too late");
    let _agent = place.start(&config);
    wait::until("every acknowledged record has arrived", || {
        let arrived = receiver.ids();
        acked
            .iter()
            .all(|id| arrived.contains_key(id))
            .then_some(())
    });
    let twice = receiver.ids().values().filter(|count| **count > 1).count();
    println!(
        "{} acknowledged before kill -9, none lost, {twice} delivered twice",
        acked.len()
    );
}

#[test]
fn an_outage_of_the_receiver_loses_nothing() {
    let receiver = Receiver::start();
    let address = receiver.address;
    let place = Place::new();
    let agent = place.start(&to(address));
    assert_eq!(stream(place.forward, 0, 500).len(), 500);
    wait_ids(&receiver, 500);
    drop(receiver);
    // it takes records all the same, and says what stands in the way
    assert_eq!(stream(place.forward, 500, 500).len(), 500);
    wait::until("status names the failed output", || {
        let status = agent.status();
        let output = &status["logs"]["outputs"][0];
        (output["last_error"].is_string() && output["pending_bytes"].as_u64()? > 0).then_some(())
    });
    let receiver = Receiver::start_at(address);
    wait::until("the outage's records have arrived", || {
        let ids = receiver.ids();
        (500..1000).all(|id| ids.contains_key(&id)).then_some(())
    });

    // a receiver that takes chunks and never acknowledges: sent again, not dropped
    receiver.set_silent(true);
    assert_eq!(stream(place.forward, 1000, 10).len(), 10);
    wait::until("an unacknowledged chunk comes again", || {
        receiver
            .ids()
            .get(&1000)
            .is_some_and(|count| *count > 1)
            .then_some(())
    });
    receiver.set_silent(false);
    wait::until("nothing waits to be sent", || {
        (agent.status()["logs"]["outputs"][0]["pending_bytes"] == 0).then_some(())
    });
}

#[test]
fn all_carrier_modes_are_acknowledged_on_both_sockets() {
    let receiver = Receiver::start();
    let place = Place::new();
    let _agent = place.start(&to(receiver.address));
    let mut tcp = Client::tcp(place.forward);
    let mut unix = Client::unix(&place.forward_socket());
    let mut id = 0;
    for mode in MODES {
        let count = if mode == Mode::Message { 1 } else { 50 };
        for (which, chunk) in [("tcp", "one\n"), ("unix", "two")] {
            let records: Vec<_> = (id..id + count).map(numbered).collect();
            let bytes = frame(mode, "modes", &records, Some(chunk));
            let ack = if which == "tcp" {
                tcp.send(&bytes).unwrap();
                tcp.ack()
            } else {
                unix.send(&bytes).unwrap();
                unix.ack()
            };
            assert_eq!(ack.as_deref(), Some(chunk), "{mode:?} over {which}");
            id += count;
        }
    }
    wait_ids(&receiver, id);
    assert!(receiver.ids().values().all(|count| *count == 1));
    assert!(
        receiver
            .records()
            .iter()
            .all(|record| record.tag == "modes")
    );
}

fn counted(agent: &Agent<'_>) -> u64 {
    agent.status()["logs"]["bad_frames"].as_u64().unwrap()
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn malformed_input_closes_that_connection_alone_in_bounded_memory() {
    let receiver = Receiver::start();
    let place = Place::new();
    let agent = place.start(&to(receiver.address));
    let mut good = Client::tcp(place.forward);
    let bad: [(&str, Vec<u8>); 5] = [
        ("a byte that msgpack never uses", vec![0xc1]),
        (
            "an array of 2^32-1 elements",
            vec![0xdd, 0xff, 0xff, 0xff, 0xff],
        ),
        ("not msgpack but HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (
            "a tag of 4 GiB",
            [vec![0x93, 0xdb, 0xff, 0xff, 0xff, 0xff], vec![b'x'; 100]].concat(),
        ),
        ("two thousand arrays in each other", vec![0x91; 2000]),
    ];
    for (index, (what, bytes)) in bad.iter().enumerate() {
        let before = counted(&agent);
        let mut client = Client::tcp(place.forward);
        let _ = client.send(bytes);
        assert!(client.is_closed(), "{what}: the connection stays open");
        assert_eq!(counted(&agent), before + 1, "{what}: not counted once");
        let id = index as u64;
        good.send(&frame(Mode::Message, "t", &[numbered(id)], Some("ok")))
            .unwrap();
        assert_eq!(good.ack().as_deref(), Some("ok"), "after {what}");
    }
    wait_ids(&receiver, bad.len() as u64);

    // a frame without end: the limit is 16 MiB, so is the memory that it costs
    let before = resident_kib(agent.pid());
    let mut endless = std::net::TcpStream::connect(place.forward).unwrap();
    let _ = endless.write_all(&[0x93, 0xa1, b't', 0xc6, 0xff, 0xff, 0xff, 0xff]);
    let block = vec![0u8; 1 << 20];
    for _ in 0..64 {
        if endless.write_all(&block).is_err() {
            break;
        }
    }
    let grown = resident_kib(agent.pid()).saturating_sub(before);
    assert!(grown < 48 * 1024, "{grown} KiB for one bad connection");
    good.send(&frame(Mode::Message, "t", &[numbered(99)], Some("end")))
        .unwrap();
    assert_eq!(good.ack().as_deref(), Some("end"));
}

#[test]
fn without_an_output_records_are_json_lines_on_stdout() {
    let place = Place::new();
    let agent = place.start(&format!(
        "{NODE}{ENRICH}[logs.buffer]\nflush_interval = \"100ms\"\n"
    ));
    assert_eq!(stream(place.forward, 0, 3).len(), 3);
    wait::until("three lines are printed", || {
        let text = agent.stdout();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (lines.len() == 3
            && lines[2]
                .to_string()
                .contains("\"aws_region\":\"us-east-1\""))
        .then_some(())
    });
}
