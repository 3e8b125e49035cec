//! What peers and leftovers may do to the agent's sockets: starve nobody, hold up no stop.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use tests::agent::Place;
use tests::http;

/// More than one listener serves at once.
const MANY: usize = 80;

/// Peers that never get further than half a request.
fn stuck(address: SocketAddr) -> Vec<TcpStream> {
    let connect = || {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(b"GET /half HT").unwrap();
        peer
    };
    (0..MANY).map(|_| connect()).collect()
}

/// Peers that ask and ask and read no answer.
fn deaf(address: SocketAddr) -> Vec<TcpStream> {
    let connect = || {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_nonblocking(true).unwrap();
        let requests = b"GET /heartbeat HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
        while peer.write(&requests).is_ok() {}
        peer
    };
    (0..MANY).map(|_| connect()).collect()
}

#[test]
fn stuck_peers_neither_starve_the_heartbeat_nor_hold_up_a_stop() {
    let place = Place::new();
    let agent = place.start("");
    let kinds = [("stuck", stuck as fn(_) -> _), ("deaf", deaf)];
    let mut peers = Vec::new();
    for (kind, make) in kinds {
        peers.push(make(place.heartbeat));
        let reply = http::get(place.heartbeat, "/livez", &[]);
        assert_eq!(reply.unwrap().status, 200, "{kind}");
    }
    peers.push(stuck(place.metrics));
    let begun = Instant::now();
    assert!(agent.stop().success());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(6), "the stop took {took:?}");
}

#[test]
fn a_stop_leaves_no_control_socket_unless_it_is_anothers_by_now() {
    let place = Place::new();
    let agent = place.start("");
    assert!(place.control().exists());
    assert!(agent.stop().success());
    assert!(!place.control().exists());

    let agent = place.start("");
    std::fs::remove_file(place.control()).unwrap();
    let another = UnixListener::bind(place.control()).unwrap();
    assert!(agent.stop().success());
    assert!(place.control().exists());
    drop(another);
}
