//! What passes between the agent and systemd: listeners by name, and the notify socket.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tests::program::{command, workspace};

const PATIENCE: Duration = Duration::from_secs(30);

/// The service manager's end, and the agent that it started.
struct Manager {
    directory: TempDir,
    socket: UnixDatagram,
    agent: Child,
    metrics: u16,
}

fn binary() -> PathBuf {
    let path = match std::env::var_os("AGENT_BIN") {
        Some(path) => path.into(),
        None => workspace().join("dist/agent"),
    };
    let shown = path.display();
    assert!(
        path.is_file(),
        "{shown} is not there: run packaging/build, or set AGENT_BIN"
    );
    path
}

/// Nothing on a fixed port, nothing outside of `directory`.
fn config(directory: &Path) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    format!(
        "[agent]\ncontrol = \"{}\"\n[cloud]\nimds = false\n[heartbeat]\nlisten = [\"unix:{}\"]\n\
         [logs.inputs.docker]\ntype = \"forward\"\nlisten = [\"unix:{}\"]\n",
        at("control.sock"),
        at("heartbeat.sock"),
        at("forward.sock"),
    )
}

impl Manager {
    /// Starts the agent as a unit with a socket named `metrics` and a watchdog of 1.5 s would.
    fn start() -> Manager {
        let directory = TempDir::new().unwrap();
        let notify = directory.path().join("notify");
        let socket = UnixDatagram::bind(&notify).unwrap();
        let file = directory.path().join("agent.toml");
        fs::write(&file, config(directory.path())).unwrap();
        // Free a moment ago; systemd-socket-activate takes a number only.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = free.local_addr().unwrap().port();
        drop(free);
        let mut activate = command("systemd-socket-activate");
        activate.arg(format!("--listen=127.0.0.1:{metrics}"));
        activate.arg("--fdname=metrics");
        activate.arg(format!("--setenv=NOTIFY_SOCKET={}", notify.display()));
        activate.arg("--setenv=WATCHDOG_USEC=1500000");
        activate.arg(binary()).args(["run", "--config"]).arg(file);
        activate
            .arg("--state-dir")
            .arg(directory.path().join("state"));
        activate.stdout(Stdio::null());
        let agent = activate.spawn();
        let agent = agent.expect("apt-get install systemd (tests/run does)");
        Manager {
            directory,
            socket,
            agent,
            metrics,
        }
    }

    /// Waits until the agent says so; what it says before is passed over.
    fn told(&self, wanted: &str) -> String {
        let started = Instant::now();
        let mut packet = [0; 4096];
        while started.elapsed() < PATIENCE {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let left = left.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).unwrap();
            let Ok(n) = self.socket.recv(&mut packet) else {
                break;
            };
            let said = String::from_utf8_lossy(&packet[..n]).into_owned();
            if said.starts_with(wanted) {
                return said;
            }
        }
        panic!("{wanted} was never said");
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.agent.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.agent.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the agent does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Over the socket that we hold; the first connection also starts the agent.
    fn scrape(&self) -> String {
        let started = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", self.metrics)) {
                Ok(stream) => break stream,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

#[test]
fn a_life_under_systemd_is_told_from_ready_to_stopping() {
    let mut manager = Manager::start();
    let metrics = manager.scrape();
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("node_memory_MemTotal_bytes "), "{metrics}");
    manager.told("READY=1");
    manager.told("WATCHDOG=1");

    manager.signal(Signal::HUP);
    let reloading = manager.told("RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    manager.told("READY=1");

    manager.signal(Signal::TERM);
    manager.told("STOPPING=1");
    let status = manager.ended();
    assert!(status.success(), "{status}");
    assert!(manager.directory.path().join("state").is_dir());
}
