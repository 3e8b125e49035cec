//! A proxy on Docker's unix socket that does wrong what a test asks for, and remembers every call.
//!
//! What no rule matches passes byte for byte: chunked streams, and connections that leave HTTP
//! (exec, attach). Only `/events` is taken apart, event by event, as events may be lost, doubled or
//! swapped. Requests are told apart by the client's side alone: Docker's clients never send a
//! request before the answer to the one before.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is done to a request in place of passing it on.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Passed on that much later.
    Delay(Duration),
    /// Answered with that status and body; Docker never hears of it.
    Fail(u16, &'static str),
    /// The connection ends; Docker never hears of it.
    CutBefore,
    /// Docker does it; the connection ends in place of the answer.
    CutAfter,
    /// Docker never hears of it, and the client hears nothing until [`Proxy::heal`] ends its connection.
    Hold,
    /// Docker does it, and the client hears nothing until [`Proxy::heal`] ends its connection.
    HoldAnswer,
}

/// What is done to the stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    Faithful,
    Lost,
    /// Those in which that text is are lost.
    Without(&'static str),
    Doubled,
    /// Each pair arrives the wrong way round.
    Swapped,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub at: Instant,
    pub method: String,
    /// With its query, without the version: `/containers/create?name=app`.
    pub path: String,
}

impl Call {
    /// What may change something.
    pub fn mutates(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD")
    }
}

struct Rule {
    method: &'static str,
    path: String,
    times: usize,
    fault: Fault,
}

struct State {
    rules: Vec<Rule>,
    calls: Vec<Call>,
    events: Events,
    /// Requests and answers that are being held.
    n_held: usize,
    /// Counted up by each [`Proxy::heal`].
    healed: u64,
    clients: Vec<UnixStream>,
}

struct Shared {
    docker: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the next heal.
    fn hold(&self) {
        let mut state = self.lock();
        let now = state.healed;
        state.n_held += 1;
        self.changed.notify_all();
        while state.healed == now {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.n_held -= 1;
    }

    fn note(&self, method: &str, path: &str) -> Option<Fault> {
        let mut state = self.lock();
        state.calls.push(Call {
            at: Instant::now(),
            method: method.into(),
            path: path.into(),
        });
        let rule = state.rules.iter_mut().find(|rule| {
            rule.times > 0
                && path.contains(&rule.path)
                && (rule.method.is_empty() || rule.method == method)
        })?;
        rule.times -= 1;
        Some(rule.fault)
    }
}

/// Serves until the process ends; its connections end with it.
pub struct Proxy {
    socket: PathBuf,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on `socket` before the Docker on `docker`.
    pub fn start(docker: &Path, socket: &Path) -> Proxy {
        let listener = UnixListener::bind(socket).unwrap();
        let shared = Arc::new(Shared {
            docker: docker.into(),
            state: Mutex::new(State {
                rules: Vec::new(),
                calls: Vec::new(),
                events: Events::Faithful,
                n_held: 0,
                healed: 0,
                clients: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let all = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = all.clone();
                if let Ok(copy) = client.try_clone() {
                    shared.lock().clients.push(copy);
                }
                std::thread::spawn(move || {
                    // A client or a Docker that goes in the middle is no fault of the proxy.
                    let _ = serve(&client, &shared);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Proxy {
            socket: socket.into(),
            shared,
        }
    }

    /// The next `times` requests of that method (empty: any) whose path has `path` in it.
    pub fn fault(&self, method: &'static str, path: &str, times: usize, fault: Fault) {
        self.shared.lock().rules.push(Rule {
            method,
            path: path.into(),
            times,
            fault,
        });
    }

    pub fn events(&self, events: Events) {
        self.shared.lock().events = events;
    }

    /// No more rules; connections that are held end.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        state.rules.clear();
        state.events = Events::Faithful;
        state.healed += 1;
        self.shared.changed.notify_all();
    }

    /// The socket is gone, and so is every connection.
    pub fn hide(&self) {
        fs::rename(&self.socket, self.hidden()).unwrap();
        self.cut();
    }

    pub fn show(&self) {
        fs::rename(self.hidden(), &self.socket).unwrap();
    }

    /// Every connection ends.
    pub fn cut(&self) {
        for client in self.shared.lock().clients.drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    fn hidden(&self) -> PathBuf {
        self.socket.with_extension("hidden")
    }

    /// How many requests and answers are being held.
    pub fn n_held(&self) -> usize {
        self.shared.lock().n_held
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        self.shared.lock().calls.clear();
    }

    /// Calls of that method whose path has `path` in it.
    pub fn called(&self, method: &str, path: &str) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|call| call.method == method && call.path.contains(path));
        calls
    }

    /// `POST /containers/…` of calls that may have changed something.
    pub fn mutations(&self) -> Vec<String> {
        let calls = self.calls().into_iter().filter(Call::mutates);
        calls
            .map(|call| format!("{} {}", call.method, call.path))
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.heal();
        self.cut();
    }
}

/// What the answering side does with what comes from Docker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Pass,
    Events,
    Swallow,
    Keep,
}

fn serve(client: &UnixStream, shared: &Arc<Shared>) -> io::Result<()> {
    let docker = UnixStream::connect(&shared.docker)?;
    let way = Arc::new(Mutex::new(Way::Pass));
    let answering = {
        let (mut from, to) = (docker.try_clone()?, client.try_clone()?);
        let (way, shared) = (way.clone(), shared.clone());
        std::thread::spawn(move || {
            let _ = answer(&mut from, &to, &way, &shared);
            let _ = to.shutdown(Shutdown::Both);
        })
    };
    let asked = ask(client, &docker, &way, shared);
    let how = if asked.is_ok() {
        Shutdown::Write
    } else {
        Shutdown::Both
    };
    let _ = docker.shutdown(how);
    let _ = answering.join();
    asked
}

/// Requests, one after the other, until the client goes or a fault ends the connection.
fn ask(
    client: &UnixStream,
    docker: &UnixStream,
    way: &Mutex<Way>,
    shared: &Shared,
) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut docker = docker;
    let mut client = client;
    while let Some(head) = head(&mut reader)? {
        let request = Request::of(&head);
        let body = request.body(&mut reader)?;
        let mut next = if request.path.starts_with("/events") {
            Way::Events
        } else {
            Way::Pass
        };
        match shared.note(&request.method, &request.path) {
            None => {}
            Some(Fault::Delay(time)) => std::thread::sleep(time),
            Some(Fault::Fail(status, text)) => {
                let length = text.len();
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}"
                );
                client.write_all(answer.as_bytes())?;
                continue;
            }
            Some(Fault::CutBefore) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Fault::Hold) => {
                shared.hold();
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Some(Fault::CutAfter) => next = Way::Swallow,
            Some(Fault::HoldAnswer) => next = Way::Keep,
        }
        *way.lock().unwrap() = next;
        docker.write_all(&head)?;
        docker.write_all(&body)?;
        if request.upgrades {
            // Not HTTP any more; the client may end its half alone.
            io::copy(&mut reader, &mut docker)?;
            return Ok(());
        }
    }
    Ok(())
}

fn answer(
    from: &mut UnixStream,
    to: &UnixStream,
    way: &Mutex<Way>,
    shared: &Shared,
) -> io::Result<()> {
    let mut to = to;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let now = *way.lock().unwrap();
        match now {
            Way::Pass => to.write_all(&buffer[..length])?,
            Way::Swallow => return Ok(()),
            Way::Keep => {
                shared.hold();
                return Ok(());
            }
            Way::Events => {
                let rest = buffer[..length].to_vec();
                return follow(BufReader::new(rest.as_slice().chain(from)), to, shared);
            }
        }
    }
}

/// The stream of events, one JSON object a line.
fn follow(mut from: impl BufRead, mut to: &UnixStream, shared: &Shared) -> io::Result<()> {
    let Some(head) = head(&mut from)? else {
        return Ok(());
    };
    to.write_all(&head)?;
    if !String::from_utf8_lossy(&head)
        .to_lowercase()
        .contains("transfer-encoding: chunked")
    {
        io::copy(&mut from, &mut to)?;
        return Ok(());
    }
    let mut text: Vec<u8> = Vec::new();
    let mut kept: Option<Vec<u8>> = None;
    loop {
        let mut size = String::new();
        from.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size + 2];
        from.read_exact(&mut chunk)?;
        if size == 0 {
            return to.write_all(b"0\r\n\r\n");
        }
        text.extend_from_slice(&chunk[..size]);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let how = shared.lock().events;
            match how {
                Events::Lost => {}
                Events::Without(text) if String::from_utf8_lossy(&line).contains(text) => {}
                Events::Without(_) => send(to, &line)?,
                Events::Faithful => {
                    for line in kept.take().into_iter().chain([line]) {
                        send(to, &line)?;
                    }
                }
                Events::Doubled => {
                    send(to, &line)?;
                    send(to, &line)?;
                }
                Events::Swapped => match kept.take() {
                    None => kept = Some(line),
                    Some(earlier) => {
                        send(to, &line)?;
                        send(to, &earlier)?;
                    }
                },
            }
        }
    }
}

fn send(mut to: &UnixStream, line: &[u8]) -> io::Result<()> {
    let mut chunk = format!("{:x}\r\n", line.len()).into_bytes();
    chunk.extend_from_slice(line);
    chunk.extend_from_slice(b"\r\n");
    to.write_all(&chunk)
}

/// A head with its empty line; None at the end.
fn head(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    loop {
        if from.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
        if head.ends_with(b"\r\n\r\n") {
            return Ok(Some(head));
        }
    }
}

struct Request {
    method: String,
    path: String,
    length: usize,
    chunked: bool,
    upgrades: bool,
}

impl Request {
    fn of(head: &[u8]) -> Request {
        let text = String::from_utf8_lossy(head).into_owned();
        let mut lines = text.lines();
        let mut first = lines.next().unwrap_or_default().split(' ');
        let method = first.next().unwrap_or_default().to_owned();
        let path = unversioned(first.next().unwrap_or_default()).to_owned();
        let mut request = Request {
            method,
            path,
            length: 0,
            chunked: false,
            upgrades: false,
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            match (name.to_lowercase().as_str(), value.trim().to_lowercase()) {
                ("content-length", value) => request.length = value.parse().unwrap_or_default(),
                ("transfer-encoding", value) => request.chunked = value == "chunked",
                ("upgrade", _) => request.upgrades = true,
                _ => {}
            }
        }
        request
    }

    /// As it came, framing included.
    fn body(&self, from: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if !self.chunked {
            from.take(self.length as u64).read_to_end(&mut body)?;
            return Ok(body);
        }
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            body.extend_from_slice(line.as_bytes());
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            from.take(size as u64 + 2).read_to_end(&mut body)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

/// `/v1.41/info` → `/info`.
fn unversioned(path: &str) -> &str {
    let Some(rest) = path.strip_prefix("/v1.") else {
        return path;
    };
    rest.find('/').map_or(path, |slash| &rest[slash..])
}
