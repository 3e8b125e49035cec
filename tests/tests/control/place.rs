//! What these tests share beside the test library.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use tests::program::{command, output};

/// One container that can never start: its image is nowhere, and mostly Docker is not there.
pub const WEB: &str = "[containers.web]\nimage = \"web:1\"\n";

/// An output whose server takes nothing.
pub fn forward_to(server: impl std::fmt::Display) -> String {
    format!("[logs.outputs.aggregator]\ntype = \"forward\"\nservers = [\"{server}\"]\n")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// stdout and stderr, as an operator sees them.
pub fn text(output: &Output) -> String {
    let of = |bytes| String::from_utf8_lossy(bytes).into_owned();
    of(&output.stdout) + &of(&output.stderr)
}

/// A Docker that takes every connection and never answers.
pub fn hung_docker(path: &Path) -> Arc<Mutex<Vec<UnixStream>>> {
    let listener = UnixListener::bind(path).unwrap();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let theirs = kept.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            theirs.lock().unwrap().push(stream);
        }
    });
    kept
}

/// Set inside of [`in_own_network`].
const INSIDE: &str = "AGENT_TEST_OWN_NETWORK";

/// Runs the calling test again with a network, /run and /var/lib of its own: default ports and
/// directories are then free, and no Docker is there. True inside, where the test shall go on.
///
/// `test` is the caller's full name.
pub fn in_own_network(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let script = "set -e; ip link set lo up; \
                  for d in /run /var/lib /etc/agent; do \
                  [ ! -d $d ] || mount -t tmpfs -o mode=755 tmpfs $d; done; exec \"$@\"";
    let mut again: Command = command("unshare");
    again.args(["--net", "--mount", "sh", "-c", script, "sh"]);
    again.arg(std::env::current_exe().unwrap());
    again
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1");
    let hint = "run as root, with util-linux and iproute2 (tests/run installs them)";
    let done = output(&mut again, hint).unwrap();
    let said = text(&done);
    assert!(done.status.success(), "{hint}\n{said}");
    assert!(said.contains("1 passed"), "{test} did not run:\n{said}");
    false
}
