//! The life of one container in words: states, events, actions.
//!
//! What follows from what is decided in [`super::transition`]; the task acts on it.

use super::restart::RESET_AFTER;
use super::{ExitClass, Phase, PullPolicy};
use std::time::Duration;
use tokio::time::Instant;

/// Where a container is. `climb` counts the failures since it was last good.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Not looked at yet.
    Unknown {
        climb: u32,
    },
    /// For the containers that it depends on.
    Waiting {
        climb: u32,
    },
    /// Nothing runs; the image is being pulled. `missing`: it cannot start without.
    Fetching {
        climb: u32,
        missing: bool,
    },
    /// Being made and started; after an unclear answer, being looked for.
    Starting {
        climb: u32,
    },
    Running {
        climb: u32,
        /// Ready since, or running since where nothing probes.
        good_since: Option<Instant>,
        /// None where nothing probes.
        ready: Option<bool>,
        swap: Swap,
    },
    /// Signalled; killed at `until`.
    Stopping {
        until: Instant,
        killed: bool,
        then: Then,
    },
    Backoff {
        climb: u32,
        until: Instant,
    },
    /// By something that waiting does not heal; looked at again at `until`.
    Blocked {
        climb: u32,
        until: Instant,
    },
    Stopped,
    /// Ended well where others wait for just that.
    Completed,
    Removing {
        retry: Option<Instant>,
    },
    Removed,
}

/// Whether a running container is about to be replaced by a changed one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Swap {
    No,
    /// The new image is being fetched; the old container serves on.
    Fetching,
    /// The fetch failed; again at.
    Later(Instant),
}

/// What follows a stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Then {
    Launch,
    Rest,
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// What a look at Docker found.
    Sighted(Sight),
    /// What is wanted has changed.
    Wish(Wish),
    /// The containers that it waits for are there.
    Released,
    Fetched,
    /// Asking before that is no use.
    FetchFailed(Duration),
    Launched,
    LaunchFailed(Failure),
    Exited(Exited),
    /// Someone removed it.
    Vanished,
    /// The probe's verdict.
    Ready(bool),
    Removed,
    RemoveFailed,
    /// [`State::due`] has come.
    Due,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sight {
    Nothing,
    /// `ready`: as remembered of this very run; None where nothing probes.
    Running {
        ready: Option<bool>,
    },
    /// `news`: this death has not been seen before. `same`: of the wanted spec.
    Dead {
        exit: Exited,
        news: bool,
        same: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exited {
    pub class: ExitClass,
    /// The daemon took it down, not its own doing.
    pub blameless: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wish {
    /// Should run, in the shape that it has if it runs.
    Run,
    /// Should run in another shape.
    Replace,
    /// The operator asked for a fresh start.
    Restart,
    Stop,
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Failure {
    ImageMissing,
    /// Another's container has the name.
    Foreign,
    /// Docker does not take the spec.
    Refused,
    Failed,
    /// No answer: it may have been made or not.
    Unsure,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    Look,
    Fetch,
    Launch,
    Signal(Signal),
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Signal {
    /// The container's own stop signal.
    Stop,
    Kill,
}

/// What `next` needs to know of this container.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// 0.0..1.0, drawn anew for each decision.
    pub spread: f64,
    pub grace: Duration,
    pub pull: PullPolicy,
    /// Has a readiness probe.
    pub probed: bool,
    /// Others wait for its completion.
    pub completes: bool,
}

/// The answer of [`next`].
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub state: State,
    pub action: Option<Action>,
    /// The event made no sense here.
    pub surprise: bool,
}

impl State {
    /// When [`Event::Due`] is to come, if at all.
    pub fn due(&self) -> Option<Instant> {
        match self {
            State::Running {
                climb,
                good_since,
                swap,
                ..
            } => {
                let reset = good_since
                    .filter(|_| *climb > 0)
                    .map(|since| since + RESET_AFTER);
                let fetch = match swap {
                    Swap::Later(at) => Some(*at),
                    Swap::No | Swap::Fetching => None,
                };
                [reset, fetch].into_iter().flatten().min()
            }
            State::Stopping { until, .. }
            | State::Backoff { until, .. }
            | State::Blocked { until, .. } => Some(*until),
            State::Removing { retry } => *retry,
            _ => None,
        }
    }

    /// The failures behind it, for the memory.
    pub fn climb(&self) -> u32 {
        match self {
            State::Unknown { climb }
            | State::Waiting { climb }
            | State::Fetching { climb, .. }
            | State::Starting { climb }
            | State::Running { climb, .. }
            | State::Backoff { climb, .. }
            | State::Blocked { climb, .. } => *climb,
            _ => 0,
        }
    }

    pub fn phase(&self) -> Phase {
        match self {
            State::Unknown { .. } => Phase::Unknown,
            State::Waiting { .. } => Phase::Waiting,
            State::Fetching { .. } => Phase::Pulling,
            State::Starting { .. } => Phase::Starting,
            State::Running { .. } => Phase::Running,
            State::Stopping { .. } | State::Removing { .. } => Phase::Stopping,
            State::Stopped | State::Removed => Phase::Stopped,
            State::Backoff { .. } => Phase::Backoff,
            State::Completed => Phase::Completed,
            State::Blocked { .. } => Phase::Blocked,
        }
    }

    /// A main process is expected to live.
    pub fn expects_process(&self) -> bool {
        matches!(self, State::Running { .. } | State::Stopping { .. })
    }

    /// Nothing of it runs or is about to.
    pub fn is_at_rest(&self) -> bool {
        matches!(
            self,
            State::Stopped | State::Completed | State::Removing { .. } | State::Removed
        )
    }
}
