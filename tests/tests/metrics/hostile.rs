//! Peers that mean harm, or come in crowds: the page stays right, memory bounded, and the
//! heartbeat answers.

use crate::page::names;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Place};
use tests::namespace::{in_own_namespaces, interfaces};
use tests::{http, wait};

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
/// Growth of resident memory that a crowd may cause, in bytes.
const GROWTH: u64 = 24 << 20;
/// Pages that wait for clients who do not read them, one under way, and its packed form.
const PAGES: u64 = 3 * (64 << 20);
/// The longest that the heartbeat may take meanwhile, on a loaded machine.
const HEARTBEAT: Duration = Duration::from_secs(2);

fn resident(agent: &Agent<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

fn heartbeat_is_prompt(place: &Place) {
    let start = Instant::now();
    let reply = http::get(place.heartbeat, "/livez", &[]).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let took = start.elapsed();
    assert!(took < HEARTBEAT, "the heartbeat took {took:?}");
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

/// A shell's usual 1,024 would be too few, with the other tests beside this one.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(4096).min(4096);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = Some(wanted);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    }
}

#[test]
fn a_thousand_clients_at_once_get_the_page_or_are_told_to_come_back() {
    allow_descriptors();
    let place = Place::new();
    let agent = place.start("");
    http::get(place.metrics, "/metrics", &[]).unwrap();
    let before = resident(&agent);
    let mut clients: Vec<TcpStream> = (0..1000).map(|_| connect(place.metrics)).collect();
    for client in &mut clients {
        // One that was made to leave has nobody to write to.
        let _ = client.write_all(REQUEST);
    }
    heartbeat_is_prompt(&place);
    let (mut pages, mut refused, mut cut) = (0, 0, 0);
    for mut client in clients {
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        match answer.get(9..12) {
            Some("200") => {
                let (_, page) = answer.split_once("\r\n\r\n").unwrap();
                assert!(names(page).contains("node_load1") && page.ends_with('\n'));
                pages += 1;
            }
            Some("503") => {
                assert!(answer.contains("Limit of concurrent requests reached (40)"));
                refused += 1;
            }
            _ => cut += 1,
        }
    }
    // Idle for seconds since they connected, some may have lost their place before they asked.
    let counts = format!("{pages} pages, {refused} refused, {cut} cut");
    assert!(pages >= 20 && pages + refused >= 900, "{counts}");
    let grown = resident(&agent).saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes");
    heartbeat_is_prompt(&place);
    assert_eq!(
        http::get(place.metrics, "/metrics", &[]).unwrap().status,
        200
    );
}

#[test]
fn clients_that_never_read_or_never_ask_keep_nobody_out() {
    let place = Place::new();
    let agent = place.start("");
    http::get(place.metrics, "/metrics", &[]).unwrap();
    let before = resident(&agent);
    let mut deaf = Vec::new();
    for n in 0..150 {
        let mut client = connect(place.metrics);
        match n % 3 {
            0 => {} // says nothing
            1 => client
                .write_all(b"GET /metrics HTTP/1.1\r\nX-Endless: ")
                .unwrap(),
            // Asks again and again, and reads nothing.
            _ => {
                for _ in 0..200 {
                    client
                        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                        .unwrap();
                }
            }
        }
        deaf.push(client);
    }
    heartbeat_is_prompt(&place);
    let reply = wait::until("a page in spite of them", || {
        let reply = http::get(place.metrics, "/metrics", &[]).ok()?;
        (reply.status == 200).then_some(reply)
    });
    assert!(names(&reply.text()).contains("node_load1"));
    heartbeat_is_prompt(&place);
    let grown = resident(&agent).saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes");
    drop(deaf);
}

const INTERFACES: usize = 2_001;
/// 36 for one that is up; these are down, and show no carrier and no speed.
const SERIES: usize = 32 * INTERFACES;
/// Of memory, for a page, the next one, and what is remembered of each interface.
const PER_INTERFACE: u64 = 20 << 10;

#[test]
fn thousands_of_interfaces_are_all_on_the_page_and_memory_stays_in_bounds() {
    let name = "hostile::thousands_of_interfaces_are_all_on_the_page_and_memory_stays_in_bounds";
    if !in_own_namespaces(name) {
        return;
    }
    let place = Place::new();
    let agent = place.start("");
    http::get(place.metrics, "/metrics", &[]).unwrap();
    let before = resident(&agent);
    interfaces(INTERFACES);
    let header = "accept-encoding: gzip";
    for _ in 0..5 {
        let reply = http::get(place.metrics, "/metrics", &[header]).unwrap();
        assert_eq!(reply.status, 200);
        heartbeat_is_prompt(&place);
    }
    let page = http::get(place.metrics, "/metrics", &[]).unwrap().text();
    let of_network = page
        .lines()
        .filter(|line| line.starts_with("node_network_"));
    assert!(of_network.count() > SERIES);
    for collector in ["netclass", "netdev"] {
        let line = format!("node_scrape_collector_success{{collector=\"{collector}\"}} 1\n");
        assert!(page.contains(&line));
    }
    // Clients that ask for such pages and read none.
    let mut deaf = Vec::new();
    for _ in 0..60 {
        let mut client = connect(place.metrics);
        client.write_all(REQUEST).unwrap();
        deaf.push(client);
        heartbeat_is_prompt(&place);
    }
    let grown = resident(&agent).saturating_sub(before);
    let bound = PAGES + PER_INTERFACE * INTERFACES as u64;
    assert!(grown < bound, "{grown} bytes, not {bound}");
    drop(deaf);
    wait::until("a page in spite of them", || {
        let reply = http::get(place.metrics, "/metrics", &[header]).ok()?;
        (reply.status == 200).then_some(())
    });
}

#[test]
fn a_file_that_shrinks_and_grows_while_it_is_read_shows_the_truth_or_a_failure() {
    let place = Place::new();
    let proc = place.path("proc");
    fs::create_dir(&proc).unwrap();
    place.write("");
    let config = fs::read_to_string(place.config()).unwrap();
    let metrics = format!(
        "[metrics]\ncollectors.include = [\"meminfo\", \"uname\"]\npaths.procfs = {proc:?}\n"
    );
    fs::write(place.config(), config.replace("[metrics]\n", &metrics)).unwrap();
    let lines = |count: usize| -> String {
        let lines = (0..count).map(|n| format!("Entry{n:04}:   123456789 kB\n"));
        lines.collect()
    };
    let (long, short, meminfo) = (lines(900), lines(200), proc.join("meminfo"));
    fs::write(&meminfo, &long).unwrap();
    let mut agent = place.spawn();
    agent.wait_ready();
    let done = AtomicBool::new(false);
    let (mut good, mut bad) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::write(&meminfo, &long).unwrap();
                let file = fs::OpenOptions::new().write(true).open(&meminfo).unwrap();
                file.set_len(short.len() as u64).unwrap();
                file.set_len(0).unwrap();
            }
        });
        let end = Instant::now() + Duration::from_secs(60);
        while good + bad < 300 && Instant::now() < end {
            let page = http::get(place.metrics, "/metrics", &[]).unwrap().text();
            let entries = page
                .lines()
                .filter(|line| line.starts_with("node_memory_Entry"));
            for line in entries {
                assert!(line.ends_with("_bytes 126419751936"), "{line}");
            }
            let success = "node_scrape_collector_success{collector=\"meminfo\"} 1\n";
            *if page.contains(success) {
                &mut good
            } else {
                &mut bad
            } += 1;
            assert!(page.contains("\nnode_uname_info{"));
        }
        done.store(true, Ordering::Relaxed);
    });
    heartbeat_is_prompt(&place);
    assert!(good > 10, "{good} good, {bad} failed");
}

#[test]
fn header_floods_are_refused_and_cost_no_memory() {
    let place = Place::new();
    let agent = place.start("");
    http::get(place.metrics, "/metrics", &[]).unwrap();
    let before = resident(&agent);
    for n in 0..60 {
        let mut client = connect(place.metrics);
        let _ = client.write_all(b"GET /metrics HTTP/1.1\r\n");
        let line = if n % 2 == 0 {
            "X-Many: y\r\n".repeat(5_000)
        } else {
            format!("X-Large: {}", "y".repeat(1 << 20))
        };
        let _ = client.write_all(line.as_bytes());
        let _ = client.write_all(b"\r\n\r\n");
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer}"
        );
    }
    heartbeat_is_prompt(&place);
    let grown = resident(&agent).saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes");
    assert_eq!(
        http::get(place.metrics, "/metrics", &[]).unwrap().status,
        200
    );
}
