//! Running other programs. The agent itself starts none; its tests do.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A command to add arguments to.
pub fn command(name: impl AsRef<OsStr>) -> Command {
    // Banned for the agent, which starts no subprocess.
    #![allow(clippy::disallowed_methods)]
    Command::new(name)
}

/// Runs to the end. Errors: not installed. `hint` says how to get it.
pub fn output(command: &mut Command, hint: &str) -> Result<Output> {
    command
        .output()
        .with_context(|| format!("cannot run {command:?}: {hint}"))
}

/// What a command printed. Errors: it failed; then with all that it said.
pub fn stdout(command: &mut Command, hint: &str) -> Result<String> {
    let output = output(command, hint)?;
    if !output.status.success() {
        bail!(
            "{command:?} failed, {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The root of the repository.
pub fn workspace() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map_or_else(|| tests.clone(), PathBuf::from)
}

/// Where built and fetched things may stay between runs.
pub fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace().join(directory),
        None => workspace().join("target"),
    }
}
