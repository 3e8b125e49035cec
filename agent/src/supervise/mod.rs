//! Supervision: containers as the config wants them, kept so.
//!
//! One task per container hears what is wanted, what Docker says and what the
//! probe says, lets a pure function decide, and does one thing at a time. The
//! supervisor holds the tasks, knows who waits for whom, and gathers their
//! reports into one status that reporters read without asking anyone.
//!
//! Invariants: a container without our labels is never touched; at most one
//! action on Docker per container at a time, each with a deadline; a crash
//! restart makes no registry request and waits for no removal; while Docker is
//! silent nothing is begun, and after it each container is looked at before
//! anything is done to it; an agent that stops or dies leaves containers alone.
//!
//! What it does not know: the config file, how status is shown, log records.

pub mod act;
pub mod answer;
pub mod body;
pub mod counts;
pub mod jobs;
pub mod memory;
pub mod order;
pub mod probe;
pub mod report;
pub mod restart;
pub mod settings;
pub mod spec;
pub mod state;
pub mod supervisor;
pub mod task;
pub mod transition;
pub mod watcher;

pub use settings::{
    Apply, Check, Condition, Container, Dependency, Drain, Order, Probe, Probes, PullPolicy,
    Settings, Takeover, Update,
};
pub use supervisor::{Supervisor, new};

use crate::docker;
use crate::facts::Facts;
use crate::pulse::Pulse;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot, watch};

/// What others may ask for.
#[derive(Debug)]
pub enum Command {
    Reload(Settings, oneshot::Sender<Vec<Change>>),
    Restart(String, oneshot::Sender<Result<(), CommandError>>),
    Stop(Target, oneshot::Sender<Result<(), CommandError>>),
    Start(Target, oneshot::Sender<Result<(), CommandError>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    All,
    Named(String),
}

/// What a reload did to one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub name: String,
    /// "added", "removed", "replaced", "kept", "updated in place"
    pub what: &'static str,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommandError {
    #[error("no container named {0:?} in the config")]
    Unknown(String),
    #[error("supervision has stopped")]
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

    pub async fn reload(&self, settings: Settings) -> Result<Vec<Change>, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Reload(settings, reply)).await?;
        answer.await.map_err(|_| CommandError::Gone)
    }

    pub async fn restart(&self, name: &str) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Restart(name.into(), reply)).await?;
        answer.await.map_err(|_| CommandError::Gone)?
    }

    /// Stops and stays stopped; all of them in reverse order of their start.
    pub async fn stop(&self, target: Target) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Stop(target, reply)).await?;
        answer.await.map_err(|_| CommandError::Gone)?
    }

    pub async fn start(&self, target: Target) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Start(target, reply)).await?;
        answer.await.map_err(|_| CommandError::Gone)?
    }

    /// Waits until the status satisfies `wanted`; false when supervision ended before.
    pub async fn wait_for(&self, wanted: impl Fn(&Status) -> bool) -> bool {
        let mut status = self.status.clone();
        status.wait_for(|status| wanted(status)).await.is_ok()
    }

    async fn send(&self, command: Command) -> Result<(), CommandError> {
        self.commands
            .send(command)
            .await
            .map_err(|_| CommandError::Gone)
    }
}

/// All that reporters show, as of the last change.
#[derive(Debug, Clone, Default)]
pub struct Status {
    pub docker: DockerStatus,
    /// In the order of the config.
    pub containers: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default)]
pub struct DockerStatus {
    /// None until the first call has come back.
    pub reachable: Option<bool>,
    pub version: Option<String>,
    pub since: Option<SystemTime>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ContainerStatus {
    pub name: String,
    pub image: String,
    pub essential: bool,
    pub phase: Phase,
    /// None where the container has no readiness probe.
    pub ready: Option<bool>,
    pub id: Option<String>,
    pub pid: Option<i64>,
    pub started_at: Option<SystemTime>,
    pub restarts: u64,
    pub last_exit: Option<Exit>,
    pub retry_at: Option<SystemTime>,
    /// Why it is where it is: the last error, the dependency waited for.
    pub message: Option<String>,
}

impl ContainerStatus {
    /// Up and, where it has a probe, ready.
    pub fn is_well(&self) -> bool {
        self.phase == Phase::Running && self.ready != Some(false) || self.phase == Phase::Completed
    }
}

/// The word that status shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Docker has not been asked yet, or does not answer.
    Unknown,
    Waiting,
    Pulling,
    Starting,
    Running,
    Stopping,
    Stopped,
    Backoff,
    /// Exited 0 where another container waits for its completion.
    Completed,
    /// Needs the operator: a foreign container holds the name, the spec is refused.
    Blocked,
}

impl Phase {
    /// A process of it may be alive or on its way.
    pub fn may_run(self) -> bool {
        !matches!(self, Phase::Stopped | Phase::Completed | Phase::Blocked)
    }

    /// As logs and tables show it.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Unknown => "unknown",
            Phase::Waiting => "waiting",
            Phase::Pulling => "pulling",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Stopped => "stopped",
            Phase::Backoff => "backoff",
            Phase::Completed => "completed",
            Phase::Blocked => "blocked",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub code: i64,
    pub class: ExitClass,
    pub at: SystemTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitClass {
    Clean,
    Error,
    Signal,
    Oom,
    /// We stopped it.
    Stopped,
}

impl ExitClass {
    pub const ALL: [ExitClass; 5] = [
        ExitClass::Clean,
        ExitClass::Error,
        ExitClass::Signal,
        ExitClass::Oom,
        ExitClass::Stopped,
    ];

    /// As logs, metrics and tables show it.
    pub fn word(self) -> &'static str {
        match self {
            ExitClass::Clean => "clean",
            ExitClass::Error => "error",
            ExitClass::Signal => "signal",
            ExitClass::Oom => "oom",
            ExitClass::Stopped => "stopped",
        }
    }
}

/// What supervision needs from the composition root.
pub struct Parts {
    pub settings: Settings,
    pub docker: docker::Settings,
    /// Where containers send their logs: `unix:///run/agent/forward.sock`.
    pub log_address: Option<String>,
    pub facts: watch::Receiver<Arc<Facts>>,
    /// `<state>/supervise.json`: back-off and counters that outlive the agent.
    pub memory: PathBuf,
    pub registry: prometheus::Registry,
    pub pulse: Pulse,
}

#[cfg(test)]
mod tests;
