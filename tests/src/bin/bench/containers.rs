//! Idle memory, and how fast a killed container is back, beside Docker's own policy.

use crate::process::{Run, median, millis, rss_kb};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const KILLS: usize = 15;
const IMAGE: &str = "agent-bench:1";

pub fn docker(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(arguments).output()?;
    ensure!(
        output.status.success(),
        "docker {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// An image of Debian's static busybox alone.
fn make_image() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let bin = dir.path().join("bin");
    fs::create_dir(&bin)?;
    fs::copy("/bin/busybox", bin.join("busybox")).context("busybox-static is missing")?;
    for name in ["sh", "sleep"] {
        std::os::unix::fs::symlink("busybox", bin.join(name))?;
    }
    let mut tar = Command::new("tar")
        .args(["-C", &dir.path().to_string_lossy(), "-c", "."])
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = tar.stdout.take().context("no pipe")?;
    let imported = Command::new("docker")
        .args(["import", "-", IMAGE])
        .stdin(stdout)
        .output()?;
    tar.wait()?;
    ensure!(imported.status.success(), "docker import failed");
    Ok(())
}

pub fn idle_memory(agent: &Path) -> Result<()> {
    make_image()?;
    let names = ["agent-bench-a", "agent-bench-b", "agent-bench-c"];
    let config: String = names
        .iter()
        .map(|name| {
            format!(
                "[containers.{name}]\nimage = \"{IMAGE}\"\ninit = true\ncommand = [\"/bin/sleep\", \"1000\"]\n"
            )
        })
        .collect();
    let run = Run::start(agent, &config, true)?;
    for name in names {
        wait_running(name, None)?;
    }
    thread::sleep(Duration::from_secs(3));
    println!(
        "memory      {} kB rss idle with three containers",
        rss_kb(run.child.id())?
    );
    drop(run);
    for name in names {
        remove(name);
    }
    Ok(())
}

fn remove(name: &str) {
    for name in [name.to_owned(), format!("{name}.prev")] {
        let _ = docker(&["rm", "-f", &name]);
    }
}

/// From `kill -9` of the main process to the first instruction of the next one,
/// which writes to a FIFO that is mounted into the container.
pub fn kill_to_running(agent: &Path) -> Result<()> {
    make_image()?;
    let dir = tempfile::tempdir()?;
    let fifo = Fifo::make(dir.path())?;
    let volume = format!("{}:/out", dir.path().display());
    let script = "echo up > /out/fifo; exec /bin/sleep 1000";

    remove("agent-bench-peer");
    // Docker's own policy doubles its delay; each kill gets a container of its own.
    let mut theirs = Vec::new();
    for _ in 0..KILLS {
        docker(&[
            "run",
            "-d",
            "--restart=always",
            "--network=host",
            "--name",
            "agent-bench-peer",
            "-v",
            &volume,
            IMAGE,
            "/bin/sh",
            "-c",
            script,
        ])?;
        fifo.next()?;
        let pid = wait_running("agent-bench-peer", None)?;
        theirs.push(kill_and_wait(pid, &fifo)?);
        remove("agent-bench-peer");
    }

    let mut ours = Vec::new();
    for _ in 0..KILLS {
        let config = format!(
            "[containers.agent-bench-app]\nimage = \"{IMAGE}\"\nnetwork_mode = \"host\"\nvolumes = [\"{volume}\"]\n\
             command = [\"/bin/sh\", \"-c\", \"{script}\"]\n"
        );
        let run = Run::start(agent, &config, true)?;
        fifo.next()?;
        let pid = wait_running("agent-bench-app", None)?;
        // As long as Docker's own container ran: the agent's watch is open by then.
        thread::sleep(Duration::from_millis(300));
        ours.push(kill_and_wait(pid, &fifo)?);
        drop(run);
        remove("agent-bench-app");
    }
    println!(
        "restart     kill -9 to running again {:.0} ms (median of {KILLS}, host network)",
        millis(median(&mut ours))
    );
    println!(
        "            docker run --restart=always: {:.0} ms, {:.2} times ours",
        millis(median(&mut theirs)),
        median(&mut theirs).as_secs_f64() / median(&mut ours).as_secs_f64(),
    );
    Ok(())
}

fn kill_and_wait(pid: u32, fifo: &Fifo) -> Result<Duration> {
    let began = Instant::now();
    let pid = rustix::process::Pid::from_raw(pid as i32).context("no pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    fifo.next()?;
    Ok(began.elapsed())
}

/// The pid of the container's main process, once it is another than `old`.
fn wait_running(name: &str, old: Option<u32>) -> Result<u32> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let state = docker(&["inspect", "-f", "{{.State.Running}} {{.State.Pid}}", name]);
        if let Some(pid) = state
            .ok()
            .and_then(|s| s.strip_prefix("true ")?.parse().ok())
            && Some(pid) != old
        {
            return Ok(pid);
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("{name} does not run")
}

struct Fifo {
    lines: std::sync::mpsc::Receiver<Instant>,
}

impl Fifo {
    fn make(dir: &Path) -> Result<Fifo> {
        let path = dir.join("fifo");
        let made = Command::new("mkfifo").arg(&path).status()?;
        ensure!(made.success(), "mkfifo failed");
        // Read and write: the reader never sees an end while containers come and go.
        let file = fs::OpenOptions::new().read(true).write(true).open(&path)?;
        let (sender, lines) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(file).lines() {
                if line.is_err() || sender.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        Ok(Fifo { lines })
    }

    fn next(&self) -> Result<Instant> {
        self.lines
            .recv_timeout(Duration::from_secs(30))
            .context("the container's main process did not come up")
    }
}
