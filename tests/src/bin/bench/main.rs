//! Prints the figures that the agent is held to, each beside a peer in the same run.
//!
//! Not a test: it never fails on a figure. CPU is utime + stime of the process
//! from /proc/PID/stat, memory VmRSS from /proc/PID/status. Runs as root; what
//! is not there (Docker, prometheus-node-exporter) is said and skipped.
//! `tests/bench` builds everything and calls this.

#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

mod containers;
mod fleet;
mod kills;
mod logs;
mod process;
mod scrape;

use anyhow::{Context, Result};
use logs::Mode;
use std::fs;
use std::path::PathBuf;
use tests::namespace;

/// Kills per path, unless `--tries=N` says otherwise.
const TRIES: usize = 20;

fn main() -> Result<()> {
    let agent = PathBuf::from(std::env::var("AGENT_BIN").unwrap_or("dist/agent".into()));
    if namespace::is_inside()
        && let [_, part] = &std::env::args().skip(1).collect::<Vec<_>>()[..]
    {
        return scrape::inside(&agent, part);
    }
    let size = fs::metadata(&agent)
        .with_context(|| format!("no agent at {}: run packaging/build", agent.display()))?
        .len();
    println!(
        "binary      {size} bytes stripped ({:.2} MB)",
        size as f64 / 1e6
    );
    // `bench PART…` prints these parts only.
    let (flags, parts): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with("--"));
    let flag = |name: &str| flags.iter().any(|flag| flag == name);
    let tries = flags.iter().find_map(|flag| flag.strip_prefix("--tries="));
    let tries: usize = tries.map_or(Ok(TRIES), str::parse)?;
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    if wanted("scrape") {
        scrape::start_times(&agent)?;
        scrape::scrape_cost(&agent)?;
    }
    if wanted("logs") {
        logs::log_cost(&agent, Mode::Message)?;
        logs::log_cost(&agent, Mode::Packed)?;
    }
    if wanted("containers") && containers::docker(&["version"]).is_ok() {
        containers::idle_memory(&agent)?;
        if tries > 0 {
            kills::kill_to_running(&agent, tries)?;
        }
        fleet::converged(&agent)?;
        if flag("--many") {
            fleet::many(&agent)?;
        }
        if flag("--crash-loops") {
            fleet::crash_loops(&agent)?;
        }
    } else if wanted("containers") {
        println!("containers  skipped: no Docker answers");
    }
    Ok(())
}
