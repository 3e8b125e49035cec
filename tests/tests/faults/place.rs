//! Where a scenario plays: an agent's place, a proxy of its own, and a dockerd that scenarios share.

use serde_json::Value;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tests::agent::{Agent, Place};
use tests::daemon::Daemon;
use tests::proxy::Proxy;
use tests::{http, wait};

/// A daemon whose starting thread lives as long as it: the kernel ends it with that thread.
pub struct Shared {
    daemon: Daemon,
    _thread: Sender<()>,
}

impl Deref for Shared {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// The daemon of scenarios that leave it alone; each uses names of its own.
fn shared() -> Arc<Shared> {
    let mut known = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = known.upgrade() {
        return shared;
    }
    let (started, daemon) = channel();
    let (hold, end) = channel::<()>();
    std::thread::spawn(move || {
        let _ = started.send(Daemon::start(&["app"]));
        // Until the other end is dropped.
        let _ = end.recv();
    });
    let shared = Arc::new(Shared {
        daemon: daemon.recv().expect("no daemon"),
        _thread: hold,
    });
    *known = Arc::downgrade(&shared);
    shared
}

pub struct Stage {
    pub place: Place,
    pub proxy: Proxy,
    pub daemon: Arc<Shared>,
}

impl Stage {
    pub fn new() -> Stage {
        let daemon = shared();
        let (place, proxy) = before(&daemon);
        Stage {
            place,
            proxy,
            daemon,
        }
    }

    /// Names of all containers that begin with `prefix`, dead ones too.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        names(&self.daemon, prefix)
    }

    pub fn order(&self, words: &[&str]) {
        let done = self.place.cli(words);
        assert_eq!(done.status.code(), Some(0), "{words:?}: {done:?}");
    }

    /// What of the metrics page begins with that.
    pub fn metric(&self, series: &str) -> Option<String> {
        let page = http::get(self.place.metrics, "/metrics", &[])
            .unwrap()
            .text();
        let line = page.lines().find_map(|line| line.strip_prefix(series))?;
        Some(line.trim().to_owned())
    }

    /// The audit log as `agent events` shows it.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let shown = self.place.cli(&["events", name, "--json", "-n", "500"]);
        let text = String::from_utf8(shown.stdout).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

pub fn names(daemon: &Daemon, prefix: &str) -> Vec<String> {
    let all = daemon.docker(&["ps", "-a", "--format", "{{.Names}}"]);
    let all = all.lines().filter(|name| name.starts_with(prefix));
    let mut names: Vec<String> = all.map(str::to_owned).collect();
    names.sort();
    names
}

/// A place whose agent reaches that daemon by a proxy.
pub fn before(daemon: &Daemon) -> (Place, Proxy) {
    let mut place = Place::new();
    place.docker_socket = place.path("docker.sock");
    let proxy = Proxy::start(&daemon.socket(), &place.docker_socket);
    (place, proxy)
}

/// The app of tests/images, with a short grace.
pub fn app(name: &str, extra: &str) -> String {
    let mut head = format!("[containers.\"{name}\"]\nimage = \"agent-test/app:1\"\n");
    for (key, line) in [
        ("entrypoint", "entrypoint = [\"/app\"]\n"),
        ("stop_grace_period", "stop_grace_period = \"3s\"\n"),
    ] {
        if !extra.contains(key) {
            head.push_str(line);
        }
    }
    format!("{head}{extra}\n")
}

/// The app behind a port of the host, with a quick readiness probe and tables of its own below.
pub fn served(name: &str, port: SocketAddr, extra: &str) -> String {
    let port = port.port();
    app(name, &format!("ports = [\"{port}:8080\"]\n{extra}"))
        + &format!(
            "[containers.\"{name}\".probes]\nreadiness = {{ http = \":{port}/heartbeat\", period = \"300ms\", timeout = \"2s\", failures = 2 }}\n"
        )
}

/// One that works for so long and ends with that code.
pub fn brief(name: &str, seconds: u32, code: u32) -> String {
    app(
        name,
        &format!("command = [\"job\", \"{seconds}\", \"{code}\"]"),
    )
}

pub fn state(agent: &Agent<'_>, name: &str) -> String {
    agent.container(name)["state"].as_str().unwrap().to_owned()
}

pub fn wait_state(agent: &Agent<'_>, name: &str, wanted: &str) -> Value {
    wait::until(&format!("{name} is {wanted}"), || {
        Some(agent.container(name)).filter(|now| now["state"] == wanted)
    })
}

pub fn restarts(agent: &Agent<'_>, name: &str) -> u64 {
    agent.container(name)["restarts"].as_u64().unwrap()
}

pub fn message(agent: &Agent<'_>, name: &str) -> String {
    let now = agent.container(name);
    now["message"].as_str().unwrap_or_default().to_owned()
}

/// Waits for another run than that one.
pub fn wait_other(agent: &Agent<'_>, before: &Value) -> Value {
    let name = before["name"].as_str().unwrap();
    wait::until(&format!("{name} runs anew"), || {
        Some(agent.container(name)).filter(|now| {
            now["state"] == "running" && now["pid"].is_i64() && now["pid"] != before["pid"]
        })
    })
}

pub fn heartbeat(place: &Place) -> Option<u16> {
    http::get(place.heartbeat, "/heartbeat", &[])
        .ok()
        .map(|reply| reply.status)
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
