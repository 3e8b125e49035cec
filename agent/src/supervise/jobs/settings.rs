//! What the room is told: the checked form of `[jobs.*]`.

use super::schedule::Schedule;
use crate::supervise::PullPolicy;
use crate::supervise::spec::Spec;
use std::time::Duration;

/// What `[jobs.*]` says, checked: names unique, and none that a container has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    pub jobs: Vec<Job>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub name: String,
    pub spec: Spec,
    pub schedule: Schedule,
    /// Up to so long after the due time a run begins, as the host's seed has it. Default 0.
    pub jitter: Duration,
    pub overlap: Overlap,
    /// From the start of an attempt to its stop signal; None: no deadline.
    pub timeout: Option<Duration>,
    /// Further attempts after a failed one. Default 0.
    pub retries: u32,
    /// Whether the last missed run is made up for. Default true.
    pub catch_up: bool,
    /// A missed run older than this is not made up for. Default 1 h.
    pub catch_up_within: Duration,
    /// Ended runs that are remembered. Default 10.
    pub history: usize,
    /// Between the stop signal and SIGKILL. Default 30 s.
    pub stop_grace_period: Duration,
    pub pull_policy: PullPolicy,
}

/// What becomes of a run whose time comes while another one is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// It is skipped.
    #[default]
    Forbid,
    /// The one under way is stopped first.
    Replace,
    /// It runs beside, up to [`super::job::PARALLEL`] in all.
    Allow,
}
