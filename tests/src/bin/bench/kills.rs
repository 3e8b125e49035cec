//! How fast a killed container is back: the agent beside Docker's own policy, the classic unit
//! and the floor, interleaved in one run.
//!
//! Each way counts from `kill -9` of the main process to the first instruction of the next one,
//! which writes to a FIFO that is mounted into the container.

use crate::containers::{IMAGE, docker, make_image, remove, wait_running};
use crate::process::{Run, free_port, median, millis, p90};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const SCRIPT: &str = "echo up > /out/fifo; exec /bin/sleep 1000";
const SOCKET: &str = "/var/run/docker.sock";
/// So long a container runs before it is killed: by then `docker run` has returned, and the
/// agent's watch is open.
const SETTLE: Duration = Duration::from_millis(300);

/// The container's network: the host's, or the bridge with this port published.
#[derive(Clone, Copy)]
enum Network {
    Host,
    Published(u16),
}

impl Network {
    fn word(self) -> &'static str {
        match self {
            Network::Host => "host network",
            Network::Published(_) => "published port",
        }
    }

    fn option(self) -> String {
        match self {
            Network::Host => "--network=host".into(),
            Network::Published(port) => format!("--publish={port}:8080"),
        }
    }

    fn config(self) -> String {
        match self {
            Network::Host => "network_mode = \"host\"".into(),
            Network::Published(port) => format!("ports = [\"{port}:8080\"]"),
        }
    }

    fn host_config(self) -> String {
        match self {
            Network::Host => "\"NetworkMode\":\"host\"".into(),
            Network::Published(port) => {
                format!("\"PortBindings\":{{\"8080/tcp\":[{{\"HostPort\":\"{port}\"}}]}}")
            }
        }
    }
}

/// One network's ways and what they took.
struct Ways {
    network: Network,
    fifo: Fifo,
    classic: Classic,
    agent: Vec<Duration>,
    policy: Vec<Duration>,
    unit: Vec<Duration>,
    floor: Vec<Duration>,
    least: Vec<Duration>,
}

pub fn kill_to_running(agent: &Path, tries: usize) -> Result<()> {
    make_image()?;
    let mut all = Vec::new();
    for (network, name) in [
        (Network::Host, "agent-bench-unit-h"),
        (Network::Published(free_port()), "agent-bench-unit-p"),
    ] {
        // The loop goes on all the while, so its port is its own.
        let own = match network {
            Network::Published(_) => Network::Published(free_port()),
            host => host,
        };
        all.push(Ways {
            network,
            fifo: Fifo::make()?,
            classic: Classic::start(own, name)?,
            agent: Vec::new(),
            policy: Vec::new(),
            unit: Vec::new(),
            floor: Vec::new(),
            least: Vec::new(),
        });
    }
    for round in 0..tries {
        for ways in &mut all {
            // Another one begins each time: none always follows the same.
            for turn in 0..5 {
                match (round + turn) % 5 {
                    0 => ways.agent.push(by_agent(agent, ways.network, &ways.fifo)?),
                    1 => ways.policy.push(by_policy(ways.network, &ways.fifo)?),
                    2 => ways.unit.push(ways.classic.kill()?),
                    3 => ways.floor.push(by_api(ways.network, &ways.fifo)?),
                    _ => ways.least.push(by_event(ways.network, &ways.fifo)?),
                }
            }
        }
    }
    for ways in &mut all {
        println!(
            "restart     kill -9 to the next main process, {}, {tries} tries each, interleaved: median (p90)",
            ways.network.word()
        );
        let ours = millis(median(&mut ways.agent));
        let show = |what: &str, times: &mut Vec<Duration>, bound: &str| {
            let theirs = millis(median(times));
            println!(
                "            {what:<34} {theirs:>5.0} ms ({:.0}){}",
                millis(p90(times)),
                match what {
                    "agent" => String::new(),
                    _ => format!(": the agent takes {:.2} of it{bound}", ours / theirs),
                }
            );
        };
        show("agent", &mut ways.agent, "");
        let policy = " (bound 0.75)";
        show("docker run --restart=always", &mut ways.policy, policy);
        let unit = " (bound 0.60)";
        show("unit: kill; rm -f; run; 100 ms", &mut ways.unit, unit);
        show("floor: API create + start alone", &mut ways.floor, "");
        show("die event, then create + start", &mut ways.least, "");
    }
    Ok(())
}

/// Each kill gets an agent and a container of its own: a second kill within a minute would
/// rightly wait on the ladder.
fn by_agent(agent: &Path, network: Network, fifo: &Fifo) -> Result<Duration> {
    let name = "agent-bench-app";
    let config = format!(
        "[containers.{name}]\nimage = \"{IMAGE}\"\n{}\nvolumes = [\"{}\"]\n\
         command = [\"/bin/sh\", \"-c\", \"{SCRIPT}\"]\n",
        network.config(),
        fifo.volume()
    );
    let run = Run::start(agent, &config, true)?;
    fifo.next()?;
    let took = kill_and_wait(wait_running(name, None)?, fifo);
    drop(run);
    remove(name);
    took
}

/// Docker's own policy doubles its delay; each kill gets a container of its own.
fn by_policy(network: Network, fifo: &Fifo) -> Result<Duration> {
    let name = "agent-bench-peer";
    remove(name);
    let (network, volume) = (network.option(), fifo.volume());
    let run = ["run", "-d", "--restart=always", "--name", name, &network];
    let what = ["-v", &volume, IMAGE, "/bin/sh", "-c", SCRIPT];
    docker(&[&run[..], &what].concat())?;
    fifo.next()?;
    let took = kill_and_wait(wait_running(name, None)?, fifo);
    remove(name);
    took
}

/// Nothing is killed here: what Docker itself takes to make and start a container.
fn by_api(network: Network, fifo: &Fifo) -> Result<Duration> {
    let name = "agent-bench-floor";
    remove(name);
    let body = body(network, fifo);
    let began = Instant::now();
    make(name, &body)?;
    let took = fifo.next()?.duration_since(began);
    remove(name);
    Ok(took)
}

fn body(network: Network, fifo: &Fifo) -> String {
    format!(
        "{{\"Image\":\"{IMAGE}\",\"Cmd\":[\"/bin/sh\",\"-c\",\"{SCRIPT}\"],\
         \"ExposedPorts\":{{\"8080/tcp\":{{}}}},\
         \"HostConfig\":{{\"Binds\":[\"{}\"],{}}}}}",
        fifo.volume(),
        network.host_config()
    )
}

fn make(name: &str, body: &str) -> Result<()> {
    post(&format!("/containers/create?name={name}"), body)?;
    post(&format!("/containers/{name}/start"), "")
}

/// The least that any supervisor needs: it hears of the death and at once has Docker make and
/// start the next one, which waits there until the network of the dead one is taken down.
fn by_event(network: Network, fifo: &Fifo) -> Result<Duration> {
    let (name, next) = ("agent-bench-least", "agent-bench-next");
    remove(name);
    remove(next);
    let body = body(network, fifo);
    make(name, &body)?;
    fifo.next()?;
    let pid = wait_running(name, None)?;
    let mut events = UnixStream::connect(SOCKET)?;
    let wanted =
        format!("%7B%22container%22%3A%5B%22{name}%22%5D%2C%22event%22%3A%5B%22die%22%5D%7D");
    write!(
        events,
        "GET /events?filters={wanted} HTTP/1.1\r\nHost: docker\r\n\r\n"
    )?;
    thread::sleep(SETTLE);
    let began = Instant::now();
    kill_process(Pid::from_raw(pid as i32).context("no pid")?, Signal::KILL)?;
    for line in BufReader::new(events).lines() {
        if line?.contains("\"die\"") {
            break;
        }
    }
    make(next, &body)?;
    let took = fifo.next()?.duration_since(began);
    remove(name);
    remove(next);
    Ok(took)
}

fn post(path: &str, body: &str) -> Result<()> {
    let mut stream = UnixStream::connect(SOCKET)?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 20"), "POST {path}: {answer}");
    Ok(())
}

fn kill_and_wait(pid: u32, fifo: &Fifo) -> Result<Duration> {
    thread::sleep(SETTLE);
    let began = Instant::now();
    kill_process(Pid::from_raw(pid as i32).context("no pid")?, Signal::KILL)?;
    Ok(fifo.next()?.duration_since(began))
}

/// What systemd does with the unit of old: ExecStartPre= docker kill and docker rm -f,
/// ExecStart= docker run --rm in the foreground, RestartSec= its default of 100 ms.
struct Classic {
    shell: Child,
    name: &'static str,
    fifo: Fifo,
    last: Option<u32>,
}

impl Classic {
    fn start(network: Network, name: &'static str) -> Result<Classic> {
        let fifo = Fifo::make()?;
        let script = "while :; do docker kill \"$1\"; docker rm -f \"$1\"; \
                      docker run --rm --name \"$@\"; sleep 0.1; done";
        let shell = Command::new("sh")
            .args(["-c", script, "sh", name, &network.option()])
            .args(["-v", &fifo.volume(), IMAGE, "/bin/sh", "-c", SCRIPT])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let classic = Classic {
            shell,
            name,
            fifo,
            last: None,
        };
        classic.fifo.next()?;
        Ok(classic)
    }

    fn kill(&mut self) -> Result<Duration> {
        let pid = wait_running(self.name, self.last)?;
        self.last = Some(pid);
        kill_and_wait(pid, &self.fifo)
    }
}

impl Drop for Classic {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        remove(self.name);
    }
}

struct Fifo {
    dir: tempfile::TempDir,
    lines: mpsc::Receiver<Instant>,
}

impl Fifo {
    fn make() -> Result<Fifo> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("fifo");
        let made = Command::new("mkfifo").arg(&path).status()?;
        ensure!(made.success(), "mkfifo failed");
        // Read and write: the reader never sees an end while containers come and go.
        let file = fs::OpenOptions::new().read(true).write(true).open(&path)?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(file).lines() {
                if line.is_err() || sender.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        Ok(Fifo { dir, lines })
    }

    fn volume(&self) -> String {
        format!("{}:/out", self.dir.path().display())
    }

    fn next(&self) -> Result<Instant> {
        self.lines
            .recv_timeout(Duration::from_secs(30))
            .context("the container's main process did not come up")
    }
}
