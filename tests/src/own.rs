//! Tests that need a piece of the kernel for themselves run again inside of it.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use crate::program::{command, output};
use std::process::Command;

/// Set inside.
const INSIDE: &str = "AGENT_TEST_INSIDE";

/// Runs the calling test again with a network, /run and /var/lib of its own: default ports and
/// directories are then free, and no Docker is there. True inside, where the test shall go on.
///
/// `test` is the caller's full name.
pub fn in_own_network(test: &str) -> bool {
    let script = "set -e; ip link set lo up; \
                  for d in /run /var/lib /etc/agent; do \
                  [ ! -d $d ] || mount -t tmpfs -o mode=755 tmpfs $d; done; exec \"$@\"";
    inside(test, &["--net", "--mount"], script)
}

/// As [`in_own_network`], with mounts and process numbers of its own: it is process 1 there, so
/// that its mounts are what /proc/1 shows.
pub fn in_own_processes(test: &str) -> bool {
    let own = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    inside(test, &own, "exec \"$@\"")
}

fn inside(test: &str, own: &[&str], script: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut again: Command = command("unshare");
    again.args(own).args(["sh", "-c", script, "sh"]);
    again.arg(std::env::current_exe().unwrap());
    again
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1");
    let hint = "run as root, with util-linux and iproute2 (tests/run installs them)";
    let done = output(&mut again, hint).unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{hint}\n{said}");
    assert!(said.contains("1 passed"), "{test} did not run:\n{said}");
    false
}
