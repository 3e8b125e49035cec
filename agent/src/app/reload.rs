//! Applies a changed config: all of it or none.

use super::rooms::Rooms;
use crate::config::{self, Loaded, Settings};
use crate::control::protocol::Answer;
use crate::host::notify::Notify;
use std::time::SystemTime;
use tracing::{error, info};

/// Reads the files again and lets each room take what changed. A fault, or a
/// change that needs a restart, leaves everything as it was and says so here
/// and in `agent status`.
pub async fn reload(rooms: &mut Rooms, notify: &Notify) -> Answer {
    notify.reloading();
    let answer = match config::load(&rooms.origin) {
        Ok(loaded) => apply(rooms, loaded).await,
        Err(faults) => Answer::refused(faults.to_string().lines().map(str::to_owned).collect()),
    };
    if !answer.ok {
        let first = answer.lines.first().cloned().unwrap_or_default();
        rooms.config_state.refused(first);
    }
    notify.ready();
    answer
}

pub fn log(answer: &Answer) {
    if answer.ok {
        info!(changes = answer.lines.join("; "), "config reloaded");
    } else {
        error!(
            faults = answer.lines.join("; "),
            "reload refused, the settings before it run on"
        );
    }
}

async fn apply(rooms: &mut Rooms, loaded: Loaded) -> Answer {
    let Loaded {
        settings, files, ..
    } = loaded;
    let fixed = not_live(&rooms.settings, &settings);
    if !fixed.is_empty() {
        return Answer::refused(fixed.into_iter().map(needs_restart).collect());
    }
    if let Err(fixed) = rooms.logs.reload(settings.logs.clone()).await {
        return Answer::refused(fixed.iter().map(ToString::to_string).collect());
    }
    rooms.telemetry.set_level(settings.telemetry.level);
    rooms.identity.set_config(settings.node.clone());
    let changes = match rooms.supervise.reload(settings.containers.clone()).await {
        Ok(changes) => changes,
        Err(error) => return Answer::refused(vec![error.to_string()]),
    };
    let jobs = match rooms.jobs.reload(settings.jobs.clone()).await {
        Ok(changes) => changes,
        Err(error) => return Answer::refused(vec![error.to_string()]),
    };
    let housekeeping = settings.containers.housekeeping.clone();
    rooms.housekeeping.configure(housekeeping);
    rooms.settings = settings;
    rooms.files = files;
    rooms.config_state.taken(&rooms.files, SystemTime::now());
    let mut lines: Vec<String> = changes
        .iter()
        .map(|change| format!("{}: {}", change.name, change.what))
        .collect();
    let jobs = jobs.iter();
    lines.extend(jobs.map(|change| format!("job {}: {}", change.name, change.what)));
    if lines.is_empty() {
        lines.push("no containers".into());
    }
    Answer::done(lines)
}

/// The settings that hold for the life of the process.
fn not_live(now: &Settings, next: &Settings) -> Vec<&'static str> {
    let mut fixed = Vec::new();
    let mut differ = |name, differs: bool| {
        if differs {
            fixed.push(name);
        }
    };
    differ("agent", now.agent != next.agent);
    differ(
        "agent.log.format",
        now.telemetry.form != next.telemetry.form,
    );
    differ("cloud", now.cloud != next.cloud);
    differ("docker", now.docker != next.docker);
    differ("docker.revive", now.machine != next.machine);
    differ("metrics", now.metrics != next.metrics);
    differ(
        "metrics.containers",
        now.container_metrics != next.container_metrics,
    );
    differ("heartbeat", now.heartbeat != next.heartbeat);
    fixed
}

fn needs_restart(field: &str) -> String {
    format!("{field} cannot change while the agent runs: restart the agent to apply it")
}
