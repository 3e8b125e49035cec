//! What goes over the control socket: one JSON document per request.
//!
//! `GET /status`, `GET /events?after=SEQ&n=N&container=NAME`, `POST /reload`,
//! `POST /drain?within=SECONDS`, `POST /containers/{start,stop,pause,resume}` for
//! all, `POST /containers/NAME/{start,stop,restart,pause,resume}`; NAME is a container
//! or (to start or stop) a job; a stop takes
//! `?now`, a pause `?for=SECONDS`. Times are RFC 3339 in UTC,
//! sizes bytes, durations seconds. Shared with `cli`; nobody else speaks it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /status`: everything at a glance. Documented in docs/status.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub healthy: bool,
    /// Why not healthy, one line each; empty when it is.
    pub reasons: Vec<String>,
    pub config: Config,
    /// Fact → value and source.
    pub facts: BTreeMap<String, Fact>,
    pub docker: Docker,
    /// An older agent has none.
    #[serde(default)]
    pub host: Host,
    pub containers: Vec<Container>,
    pub jobs: Vec<Job>,
    pub logs: Logs,
    pub metrics: Metrics,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub files: Vec<String>,
    pub loaded_at: String,
    /// The last reload's refusal, while the settings before it run on.
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    pub value: String,
    pub source: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Docker {
    /// null until Docker has been asked.
    pub reachable: Option<bool>,
    pub version: Option<String>,
    pub since: Option<String>,
    pub error: Option<String>,
    /// Where it keeps images and containers; null until it has said so.
    pub root: Option<String>,
    /// Of the file system there; null where it cannot be measured.
    pub disk_used_percent: Option<u8>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The system bus answers; null until it has been asked.
    pub bus: Option<bool>,
    /// systemd's own word; null where it cannot be asked.
    pub systemd: Option<String>,
    /// null where update_engine does not run.
    pub update: Option<Update>,
    pub reboot_required: bool,
    pub reboot_reason: Option<String>,
    /// A shutdown waits for the containers to stop.
    pub shutdown_inhibited: bool,
    /// It shuts down, the containers are stopped.
    pub shutting_down: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    pub operation: String,
    pub progress: f64,
    pub new_version: String,
    pub last_checked: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub state: String,
    /// null where it has no readiness probe.
    pub ready: Option<bool>,
    pub well: bool,
    pub essential: bool,
    pub id: Option<String>,
    pub pid: Option<i64>,
    pub started_at: Option<String>,
    /// `8080/tcp` → `0.0.0.0:32768`, as bound.
    pub ports: BTreeMap<String, Vec<String>>,
    pub restarts: u64,
    /// Five unplanned ends within ten minutes.
    pub crash_loop: bool,
    /// How far the replacement by a changed one is; null where it is as wanted.
    pub update: Option<String>,
    /// What the config says was tried and was no good.
    pub rolled_back: bool,
    /// The operator has it left alone.
    pub paused: bool,
    /// null but while its image is being pulled.
    pub pull: Option<Pull>,
    pub last_exit: Option<Exit>,
    pub retry_at: Option<String>,
    pub message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pull {
    pub percent: u8,
    pub done_bytes: u64,
    pub total_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    pub code: i64,
    pub class: String,
    pub at: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub name: String,
    pub image: String,
    pub schedule: String,
    pub time_zone: String,
    /// Of the newest run under way, or `idle`.
    pub state: String,
    /// The last run that ended did not fail.
    pub well: bool,
    pub next_run: Option<String>,
    /// Under way, the oldest first.
    pub runs: Vec<JobRun>,
    /// Ended, the newest first.
    pub history: Vec<JobRecord>,
    pub message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRun {
    pub number: u64,
    pub attempt: u32,
    pub cause: String,
    pub state: String,
    pub begun: String,
    pub id: Option<String>,
    pub started_at: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    pub number: u64,
    pub attempt: u32,
    pub cause: String,
    pub begun: String,
    pub ended: String,
    /// null where no process ended.
    pub code: Option<i64>,
    pub class: String,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logs {
    pub accepting: bool,
    pub records_in: u64,
    pub records_unparsed: u64,
    pub bad_frames: u64,
    pub connections: usize,
    pub buffered_bytes: u64,
    pub buffer_limit_bytes: u64,
    pub oldest_seconds: Option<u64>,
    pub dropped: u64,
    pub error: Option<String>,
    pub outputs: Vec<Output>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    pub name: String,
    pub kind: String,
    pub records_out: u64,
    pub pending_bytes: u64,
    pub oldest_seconds: Option<u64>,
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub scrapes: u64,
    pub last_seconds: Option<f64>,
    pub collectors_ok: usize,
    pub collectors_failed: Vec<String>,
}

/// `GET /events`: what was decided and why, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counted on over restarts of the agent.
    pub seq: u64,
    pub at: String,
    pub container: String,
    pub from: String,
    pub to: String,
    pub reason: String,
    /// agent, operator, config, outside
    pub actor: String,
}

/// Answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub ok: bool,
    /// What was done, or why it was not, one line each.
    pub lines: Vec<String>,
}

impl Answer {
    pub fn done(lines: Vec<String>) -> Answer {
        Answer { ok: true, lines }
    }

    pub fn refused(lines: Vec<String>) -> Answer {
        Answer { ok: false, lines }
    }
}
