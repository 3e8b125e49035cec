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
pub mod audit;
pub mod body;
pub mod counts;
pub mod drain;
pub mod housekeeping;
pub mod jobs;
pub mod lane;
pub mod memory;
pub mod mind;
pub mod order;
mod orders;
mod orphans;
pub mod probe;
pub mod pull;
pub mod restart;
pub mod settings;
pub mod spec;
pub mod state;
pub mod supervisor;
mod takeover;
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
use audit::Audit;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};

/// What others may ask for.
#[derive(Debug)]
pub enum Command {
    Reload(Settings, oneshot::Sender<Vec<Change>>),
    Restart(String, oneshot::Sender<Result<(), CommandError>>),
    Stop(Target, Haste, oneshot::Sender<Result<(), CommandError>>),
    Start(Target, oneshot::Sender<Result<(), CommandError>>),
    /// None: for ever.
    Pause(
        Target,
        Option<Duration>,
        oneshot::Sender<Result<(), CommandError>>,
    ),
    Resume(Target, oneshot::Sender<Result<(), CommandError>>),
    /// The host goes down in that time; None: it stays up after all.
    Host(Option<Duration>),
}

/// How much time a stop has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Haste {
    /// Connections are not waited for.
    pub now: bool,
    /// All of it has to be over by then.
    pub within: Option<Duration>,
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
    /// "added", "removed", "replaced", "kept", [`KEPT_FOR_NOW`], "updated in place"
    pub what: &'static str,
}

/// What its files hold is not known before its task has read them.
const KEPT_FOR_NOW: &str = "kept, replaced if its files have changed";

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommandError {
    #[error("no container named {0:?} in the config")]
    Unknown(String),
    #[error("another order came in between")]
    Overruled,
    #[error("supervision has stopped")]
    Gone,
}

/// A cheap, cloneable end for reporters and commands.
#[derive(Clone)]
pub struct Handle {
    audit: Audit,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Arc<Status>>,
}

impl Handle {
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// At most `n` events of the audit log after `seq`, the last ones.
    pub fn events(&self, seq: u64, n: usize, container: Option<&str>) -> Vec<audit::Event> {
        self.audit.after(seq, n, container)
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
    pub async fn stop(&self, target: Target, haste: Haste) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Stop(target, haste, reply)).await?;
        answer.await.map_err(|_| CommandError::Gone)?
    }

    pub async fn start(&self, target: Target) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Start(target, reply)).await?;
        answer.await.map_err(|_| CommandError::Gone)?
    }

    /// Leaves containers alone: no restart, no replacement, no probe's order.
    pub async fn pause(&self, target: Target, time: Option<Duration>) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Pause(target, time, reply)).await?;
        answer.await.map_err(|_| CommandError::Gone)?
    }

    pub async fn resume(&self, target: Target) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Resume(target, reply)).await?;
        answer.await.map_err(|_| CommandError::Gone)?
    }

    /// The host goes down: all containers stop in reverse order of their start, within that time,
    /// and start with the next boot. Nobody's order, so none is remembered.
    pub async fn host_goes(&self, within: Duration) -> Result<(), CommandError> {
        self.send(Command::Host(Some(within))).await
    }

    /// The host stays up after all: what was to run runs again.
    pub async fn host_stays(&self) -> Result<(), CommandError> {
        self.send(Command::Host(None)).await
    }

    /// Writes something into the audit log that is not of a container.
    pub fn record(&self, record: audit::Record) {
        self.audit.record(record);
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
    /// Ids of the images that containers were last good with.
    pub last_good: BTreeSet<String>,
}

#[derive(Debug, Clone, Default)]
pub struct DockerStatus {
    /// None until the first call has come back.
    pub reachable: Option<bool>,
    pub version: Option<String>,
    pub since: Option<SystemTime>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerStatus {
    pub name: String,
    pub image: String,
    pub essential: bool,
    pub phase: Phase,
    /// None where the container has no readiness probe.
    pub ready: Option<bool>,
    /// Not looked at yet, but it ran in this boot when an agent last saw it.
    pub presumed: bool,
    /// An order or the config has it go, or stay, down.
    pub unwanted: bool,
    pub id: Option<String>,
    pub pid: Option<i64>,
    pub started_at: Option<SystemTime>,
    /// `8080/tcp` → `0.0.0.0:32768`, as bound.
    pub ports: Vec<(String, String)>,
    pub restarts: u64,
    /// Five unplanned ends within ten minutes.
    pub crash_loop: bool,
    /// It is about to be replaced by a changed one: how far that is.
    pub update: Option<&'static str>,
    /// What the config says was tried and was no good.
    pub rolled_back: bool,
    /// The operator has it left alone.
    pub paused: bool,
    /// The pull of its image, while there is one and its size is known.
    pub pull: Option<PullStatus>,
    pub last_exit: Option<Exit>,
    pub retry_at: Option<SystemTime>,
    /// Why it is where it is: the last error, the dependency waited for.
    pub message: Option<String>,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullStatus {
    /// Bytes of layers that are here, and of those whose size is known.
    pub done: u64,
    pub total: u64,
    /// 0 to 99. Never goes down.
    pub percent: u8,
}

impl ContainerStatus {
    /// Up and, where it has a probe, ready.
    pub fn is_well(&self) -> bool {
        let is_up = self.phase == Phase::Running || self.presumed;
        is_up && self.ready != Some(false) || self.phase == Phase::Completed
    }
}

/// The word that status shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Docker has not been asked yet, or does not answer.
    #[default]
    Unknown,
    Waiting,
    Pulling,
    Starting,
    Running,
    /// On its way out; serves what it has begun.
    Draining,
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
            Phase::Draining => "draining",
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
    /// The command could not be run: 126, 127.
    Config,
    /// Someone else on this host stopped or killed it.
    External,
    /// Docker took it down with itself.
    Daemon,
    /// We stopped it.
    Stopped,
}

impl ExitClass {
    pub const ALL: [ExitClass; 8] = [
        ExitClass::Clean,
        ExitClass::Error,
        ExitClass::Signal,
        ExitClass::Oom,
        ExitClass::Config,
        ExitClass::External,
        ExitClass::Daemon,
        ExitClass::Stopped,
    ];

    /// As logs, metrics and tables show it.
    pub fn word(self) -> &'static str {
        match self {
            ExitClass::Clean => "clean",
            ExitClass::Error => "error",
            ExitClass::Signal => "signal",
            ExitClass::Oom => "oom",
            ExitClass::Config => "config",
            ExitClass::External => "external",
            ExitClass::Daemon => "daemon",
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
    /// Names the boot of this host: what is remembered of another one counts less.
    pub boot: String,
    pub registry: prometheus::Registry,
    pub pulse: Pulse,
    /// Logins for image registries beside those of the config.
    pub credentials: pull::Credentials,
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;
