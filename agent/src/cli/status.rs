//! `agent status`: everything at a glance.

mod table;

use super::client::ask;
use super::{DEGRADED, NO_AGENT, complain, say};
use crate::chain::Chain;
use crate::control::protocol::Status;
use hyper::Method;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// At 3 a.m. nobody waits: memory answers, Docker is not asked.
const DEADLINE: Duration = Duration::from_secs(1);

/// Prints the table or the JSON; the exit code is the health.
pub fn status(socket: &Path, name: Option<&str>, json: bool) -> ExitCode {
    let body = match ask(socket, Method::GET, "/status", DEADLINE) {
        Ok((_, body)) => body,
        Err(error) => {
            complain(&format!("agent: {}", Chain(&error)));
            return ExitCode::from(NO_AGENT);
        }
    };
    let mut status: Status = match serde_json::from_slice(&body) {
        Ok(status) => status,
        Err(error) => {
            complain(&format!(
                "agent: cannot read the agent's status (is it of another version?): {error}"
            ));
            return ExitCode::from(NO_AGENT);
        }
    };
    let mut healthy = status.healthy;
    if let Some(name) = name {
        status.containers.retain(|container| container.name == name);
        status.jobs.retain(|job| job.name == name);
        let container = status.containers.first().map(|container| container.well);
        let job = status.jobs.first().map(|job| job.well);
        let Some(well) = container.or(job) else {
            complain(&format!(
                "agent: no container or job named {name:?} in the config"
            ));
            return ExitCode::from(DEGRADED);
        };
        healthy = well;
    }
    let text = match (json, name) {
        (true, _) => serde_json::to_string_pretty(&status).unwrap_or_default(),
        (false, None) => table::whole(&status, jiff::Timestamp::now()),
        (false, Some(_)) if status.containers.is_empty() => {
            table::jobs(&status.jobs, jiff::Timestamp::now())
        }
        (false, Some(_)) => table::containers(&status.containers, jiff::Timestamp::now()),
    };
    say(&text);
    if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DEGRADED)
    }
}
