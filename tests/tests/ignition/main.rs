//! What `agent ignition` renders, given to who has to read it: the real Ignition, systemd, a shell.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

mod applied;
mod first_boot;
mod forms;
mod user_data;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use tests::agent::binary;
use tests::program::{command, output, workspace};

/// The three kinds of host of `ignition/`.
const HOSTS: [&str; 3] = ["export-service", "sports-cards", "marketplace"];
const IGNITION: &str = "apt-get install ignition (tests/run does)";
/// `agent ignition` needs some hash; this one is of nothing.
const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
                    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn example(host: &str, file: &str) -> PathBuf {
    workspace().join("ignition").join(host).join(file)
}

/// Runs `agent ignition`.
fn render(arguments: &[&str]) -> Output {
    output(command(binary()).arg("ignition").args(arguments), "").unwrap()
}

/// What it printed, where it has to work.
fn rendered(arguments: &[&str]) -> String {
    let output = render(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn parsed(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}
