//! What supervision is told: the checked form of `[containers.*]`.

use super::spec::Spec;
use super::{housekeeping, pull};
use std::time::Duration;

/// What `[containers.*]` says, checked: names unique, dependencies exist and have no cycle.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    pub containers: Vec<Container>,
    pub images: pull::Settings,
    pub housekeeping: housekeeping::Settings,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    pub name: String,
    pub spec: Spec,
    pub depends_on: Vec<Dependency>,
    /// Between the stop signal and SIGKILL. Default 30 s.
    pub stop_grace_period: Duration,
    pub pull_policy: PullPolicy,
    pub probes: Probes,
    pub drain: Drain,
    pub update: Update,
    pub takeover: Takeover,
    /// Counts for the heartbeat. Default true.
    pub essential: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    pub name: String,
    pub condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Started,
    Ready,
    Completed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    #[default]
    Missing,
    Always,
    Never,
}

/// `[containers.NAME.probes]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probes {
    /// Until it has passed once, the other two wait. `failures` × `period` is
    /// its allowance; past it the container is restarted.
    pub startup: Option<Probe>,
    /// Whether it takes work. Never restarts anything.
    pub readiness: Option<Probe>,
    /// `failures` in a row restart the container.
    pub liveness: Option<Probe>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub check: Check,
    pub period: Duration,
    pub timeout: Duration,
    /// Failures in a row until the verdict is no.
    pub failures: u32,
    /// Successes in a row until the verdict is yes.
    pub successes: u32,
}

/// How a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// GET from the agent: 200..=399 is success.
    Http {
        /// The host's loopback when the config says ":8080/path".
        host: String,
        port: u16,
        path: String,
    },
    /// A connection from the agent that is accepted.
    Tcp { host: String, port: u16 },
    /// A command inside the container: exit code 0 is success.
    Exec { command: Vec<String> },
    /// What Docker says of the HEALTHCHECK of the image or of `healthcheck`.
    Docker,
}

/// `[containers.NAME.drain]`: what comes between the decision to stop and the
/// signal. All of it only where the container is up and has been ready.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drain {
    /// The heartbeat says 503 for so long before anything else. Default 0.
    pub deregister_wait: Duration,
    /// Open connections to its ports are waited for, at most this long. Default 0.
    pub connections: Duration,
}

/// `[containers.NAME.update]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub apply: Apply,
    pub order: Order,
    /// Back to the last good one when the new one does not become ready.
    pub rollback: bool,
    /// A new one has to be ready within this. Default 120 s.
    pub ready_within: Duration,
}

/// When a container that differs from the config at the agent's start is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Apply {
    /// By the agent, one container after the other, each drained.
    #[default]
    Auto,
    /// By `agent restart NAME`; until then it is shown as pending.
    Manual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    StopFirst,
    /// The new one is ready before the old one is drained.
    Overlap,
}

/// What is done with a container that is not ours and has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Takeover {
    /// It is left alone, and ours waits.
    #[default]
    Refuse,
    /// It is supervised as it is until its next restart, which makes it ours.
    Adopt,
    /// It is stopped with grace, removed and replaced.
    Replace,
}

impl Default for Update {
    fn default() -> Update {
        Update {
            apply: Apply::Auto,
            order: Order::StopFirst,
            rollback: false,
            ready_within: Duration::from_secs(120),
        }
    }
}

impl Probes {
    /// Something says whether it is ready.
    pub fn say_ready(&self) -> bool {
        self.startup.is_some() || self.readiness.is_some()
    }
}
