use super::{Cause, Files, Resolver};
use crate::chain::Chain;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A name server on a loopback address of its own: every A question gets
/// `answer`, `absent.*` gets NXDOMAIN, any other type gets no data.
struct Server {
    /// Questions for A records; without an SOA "no AAAA" is never cached.
    asked: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(socket: UdpSocket, answer: Ipv4Addr) -> Server {
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counter, stopped) = (asked.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((n, peer)) = socket.recv_from(&mut packet) {
                    let kind = question(&packet[..n]).1;
                    counter.fetch_add(u32::from(kind == A), Ordering::Relaxed);
                    socket.send_to(&reply(&packet[..n], answer), peer).unwrap();
                }
            }
        });
        Server {
            asked,
            stop,
            thread: Some(thread),
        }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// RFC 1035, section 3.2.2.
const A: u16 = 1;

/// Where the first question ends, and its type.
fn question(query: &[u8]) -> (usize, u16) {
    let mut root = 12;
    while query[root] != 0 {
        root += usize::from(query[root]) + 1;
    }
    let kind = u16::from_be_bytes([query[root + 1], query[root + 2]]);
    (root + 5, kind)
}

/// RFC 1035, section 4.1: header, the question as it came, at most one A record.
fn reply(query: &[u8], answer: Ipv4Addr) -> Vec<u8> {
    let (end, kind) = question(query);
    let absent = query[13..].starts_with(b"absent");
    let records = u8::from(kind == A && !absent);
    let code = if absent { 3 } else { 0 };
    let mut packet = vec![query[0], query[1], 0x81, 0x80 | code];
    packet.extend([0, 1, 0, records, 0, 0, 0, 0]);
    packet.extend(&query[12..end]);
    if records == 1 {
        packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        packet.extend(answer.octets());
    }
    packet
}

fn bind(host: u8) -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::new(127, 0, 53, host), 0)).unwrap()
}

/// A second socket with the same port, as resolv.conf can only name addresses.
fn bind_beside(host: u8, port: u16) -> Option<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::new(127, 0, 53, host), port)).ok()
}

fn resolver(dir: &TempDir, port: u16) -> Resolver {
    Resolver::over(Files {
        resolv_conf: dir.path().join("resolv.conf"),
        hosts: dir.path().join("hosts"),
        port,
    })
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn literals_and_localhost_need_no_server() {
    let dir = TempDir::new().unwrap();
    let resolver = resolver(&dir, 9);
    for (name, expected) in [
        ("192.0.2.7", vec![ip("192.0.2.7")]),
        ("2001:db8::1", vec![ip("2001:db8::1")]),
        ("[2001:db8::1]", vec![ip("2001:db8::1")]),
        ("localhost", vec![ip("127.0.0.1"), ip("::1")]),
        ("app.LOCALHOST.", vec![ip("127.0.0.1"), ip("::1")]),
    ] {
        assert_eq!(resolver.lookup(name).await.unwrap(), expected, "{name}");
    }
}

#[tokio::test]
async fn hosts_file_answers_before_dns_and_without_it() {
    let dir = TempDir::new().unwrap();
    let resolver = resolver(&dir, 9);
    write(
        dir.path(),
        "hosts",
        "192.0.2.1 Logs-A.example logs-a\n2001:db8::2 logs-a.example\n",
    );
    let both = vec![ip("192.0.2.1"), ip("2001:db8::2")];
    assert_eq!(resolver.lookup("logs-a.example").await.unwrap(), both);
    assert_eq!(resolver.lookup("LOGS-A.example.").await.unwrap(), both);
    assert_eq!(resolver.lookup("logs-a").await.unwrap(), [ip("192.0.2.1")]);
}

#[tokio::test]
async fn a_missing_resolv_conf_is_an_error_until_it_appears() {
    let dir = TempDir::new().unwrap();
    let socket = bind(1);
    let port = socket.local_addr().unwrap().port();
    let server = Server::start(socket, Ipv4Addr::new(192, 0, 2, 10));
    let resolver = resolver(&dir, port);

    let error = resolver.lookup("logs.example").await.unwrap_err();
    let text = Chain(&error).to_string();
    assert!(
        text.starts_with("cannot resolve logs.example: no name server: cannot read"),
        "{text}"
    );
    write(dir.path(), "resolv.conf", "search lan\n");
    let text = Chain(&resolver.lookup("logs.example").await.unwrap_err()).to_string();
    assert!(text.contains("names none"), "{text}");

    write(dir.path(), "resolv.conf", "nameserver 127.0.53.1\n");
    let found = resolver.lookup("logs.example").await.unwrap();
    assert_eq!(found, [ip("192.0.2.10")]);

    let asked = server.asked();
    resolver.lookup("logs.example").await.unwrap();
    assert_eq!(
        server.asked(),
        asked,
        "the second answer comes from the cache"
    );
}

#[tokio::test]
async fn a_changed_resolv_conf_brings_the_new_server_in() {
    let dir = TempDir::new().unwrap();
    let (first, port, second) = loop {
        let first = bind(2);
        let port = first.local_addr().unwrap().port();
        if let Some(second) = bind_beside(3, port) {
            break (first, port, second);
        }
    };
    let _first = Server::start(first, Ipv4Addr::new(192, 0, 2, 20));
    let _second = Server::start(second, Ipv4Addr::new(192, 0, 2, 30));
    let resolver = resolver(&dir, port);
    write(dir.path(), "a.conf", "nameserver 127.0.53.2\n");
    write(dir.path(), "b.conf", "nameserver 127.0.53.3\n");
    let link = dir.path().join("resolv.conf");
    std::os::unix::fs::symlink("a.conf", &link).unwrap();
    assert_eq!(
        resolver.lookup("logs.example").await.unwrap(),
        [ip("192.0.2.20")]
    );

    // As systemd-resolved and network managers do it: another target behind the link.
    let other = dir.path().join("other");
    std::os::unix::fs::symlink("b.conf", &other).unwrap();
    fs::rename(other, link).unwrap();
    let started = Instant::now();
    while resolver.lookup("logs.example").await.unwrap() != [ip("192.0.2.30")] {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "still the old server"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_absent_name_is_not_found_and_says_which() {
    let dir = TempDir::new().unwrap();
    let socket = bind(4);
    let port = socket.local_addr().unwrap().port();
    let _server = Server::start(socket, Ipv4Addr::new(192, 0, 2, 40));
    write(dir.path(), "resolv.conf", "nameserver 127.0.53.4\n");
    let error = resolver(&dir, port)
        .lookup("absent.example")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        Chain(&error).to_string(),
        "cannot resolve absent.example: no such name, or it has no address"
    );
}

#[tokio::test]
async fn a_silent_server_costs_no_more_than_the_deadline() {
    let dir = TempDir::new().unwrap();
    let silent = bind(5);
    let port = silent.local_addr().unwrap().port();
    write(
        dir.path(),
        "resolv.conf",
        "nameserver 127.0.53.5\noptions timeout:30\n",
    );
    let started = Instant::now();
    let error = resolver(&dir, port)
        .lookup("logs.example")
        .await
        .unwrap_err();
    assert!(
        started.elapsed() < super::DEADLINE + Duration::from_secs(2),
        "{error}"
    );
    assert!(error.to_string().contains("logs.example"), "{error}");
    drop(silent);
}

#[tokio::test]
async fn what_is_no_name_is_refused() {
    let dir = TempDir::new().unwrap();
    let resolver = resolver(&dir, 9);
    for name in ["", ".", "a..b", &"x".repeat(70)] {
        let error = resolver.lookup(name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}: {error}");
    }
}

#[test]
fn repeated_silence_makes_the_servers_connections_anew() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "resolv.conf", "nameserver 127.0.53.6\n");
    let shared = resolver(&dir, 9).shared;
    let first = shared.view();
    shared.account(&Err(Cause::Deadline));
    shared.account(&Err(Cause::Deadline));
    shared.account(&Err(Cause::Absent));
    shared.account(&Err(Cause::Deadline));
    shared.account(&Err(Cause::Deadline));
    assert!(
        Arc::ptr_eq(&first, &shared.view()),
        "an answer came between"
    );
    shared.account(&Err(Cause::Dns("refused".into())));
    assert!(!Arc::ptr_eq(&first, &shared.view()));
}
