//! What stands between Docker and the registry: passes requests on, remembers
//! them, and does wrong what a test asks for.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::agent::free_port;

/// No request of a test takes longer.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What is done to a request in place of passing it on.
#[derive(Clone)]
pub enum Fault {
    /// Status line, headers and body, as on the wire.
    Answer(&'static str),
    /// So many bytes of the answer, then nothing until the client goes.
    StallAfter(usize),
    /// So many bytes of the answer, then the connection is closed.
    CloseAfter(usize),
}

#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub method: String,
    pub path: String,
}

#[derive(Default)]
struct State {
    /// For requests whose path has this in it, so many times. A HEAD that goes before a GET of
    /// the same is no try of its own.
    faults: Vec<(&'static str, usize, Fault)>,
    requests: Vec<Request>,
    /// Answers that stalled so far.
    n_stalled: usize,
}

pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Serves until the process ends.
    pub fn start(registry: SocketAddr) -> Proxy {
        let address = free_port();
        let listener = TcpListener::bind(address).unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = shared.clone();
                // A client that goes in the middle is no fault of the proxy.
                std::thread::spawn(move || serve(client, registry, &state).unwrap_or_default());
            }
        });
        Proxy { address, state }
    }

    pub fn fault(&self, path: &'static str, times: usize, fault: Fault) {
        self.state.lock().unwrap().faults.push((path, times, fault));
    }

    pub fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Requests for this, such as `/manifests/`.
    pub fn asked(&self, path: &str) -> Vec<Request> {
        let mut all = self.requests();
        all.retain(|request| request.path.contains(path));
        all
    }

    pub fn n_stalled(&self) -> usize {
        self.state.lock().unwrap().n_stalled
    }
}

fn serve(mut client: TcpStream, registry: SocketAddr, state: &Mutex<State>) -> std::io::Result<()> {
    client.set_read_timeout(Some(TIMEOUT))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        // Docker tries TLS first; a registry without it closes as well.
        if client.read(&mut byte)? == 0 || byte[0] == 0x16 && head.is_empty() {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let request = Request {
        at: Instant::now(),
        method: words.next().unwrap_or_default().to_owned(),
        path: words.next().unwrap_or_default().to_owned(),
    };
    let fault = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        let meant = state.faults.iter_mut().find(|(path, left, _)| {
            *left > 0 && request.method != "HEAD" && request.path.contains(path)
        });
        meant.map(|(_, left, fault)| {
            *left -= 1;
            fault.clone()
        })
    };
    if let Some(Fault::Answer(answer)) = fault {
        client.write_all(answer.as_bytes())?;
        return client.shutdown(Shutdown::Write);
    }
    let mut upstream = TcpStream::connect(registry)?;
    upstream.set_read_timeout(Some(TIMEOUT))?;
    let kept = head
        .lines()
        .filter(|line| !line.to_lowercase().starts_with("connection:"));
    let kept: Vec<&str> = kept.filter(|line| !line.is_empty()).collect();
    let forward = format!("{}\r\nConnection: close\r\n\r\n", kept.join("\r\n"));
    upstream.write_all(forward.as_bytes())?;
    let limit = match fault {
        Some(Fault::StallAfter(n) | Fault::CloseAfter(n)) => n,
        _ => usize::MAX,
    };
    let mut buffer = vec![0; 16 << 10];
    let mut sent = 0;
    while sent < limit {
        let most = buffer.len().min(limit - sent);
        let n = upstream.read(&mut buffer[..most])?;
        if n == 0 {
            break;
        }
        client.write_all(&buffer[..n])?;
        sent += n;
    }
    if let Some(Fault::StallAfter(_)) = fault
        && sent == limit
    {
        state.lock().unwrap().n_stalled += 1;
        while client.read(&mut byte).is_ok_and(|n| n > 0) {}
    }
    client.shutdown(Shutdown::Both)
}
