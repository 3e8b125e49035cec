//! Network, mounts and process numbers of a program's own: what a test makes there nobody else
//! sees, and it goes with it.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use crate::program::{command, output, stdout};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Set inside.
const INSIDE: &str = "AGENT_TEST_OWN_NAMESPACES";
const HINT: &str = "run as root, with util-linux and iproute2 (tests/run installs them)";

pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// This program again, with `arguments`, in namespaces of its own: only `lo` is there, /sys shows
/// that network, and /proc/1 those mounts.
pub fn again(arguments: &[&str]) -> Command {
    let script = "set -e; mount -t sysfs sysfs /sys; ip link set lo up; exec \"$@\"";
    let mut again: Command = command("unshare");
    again
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(arguments)
        .env(INSIDE, "1");
    again
}

/// Runs the calling test again in namespaces of its own. True inside, where the test shall go on.
///
/// `test` is the caller's full name.
pub fn in_own_namespaces(test: &str) -> bool {
    if is_inside() {
        return true;
    }
    let done = output(&mut again(&[test, "--exact", "--nocapture"]), HINT).unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{HINT}\n{said}");
    assert!(said.contains("1 passed"), "{test} did not run:\n{said}");
    false
}

/// Adds pairs of virtual interfaces until there are `count` interfaces, or one more.
pub fn interfaces(count: usize) {
    let there = fs::read_dir("/sys/class/net").unwrap().count();
    let mut batch: Command = command("ip");
    batch.args(["-batch", "-"]).stdin(Stdio::piped());
    let mut batch = batch.spawn().unwrap();
    let mut lines = batch.stdin.take().unwrap();
    for n in 0..count.saturating_sub(there).div_ceil(2) {
        writeln!(lines, "link add va{n} type veth peer name vb{n}").unwrap();
    }
    drop(lines);
    assert!(batch.wait().unwrap().success(), "ip: {HINT}");
}

/// A mount whose daemon never answers: /dev/fuse is open and nobody reads it. Dropped: the kernel
/// ends all calls with an error, and the mount is gone.
pub struct HungMount {
    daemon: Child,
    path: PathBuf,
}

impl HungMount {
    pub fn new(path: &Path) -> HungMount {
        fs::create_dir_all(path).unwrap();
        let script = "set -e; exec 9<>/dev/fuse; mount -i -t fuse -o \
                      fd=9,rootmode=40000,user_id=0,group_id=0 hung \"$1\"; echo up; exec sleep 1000";
        let mut daemon: Command = command("setpriv");
        daemon.args(["--pdeathsig", "KILL", "sh", "-c", script, "sh"]);
        let mut daemon = daemon.arg(path).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let stdout = daemon.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        assert_eq!(said, "up\n", "cannot mount on {}", path.display());
        HungMount {
            daemon,
            path: path.to_owned(),
        }
    }

    /// The daemon ends; its mount stays and answers with errors.
    pub fn end_daemon(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        self.end_daemon();
        let _ = stdout(command("umount").arg("-l").arg(&self.path), HINT);
    }
}
