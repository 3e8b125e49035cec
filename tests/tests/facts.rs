//! Who this host is, from instance metadata on loopback; and that a silent one holds up nothing.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};
use tests::agent::Place;
use tests::forward::{Client, Mode, frame, numbered};
use tests::metadata::{INSTANCE, PRIVATE_IP, REGION, serve};
use tests::receiver::Receiver;
use tests::{http, wait};

fn place_on(endpoint: std::net::SocketAddr) -> Place {
    let mut place = Place::new();
    place.cloud = format!("imds = true\nendpoint = \"http://{endpoint}\"");
    place
}

#[test]
fn metadata_fills_status_and_records_but_config_wins() {
    let place = place_on(serve(false));
    let receiver = Receiver::start();
    let agent = place.start(&format!(
        "[node]\nzone = \"here\"\n[logs.enrich]\naws_region = \"${{node.region}}\"\n\
         instance_id = \"${{node.instance_id}}\"\nip_address = \"${{node.private_ip}}\"\n\
         [logs.buffer]\nflush_interval = \"100ms\"\n\
         [logs.outputs.aggregator]\ntype = \"forward\"\nservers = [\"{}\"]\n",
        receiver.address
    ));
    let facts = wait::until("metadata has been read", || {
        let facts = agent.status()["facts"].clone();
        facts["region"].is_object().then_some(facts)
    });
    for (name, value) in [
        ("region", REGION),
        ("instance_id", INSTANCE),
        ("private_ip", PRIVATE_IP),
    ] {
        assert_eq!(facts[name]["value"], value);
        assert_eq!(facts[name]["source"], "metadata");
    }
    assert_eq!(facts["zone"]["value"], "here");
    assert_eq!(facts["zone"]["source"], "config");

    let mut client = Client::tcp(place.forward);
    client
        .send(&frame(Mode::Message, "t", &[numbered(1)], Some("c")))
        .unwrap();
    assert_eq!(client.ack().as_deref(), Some("c"));
    let record = wait::until("the record arrives", || receiver.records().first().cloned());
    assert_eq!(record.text("aws_region"), Some(REGION));
    assert_eq!(record.text("instance_id"), Some(INSTANCE));
    assert_eq!(record.text("ip_address"), Some(PRIVATE_IP));
}

#[test]
fn silent_metadata_holds_up_neither_start_nor_heartbeat_nor_stop() {
    let place = place_on(serve(true));
    let began = Instant::now();
    let agent = place.start("");
    let reply = http::get(place.heartbeat, "/heartbeat", &[]).unwrap();
    let took = began.elapsed();
    assert_eq!(reply.status, 200, "{}", reply.text());
    // A machine under load needs a while to start a process; the client's own deadlines add up to more.
    assert!(
        took < Duration::from_millis(900),
        "{took:?} to the first heartbeat"
    );
    let began = Instant::now();
    assert!(agent.stop().success());
    assert!(began.elapsed() < Duration::from_secs(5));
}
