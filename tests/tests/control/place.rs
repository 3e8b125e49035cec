//! What these tests share beside the test library.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

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
