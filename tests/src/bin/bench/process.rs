//! Processes under measurement, and what /proc says of them.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running agent on free ports in a directory of its own.
pub struct Run {
    pub child: Child,
    pub began: Instant,
    pub ready_after: Duration,
    pub metrics: u16,
    pub forward: u16,
    pub heartbeat: u16,
    dir: tempfile::TempDir,
}

impl Run {
    pub fn start(agent: &Path, config: &str, wait_ready: bool) -> Result<Run> {
        Run::start_with(agent, config, wait_ready, true)
    }

    pub fn start_without_metrics(agent: &Path) -> Result<Run> {
        Run::start_with(agent, "", true, false)
    }

    fn start_with(agent: &Path, config: &str, wait_ready: bool, listens: bool) -> Result<Run> {
        let dir = tempfile::tempdir()?;
        let (metrics, forward, heartbeat) = (free_port(), free_port(), free_port());
        let file = dir.path().join("agent.toml");
        let path = dir.path().display();
        let listen = match listens {
            true => format!("\"127.0.0.1:{metrics}\""),
            false => String::new(),
        };
        let own = format!(
            "[agent]\nstate_dir = \"{path}/state\"\ncontrol = \"{path}/control.sock\"\n[cloud]\nimds = false\n\
             [metrics]\nlisten = [{listen}]\n[heartbeat]\nlisten = [\"127.0.0.1:{heartbeat}\"]\n\
             [logs.inputs.docker]\ntype = \"forward\"\nlisten = [\"127.0.0.1:{forward}\"]\n"
        );
        fs::write(&file, own + config)?;
        let socket = notify_socket(dir.path())?;
        let began = Instant::now();
        let mut run = Run {
            child: spawn(agent, dir.path())?,
            began,
            ready_after: Duration::ZERO,
            metrics,
            forward,
            heartbeat,
            dir,
        };
        if wait_ready {
            run.wait_ready(&socket)?;
        }
        run.ready_after = began.elapsed();
        Ok(run)
    }

    /// Ends the agent as systemd does and starts it again on the same state.
    pub fn restart(&mut self, agent: &Path) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("no pid")?;
        kill_process(pid, Signal::TERM)?;
        self.child.wait()?;
        let socket = notify_socket(self.dir.path())?;
        self.began = Instant::now();
        self.child = spawn(agent, self.dir.path())?;
        self.wait_ready(&socket)?;
        self.ready_after = self.began.elapsed();
        Ok(())
    }

    fn wait_ready(&self, socket: &UnixDatagram) -> Result<()> {
        loop {
            let mut message = [0; 4096];
            let read = socket.recv(&mut message).with_context(|| {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                format!("the agent does not say READY:\n{log}")
            })?;
            if message[..read].starts_with(b"READY=1") {
                return Ok(());
            }
        }
    }

    pub fn first_scrape(&self) -> Result<()> {
        scrape_until(self.metrics, self.began)
    }
}

fn notify_socket(dir: &Path) -> Result<UnixDatagram> {
    let path = dir.join("notify");
    let _ = fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(socket)
}

fn spawn(agent: &Path, dir: &Path) -> Result<Child> {
    let mut run = Command::new(agent);
    run.args(["run", "--config"]).arg(dir.join("agent.toml"));
    run.env("NOTIFY_SOCKET", dir.join("notify"));
    let log = fs::File::create(dir.join("log"))?;
    let run = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(run.spawn()?)
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian's node_exporter with its default collectors.
pub struct Exporter {
    pub child: Child,
    pub port: u16,
    pub began: Instant,
}

impl Exporter {
    pub fn start(path: &Path) -> Result<Exporter> {
        let port = free_port();
        let began = Instant::now();
        let child = Command::new(path)
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Exporter { child, port, began })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

pub fn free_port() -> u16 {
    tests::agent::free_port().port()
}

pub fn scrape_until(port: u16, began: Instant) -> Result<()> {
    while began.elapsed() < Duration::from_secs(20) {
        if http_get(port, "/metrics", true).is_ok_and(|body| body.len() > 1000) {
            return Ok(());
        }
        thread::sleep(Duration::from_micros(500));
    }
    bail!("no page on port {port}")
}

pub fn http_get(port: u16, path: &str, gzip: bool) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let accept = if gzip {
        "Accept-Encoding: gzip\r\n"
    } else {
        ""
    };
    // In one write: a second one would wait for the peer's delayed acknowledgement, 40 ms.
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{accept}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut body = Vec::new();
    stream.read_to_end(&mut body)?;
    Ok(body)
}

pub fn series(page: &[u8]) -> usize {
    String::from_utf8_lossy(page)
        .lines()
        .filter(|line| line.contains(' ') && !line.starts_with('#') && !line.contains(": "))
        .count()
}

/// utime + stime, proc(5) stat fields 14 and 15, in clock ticks of 10 ms.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("odd stat")?
        .1
        .split_whitespace()
        .collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

pub fn rss_kb(pid: u32) -> Result<u64> {
    status_kb(pid, "VmRSS:")
}

pub fn status_kb(pid: u32, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .context("no such key")?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .context("no value")?
        .parse()?)
}

pub fn median(values: &mut [Duration]) -> Duration {
    values.sort();
    values[values.len() / 2]
}

/// The value that nine of ten do not exceed.
pub fn p90(values: &mut [Duration]) -> Duration {
    values.sort();
    values[(values.len() * 9).div_ceil(10) - 1]
}

pub fn median_f(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
