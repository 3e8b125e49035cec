//! The forms in which the binary goes to hosts: packed twice the same, and each taken by its own host.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

mod contents;
mod hosts;
mod inventory;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use tests::agent::binary;
use tests::program::{command, stdout, workspace};

/// Of the sources, as far as these tests go: they need no git.
const TIME: u64 = 1_700_000_000;
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const HINT: &str = "apt-get install python3 squashfs-tools dpkg (tests/run does)";

fn pack(output: &Path, forms: &[&str]) {
    let mut bundle = command(workspace().join("packaging/bundle"));
    bundle.arg("--binary").arg(binary()).arg("--output");
    bundle.arg(output).args(forms);
    bundle.env("SOURCE_DATE_EPOCH", TIME.to_string());
    stdout(bundle.env("AGENT_COMMIT", COMMIT), HINT).unwrap();
}

/// Everything, packed once.
fn bundle() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let directory = TempDir::new().unwrap();
        pack(directory.path(), &[]);
        directory
    });
    made.path()
}

/// The one file of that ending.
fn made(ending: &str) -> PathBuf {
    let entries = bundle().read_dir().unwrap().flatten();
    let mut found = entries.filter(|e| e.file_name().to_str().unwrap().ends_with(ending));
    let one = found
        .next()
        .unwrap_or_else(|| panic!("nothing ends in {ending}"));
    assert!(found.next().is_none(), "two end in {ending}");
    one.path()
}

fn sha256(bytes: &[u8]) -> String {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("bytes");
    std::fs::write(&path, bytes).unwrap();
    stdout(command("sha256sum").arg(path), HINT).unwrap()[..64].to_owned()
}
