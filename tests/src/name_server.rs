//! A DNS server that knows one address: every A question gets it, all else gets no data.

use anyhow::{Context, Result};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// RFC 1035, section 3.2.2.
const A: u16 = 1;
/// The fixed part of a message, section 4.1.1.
const HEADER: usize = 12;

/// Answers until it is dropped.
pub struct NameServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Listens on port 53 of `address`, which needs root, and answers `answer`.
    pub fn start(address: Ipv4Addr, answer: Ipv4Addr) -> Result<NameServer> {
        let socket = UdpSocket::bind((address, 53))
            .with_context(|| format!("cannot serve DNS on {address}:53, which needs root"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while !stopped.load(Ordering::Relaxed) {
                match socket.recv_from(&mut packet) {
                    Ok((n, peer)) => {
                        if let Some(reply) = reply(&packet[..n], answer) {
                            // A peer that is gone needs no answer.
                            let _ = socket.send_to(&reply, peer);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => panic!("name server: {error}"),
                }
            }
        });
        Ok(NameServer {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The answer to the first question, none to what is no query.
fn reply(query: &[u8], answer: Ipv4Addr) -> Option<Vec<u8>> {
    let mut root = HEADER;
    while *query.get(root)? != 0 {
        root += usize::from(query[root]) + 1;
    }
    let question = query.get(HEADER..root + 5)?;
    let kind = u16::from_be_bytes([query[root + 1], query[root + 2]]);
    let n_answers = u8::from(kind == A);
    let mut packet = vec![query[0], query[1], 0x81, 0x80];
    packet.extend([0, 1, 0, n_answers, 0, 0, 0, 0]);
    packet.extend(question);
    if n_answers == 1 {
        // The name of the question, A, IN, one minute, four octets.
        packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        packet.extend(answer.octets());
    }
    Some(packet)
}
