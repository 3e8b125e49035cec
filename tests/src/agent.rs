//! The real agent, in a place of its own: directories, ports and sockets that nobody else has.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use crate::program::{command, workspace};
use crate::{http, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// The binary under test: `AGENT_BIN`, else what `packaging/build` left.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("AGENT_BIN").map_or_else(|| "dist/agent".into(), PathBuf::from);
    let path = workspace().join(path);
    let shown = path.display();
    assert!(
        path.is_file(),
        "{shown} is not there: run packaging/build, or set AGENT_BIN"
    );
    path
}

/// A port that was free a moment ago, and that nobody else in this process was given. Below the
/// range from which the kernel takes ports for outgoing connections.
pub fn free_port() -> SocketAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let own = std::process::id().wrapping_mul(131);
    loop {
        let next = own.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + u16::try_from(next % 20_000).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Where an agent lives; outlives its runs.
pub struct Place {
    dir: TempDir,
    pub metrics: SocketAddr,
    pub heartbeat: SocketAddr,
    pub forward: SocketAddr,
    /// What the fixed part of the config says of `[docker]` and `[cloud]`.
    pub docker_socket: PathBuf,
    pub cloud: String,
}

impl Default for Place {
    fn default() -> Place {
        Place::new()
    }
}

impl Place {
    /// No Docker (a socket that does not exist) and no metadata, until told otherwise.
    pub fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("agent-").tempdir().unwrap();
        Place {
            docker_socket: dir.path().join("no-docker.sock"),
            dir,
            metrics: free_port(),
            heartbeat: free_port(),
            forward: free_port(),
            cloud: "imds = false".into(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn control(&self) -> PathBuf {
        self.path("control.sock")
    }

    pub fn config(&self) -> PathBuf {
        self.path("agent.toml")
    }

    pub fn forward_socket(&self) -> PathBuf {
        self.path("forward.sock")
    }

    /// Writes the config: the place's own addresses, then `rest`.
    pub fn write(&self, rest: &str) {
        let head = format!(
            "[agent]\nstate_dir = \"{}\"\ncontrol = \"{}\"\n\
             [cloud]\n{}\n[docker]\nsocket = \"{}\"\n\
             [metrics]\nlisten = [\"{}\"]\n[heartbeat]\nlisten = [\"{}\"]\n\
             [logs.inputs.docker]\nlisten = [\"{}\", \"unix:{}\"]\n",
            self.path("state").display(),
            self.control().display(),
            self.cloud,
            self.docker_socket.display(),
            self.metrics,
            self.heartbeat,
            self.forward,
            self.forward_socket().display(),
        );
        fs::write(self.config(), format!("{head}{rest}")).unwrap();
    }

    /// Writes the config and starts the agent; returns when it says READY.
    pub fn start(&self, rest: &str) -> Agent<'_> {
        self.write(rest);
        let mut agent = self.spawn();
        agent.wait_ready();
        agent
    }

    /// Starts the agent with the config that is there.
    pub fn spawn(&self) -> Agent<'_> {
        let config = self.config();
        self.spawn_with(&[], &["run", "--config", &config.to_string_lossy()], &[])
    }

    /// Starts `wrapper… agent arguments…`; the wrapper has to exec.
    pub fn spawn_with(
        &self,
        wrapper: &[&str],
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Agent<'_> {
        let notify_path = self.path("notify.sock");
        let _ = fs::remove_file(&notify_path);
        let notify = UnixDatagram::bind(&notify_path).unwrap();
        // An agent that runs as someone else has to reach it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(&notify_path, open).unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        listen(notify, said.clone());
        // An agent never outlives a test that was aborted.
        let mut run = command("setpriv");
        run.args(["--pdeathsig", "KILL"]).args(wrapper);
        let child = run
            .arg(binary())
            .args(arguments)
            .env("NOTIFY_SOCKET", &notify_path)
            .env("AWS_EC2_METADATA_DISABLED", "false")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(self.path("stdout")).unwrap())
            .stderr(File::create(self.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Agent {
            place: self,
            child,
            said,
        }
    }

    /// Runs another command of the agent against this place's control socket.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        command(binary())
            .args(arguments)
            .env("AGENT_SOCKET", self.control())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }
}

/// One run of it. Dropped: killed.
pub struct Agent<'a> {
    place: &'a Place,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Agent<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.place.read("stdout")
    }

    pub fn stderr(&self) -> String {
        self.place.read("stderr")
    }

    /// Everything told to the service manager so far, one assignment each.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    pub fn wait_said(&mut self, line: &str) {
        wait::until(&format!("the agent says {line}"), || {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() {
                // Its last words may still be on their way to the thread that keeps them.
                std::thread::sleep(Duration::from_millis(100));
            }
            let is_said = self.said().iter().any(|said| said == line);
            if let (Some(status), false) = (ended, is_said) {
                panic!("the agent ended, {status}, before it said {line}");
            }
            is_said.then_some(())
        });
    }

    pub fn wait_ready(&mut self) {
        self.wait_said("READY=1");
    }

    /// `GET /status` of the control socket.
    pub fn status(&self) -> Value {
        let reply = http::request_unix(&self.place.control(), "GET", "/status").unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// What status says of one container.
    pub fn container(&self, name: &str) -> Value {
        let status = self.status();
        let list = status["containers"].as_array().unwrap();
        let found = list.iter().find(|one| one["name"] == name);
        found
            .unwrap_or_else(|| panic!("no container {name} in {status}"))
            .clone()
    }

    /// Waits until the container is in that state and, where it is probed, ready.
    pub fn wait_well(&self, name: &str) -> Value {
        wait::until(&format!("{name} is well"), || {
            Some(self.container(name))
                .filter(|one| one["state"] == "running" && one["well"] == true)
        })
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// kill -9, as the kernel does it when memory is short.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn wait_end(&mut self, patience: Duration) -> ExitStatus {
        wait::until_within(patience, "the agent ends", || {
            self.child.try_wait().unwrap()
        })
    }

    /// SIGTERM, then its exit code.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_end(Duration::from_secs(20))
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- stderr of the agent ---\n{}", tail(&self.stderr()));
            if let Ok(reply) = http::request_unix(&self.place.control(), "GET", "/status") {
                eprintln!("--- status ---\n{}", reply.text());
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps what is said until the socket's file is gone and nobody sends any more.
fn listen(notify: UnixDatagram, said: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = notify.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let mut said = said.lock().unwrap();
            said.extend(text.lines().map(str::to_owned));
        }
    });
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
