//! Jobs: one-shot containers on a schedule.
//!
//! One loop holds what is known of every job and lets [`job::next`] decide;
//! what it asks of Docker are tasks of their own, each with deadlines, so a call
//! that hangs holds up one run. A run's container is `<job>.run-<number>`, with
//! labels of its own: the containers' supervisor does not see it.
//!
//! What it does not know: the config file, how status is shown, log records.

pub mod act;
pub mod counts;
pub mod job;
pub mod memory;
pub mod report;
pub mod room;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod state;
pub mod timers;

pub use room::{Jobs, new};
pub use settings::{Job, Overlap, Settings};
pub use state::{Cause, Class};

use crate::docker::Docker;
use crate::pulse::Pulse;
use crate::supervise::pull::Puller;
use crate::supervise::{Change, CommandError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot, watch};

/// Tells the wall clock's time.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What the room needs from the composition root.
pub struct Parts {
    pub settings: Settings,
    pub docker: Docker,
    pub puller: Puller,
    /// Where containers send their logs: `unix:///run/agent/forward.sock`.
    pub log_address: Option<String>,
    /// `<state>/jobs.json`: what has run, what is under way.
    pub memory: PathBuf,
    pub registry: prometheus::Registry,
    pub pulse: Pulse,
    pub clock: Clock,
}

#[derive(Debug)]
pub enum Command {
    Reload(Settings, oneshot::Sender<Vec<Change>>),
    Start(String, oneshot::Sender<Result<u64, OrderError>>),
    Stop(String, oneshot::Sender<Result<(), OrderError>>),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrderError {
    #[error("no job named {0:?} in the config")]
    Unknown(String),
    #[error("cannot start job {job}: {reason}")]
    Refused { job: String, reason: String },
    #[error("supervision of jobs has stopped")]
    Gone,
}

/// A cheap, cloneable end for reporters and commands.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Arc<Status>>,
}

impl Handle {
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// Whether there is a job of that name.
    pub fn knows(&self, name: &str) -> bool {
        self.status.borrow().jobs.iter().any(|job| job.name == name)
    }

    pub async fn reload(&self, settings: Settings) -> Result<Vec<Change>, CommandError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::Reload(settings, reply)).await;
        sent.map_err(|_| CommandError::Gone)?;
        answer.await.map_err(|_| CommandError::Gone)
    }

    /// Begins a run now and says its number. Errors: [`OrderError::Refused`]
    /// where one is under way and may not be joined.
    pub async fn start(&self, name: &str) -> Result<u64, OrderError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::Start(name.into(), reply)).await;
        sent.map_err(|_| OrderError::Gone)?;
        answer.await.map_err(|_| OrderError::Gone)?
    }

    /// Ends what is under way, and waits for its end; false: Docker does not
    /// answer, and it ends when Docker does.
    pub async fn stop(&self, name: &str) -> Result<bool, OrderError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::Stop(name.into(), reply)).await;
        sent.map_err(|_| OrderError::Gone)?;
        answer.await.map_err(|_| OrderError::Gone)??;
        let is_over = |status: &Status| {
            let job = status.jobs.iter().find(|job| job.name == name);
            job.is_none_or(|job| job.runs.is_empty())
        };
        let mut status = self.status.clone();
        let settled = status
            .wait_for(|status| is_over(status) || status.docker == Some(false))
            .await;
        settled
            .map(|status| is_over(&status))
            .map_err(|_| OrderError::Gone)
    }
}

/// All that reporters show, as of the last change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Docker answers; None: it has not been asked yet.
    pub docker: Option<bool>,
    /// In the order of the config.
    pub jobs: Vec<JobStatus>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct JobStatus {
    pub name: String,
    pub image: String,
    /// As written, without the zone.
    pub schedule: String,
    pub time_zone: String,
    pub next_run: Option<SystemTime>,
    /// Under way, the oldest first.
    pub runs: Vec<RunStatus>,
    /// The newest first.
    pub history: Vec<RecordStatus>,
    /// Why the last due time began nothing.
    pub message: Option<String>,
}

impl JobStatus {
    /// The last run that ended did not fail.
    pub fn is_well(&self) -> bool {
        self.history
            .first()
            .is_none_or(|record| !record.class.is_failure())
    }

    /// One word for all of it: that of the newest run, or `idle`.
    pub fn word(&self) -> &'static str {
        self.runs.last().map_or("idle", |run| run.state)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct RunStatus {
    pub number: u64,
    pub attempt: u32,
    pub cause: Cause,
    /// "queued", "starting", "running", "stopping", "backoff"
    pub state: &'static str,
    pub begun: SystemTime,
    /// Of its container, once it has been started.
    pub id: Option<String>,
    pub started_at: Option<SystemTime>,
    /// What went wrong with the attempt before.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RecordStatus {
    pub number: u64,
    pub attempt: u32,
    pub cause: Cause,
    pub begun: SystemTime,
    pub ended: SystemTime,
    pub code: Option<i64>,
    pub class: Class,
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests;
