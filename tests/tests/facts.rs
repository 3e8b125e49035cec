//! Facts about the host: from metadata, from config, never in the way of the start.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Place};
use tests::forward::{Client, Mode, frame, numbered};
use tests::metadata::{INSTANCE, PRIVATE_IP, REGION, serve};
use tests::{http, wait};

const ENRICH: &str = "[logs.enrich]\n\
    aws_region = \"${node.region}\"\n\
    environment_tag = \"${node.environment}\"\n\
    product_name = \"${node.product}\"\n\
    instance_id = \"${node.instance_id}\"\n\
    ip_address = \"${node.private_ip}\"\n";
const NODE: &str = "[node]\nenvironment = \"prod1\"\nproduct = \"titan\"\n";

fn endpoint(address: SocketAddr) -> String {
    format!("endpoint = \"http://{address}\"")
}

/// Value and source of a fact in the status; nulls while it is unknown.
fn fact(agent: &Agent<'_>, name: &str) -> (Value, Value) {
    let fact = agent.status()["facts"][name].clone();
    (fact["value"].clone(), fact["source"].clone())
}

fn wait_fact(agent: &Agent<'_>, name: &str, value: &str, source: &str) {
    let patience = Duration::from_secs(30);
    wait::until_within(
        patience,
        &format!("{name} is {value} from {source}"),
        || {
            let (found, from) = fact(agent, name);
            (found == value && from == source).then_some(())
        },
    );
}

/// Sends a record and returns what is printed of it.
fn enriched(place: &Place, agent: &Agent<'_>, id: u64) -> Value {
    let mut client = Client::tcp(place.forward);
    let bytes = frame(Mode::Message, "app", &[numbered(id)], Some("c"));
    client.send(&bytes).unwrap();
    assert_eq!(client.ack().as_deref(), Some("c"));
    wait::until("the record is printed", || {
        let printed = agent.stdout();
        let mut records = printed.lines().filter_map(|line| {
            let record: Value = serde_json::from_str(line).ok()?;
            Some(record).filter(|record| record["id"] == id)
        });
        records.next()
    })
}

/// In front of an endpoint: counts who asks, and can keep them waiting.
struct Door {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
}

impl Door {
    fn new(open: bool) -> Door {
        let behind = serve(false);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let door = Door {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            open: Arc::new(AtomicBool::new(open)),
        };
        let (asked, open) = (door.asked.clone(), door.open.clone());
        let kept = Mutex::new(Vec::new());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                asked.fetch_add(1, Ordering::SeqCst);
                if open.load(Ordering::SeqCst) {
                    through(stream, behind);
                } else {
                    kept.lock().unwrap().push(stream);
                }
            }
        });
        door
    }
}

/// Copies both ways, each in a thread of its own.
fn through(client: TcpStream, behind: SocketAddr) {
    let server = TcpStream::connect(behind).unwrap();
    for (mut from, mut to) in [
        (client.try_clone().unwrap(), server.try_clone().unwrap()),
        (server, client),
    ] {
        std::thread::spawn(move || {
            // Either end may go first.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.flush();
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
}

#[test]
fn metadata_shows_in_the_status_and_in_every_record() {
    let mut place = Place::new();
    place.cloud = endpoint(serve(false));
    let agent = place.start(&format!("{NODE}{ENRICH}"));
    wait_fact(&agent, "region", REGION, "metadata");
    wait_fact(&agent, "instance_id", INSTANCE, "metadata");
    wait_fact(&agent, "private_ip", PRIVATE_IP, "metadata");
    wait_fact(&agent, "environment", "prod1", "config");
    let record = enriched(&place, &agent, 1);
    for (field, value) in [
        ("aws_region", REGION),
        ("environment_tag", "prod1"),
        ("product_name", "titan"),
        ("instance_id", INSTANCE),
        ("ip_address", PRIVATE_IP),
    ] {
        assert_eq!(record[field], value, "{field} in {record}");
    }
}

#[test]
fn config_wins_over_metadata_and_a_reload_gives_it_back() {
    let mut place = Place::new();
    place.cloud = endpoint(serve(false));
    let agent = place.start(&format!("{NODE}region = \"mars-1\"\n{ENRICH}"));
    wait_fact(&agent, "instance_id", INSTANCE, "metadata");
    wait_fact(&agent, "region", "mars-1", "config");
    let record = enriched(&place, &agent, 1);
    assert_eq!(record["aws_region"], "mars-1");
    assert_eq!(record["instance_id"], INSTANCE);

    place.write(&format!("{NODE}{ENRICH}"));
    assert!(place.cli(&["reload"]).status.success());
    wait_fact(&agent, "region", REGION, "metadata");
    let record = enriched(&place, &agent, 2);
    assert_eq!(record["aws_region"], REGION, "{record}");
}

#[test]
fn a_silent_endpoint_delays_nothing_and_is_asked_again() {
    let door = Door::new(false);
    let mut place = Place::new();
    place.cloud = endpoint(door.address);
    place.write(&format!("{NODE}{ENRICH}"));
    let started = Instant::now();
    let mut agent = place.spawn();
    agent.wait_ready();
    let beat = http::get(place.heartbeat, "/heartbeat", &[]).unwrap();
    let took = started.elapsed();
    assert_eq!(beat.status, 200, "{}", beat.text());
    assert!(took < Duration::from_secs(1), "{took:?}");
    wait::until("it was asked", || {
        (door.asked.load(Ordering::SeqCst) > 0).then_some(())
    });
    assert_eq!(fact(&agent, "region"), (Value::Null, Value::Null));
    // A record is not kept waiting either; what is not known is not made up.
    let record = enriched(&place, &agent, 1);
    assert_eq!(record["environment_tag"], "prod1", "{record}");
    assert!(record["aws_region"] != REGION, "{record}");

    door.open.store(true, Ordering::SeqCst);
    wait_fact(&agent, "region", REGION, "metadata");
    let record = enriched(&place, &agent, 2);
    assert_eq!(record["aws_region"], REGION, "{record}");
    assert_eq!(agent.stop().code(), Some(0));
}

#[test]
fn a_stop_does_not_wait_for_a_silent_endpoint() {
    let mut place = Place::new();
    place.cloud = endpoint(serve(true));
    let agent = place.start("");
    let asked = Instant::now();
    assert_eq!(agent.stop().code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn whoever_switches_metadata_off_is_obeyed() {
    let (by_config, by_variable, asked) = (Door::new(true), Door::new(true), Door::new(true));
    let mut one = Place::new();
    one.cloud = format!("imds = false\n{}", endpoint(by_config.address));
    let one_agent = one.start("");

    let mut two = Place::new();
    two.cloud = endpoint(by_variable.address);
    two.write("");
    let config = two.config();
    let arguments = ["run", "--config", config.to_str().unwrap()];
    let variable = [("AWS_EC2_METADATA_DISABLED", "true")];
    let mut two_agent = two.spawn_with(&[], &arguments, &variable);
    two_agent.wait_ready();

    // One that may ask has all its answers: the others have had their time too.
    let mut three = Place::new();
    three.cloud = endpoint(asked.address);
    let three_agent = three.start("");
    wait_fact(&three_agent, "region", REGION, "metadata");
    assert!(asked.asked.load(Ordering::SeqCst) > 0);
    std::thread::sleep(Duration::from_secs(1));
    for (door, agent) in [(by_config, &one_agent), (by_variable, &two_agent)] {
        assert_eq!(door.asked.load(Ordering::SeqCst), 0);
        assert_eq!(fact(agent, "region"), (Value::Null, Value::Null));
        let (name, source) = fact(agent, "hostname");
        assert_eq!(source, "host");
        assert!(name.is_string());
    }
}
