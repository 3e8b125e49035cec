//! A Docker daemon of the test's own: it may be stopped, killed and started again, and leaves nothing.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use crate::program::{command, stdout, target_directory, workspace};
use crate::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

static COUNT: AtomicU32 = AtomicU32::new(0);
const HINT: &str = "apt-get install docker.io iproute2 (tests/run does)";

/// dockerd with its own data, socket and bridge. It writes no packet filter rules, so that it
/// disturbs no other daemon: published ports go through docker's own proxy.
pub struct Daemon {
    directory: PathBuf,
    /// Sockets: short paths, whatever the checkout's is.
    runtime: TempDir,
    bridge: String,
    /// Beside those that every one is started with.
    flags: Vec<String>,
    child: Child,
}

impl Daemon {
    /// Starts one with these images of tests/images.
    pub fn start(images: &[&str]) -> Daemon {
        Daemon::start_in(images, &[], None)
    }

    /// Starts one with these images and these flags of dockerd, such as `--live-restore`.
    pub fn start_with(images: &[&str], flags: &[&str]) -> Daemon {
        Daemon::start_in(images, flags, None)
    }

    /// One whose data lie on a file system of their own, so small that it fills.
    pub fn start_small(images: &[&str], mebibytes: u32) -> Daemon {
        Daemon::start_in(images, &[], Some(mebibytes))
    }

    fn start_in(images: &[&str], flags: &[&str], mebibytes: Option<u32>) -> Daemon {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        let directory = target_directory().join(format!("docker/{id}-{number}"));
        fs::create_dir_all(&directory).unwrap();
        let bridge = format!("agt{}x{number}", id % 100_000);
        let ip = |arguments: &[&str]| stdout(command("ip").args(arguments), HINT).unwrap();
        ip(&["link", "add", &bridge, "type", "bridge"]);
        // 10.213.0.0/16 is cut into 256 networks.
        let net = (id.wrapping_mul(7) + number) % 256;
        let address = format!("10.213.{net}.1/24");
        ip(&["address", "add", &address, "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        let runtime = tempfile::Builder::new()
            .prefix("agent-d")
            .tempdir()
            .unwrap();
        if let Some(mebibytes) = mebibytes {
            let data = directory.join("data");
            fs::create_dir_all(&data).unwrap();
            let size = format!("size={mebibytes}m");
            let mut mount = command("mount");
            mount.args(["-t", "tmpfs", "-o", &size, "agent-test"]);
            stdout(mount.arg(&data), HINT).unwrap();
        }
        let flags: Vec<String> = flags.iter().map(|&flag| flag.into()).collect();
        let child = launch(&directory, runtime.path(), &bridge, &flags);
        let mut daemon = Daemon {
            directory,
            runtime,
            bridge,
            flags,
            child,
        };
        daemon.wait_answering();
        let mut make = command(workspace().join("tests/images/make"));
        make.arg("--import").args(images);
        stdout(make.env("DOCKER_HOST", daemon.host()), "see above").unwrap();
        daemon
    }

    /// Where it keeps images and containers.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.runtime.path().join("docker.sock")
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// `docker ARGUMENTS`. Errors: what it printed.
    pub fn try_docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut docker = command("docker");
        docker.args(arguments).env("DOCKER_HOST", self.host());
        Ok(stdout(&mut docker, HINT)?.trim().to_owned())
    }

    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap()
    }

    /// One field of `docker inspect`, such as `.State.Pid`.
    pub fn inspect(&self, name: &str, field: &str) -> String {
        self.docker(&["inspect", "-f", &format!("{{{{{field}}}}}"), name])
    }

    /// Signals the container's main process from the host, as the OOM killer would.
    pub fn kill_main(&self, name: &str) {
        let pid: i32 = self.inspect(name, ".State.Pid").parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    /// SIGSTOP: connections are accepted, nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// kill -9 of the daemon, then a new one over the same data.
    pub fn crash_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = launch(
            &self.directory,
            self.runtime.path(),
            &self.bridge,
            &self.flags,
        );
        self.wait_answering();
    }

    /// A daemon that ended by itself has been reported by then.
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
    }

    fn wait_answering(&mut self) {
        let log = self.directory.join("log");
        wait::until("dockerd answers", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                let log = fs::read_to_string(&log).unwrap_or_default();
                panic!("dockerd ended, {status}:\n{log}");
            }
            self.try_docker(&["version"]).ok()
        });
    }
}

fn launch(directory: &Path, runtime: &Path, bridge: &str, flags: &[String]) -> Child {
    let at = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let run_at = |name: &str| runtime.join(name).to_string_lossy().into_owned();
    // The pid file of a killed daemon would stop the next one if its pid lives on as another's.
    // So would that of its containerd, which died with it: where nobody reaps orphans it looks alive.
    let _ = fs::remove_file(at("pid"));
    let _ = fs::remove_file(run_at("exec/containerd/containerd.pid"));
    let log = File::options()
        .create(true)
        .append(true)
        .open(at("log"))
        .unwrap();
    // Ends with the test even when the test is aborted.
    let mut run = command("setpriv");
    run.args(["--pdeathsig", "TERM", "dockerd"])
        .args(["--data-root", &at("data"), "--exec-root", &run_at("exec")])
        .args(["--pidfile", &at("pid"), "--bridge", bridge])
        .args(["--host", &format!("unix://{}", run_at("docker.sock"))])
        .args(["--iptables=false", "--ip-masq=false"])
        .args(flags);
    run.stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.thaw();
        if let Ok(all) = self.try_docker(&["ps", "-aq"]) {
            let mut remove = vec!["rm", "-f", "-v"];
            remove.extend(all.lines());
            if remove.len() > 3 {
                let _ = self.try_docker(&remove);
            }
        }
        self.signal(Signal::TERM);
        let _ = self.child.wait();
        // A daemon mounts its data over itself; one that was killed left its mount there.
        let data = self.data();
        while command("umount")
            .args(["-q", "-R"])
            .arg(&data)
            .status()
            .is_ok_and(|done| done.success())
        {}
        let delete = ["link", "delete", &self.bridge];
        let _ = command("ip").args(delete).status();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(15)..].join("\n");
            eprintln!("--- log of dockerd ---\n{tail}");
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
