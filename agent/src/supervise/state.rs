//! The life of one container in words: states, events, actions.
//!
//! What follows from what is decided in [`super::transition`]; the mind knows
//! which container is meant, and the task acts on it.

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
    Running(Running),
    /// Serves what it has begun; signalled when `step` is over.
    Draining {
        step: Drainage,
        until: Instant,
        then: Then,
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

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    pub climb: u32,
    /// Ready since, or running since where nothing probes.
    pub good_since: Option<Instant>,
    /// Its startup probe has passed, or it has none.
    pub started: bool,
    /// None where nothing probes.
    pub ready: Option<bool>,
    pub swap: Swap,
}

/// Whether a running container is about to be replaced by a changed one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Swap {
    No,
    /// It differs, and its config leaves the moment to the operator.
    Held,
    /// The new image is being fetched; the old container serves on.
    Fetching,
    /// The fetch failed; again at.
    Later(Instant),
    /// The image is here; other containers' updates go first.
    Fetched,
    /// The new one is being made beside the old one.
    Doubling,
    /// The new one runs beside the old one and has to be ready by then.
    Proving(Instant),
    /// The new one was no good and is being cleared away.
    Clearing,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drainage {
    /// The heartbeat says 503, and whoever sends work sees it.
    Deregister,
    /// Open connections to its ports come to their end.
    Connections,
}

/// What follows a stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Then {
    Launch,
    Rest,
    Remove,
    /// A rung up: a probe had it stopped.
    Again(u32),
    /// The one beside it takes its place.
    Promote,
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
    /// The registry is asked again no sooner than then.
    FetchFailed(Instant),
    /// It is this container's turn to be replaced.
    Turn,
    Launched,
    LaunchFailed(Failure),
    Exited(Exited),
    /// Someone removed it.
    Vanished,
    /// The startup probe has passed.
    Started,
    /// The startup probe's allowance is used up.
    NeverStarted,
    /// The readiness probe's verdict.
    Ready(bool),
    /// The liveness probe has given it up.
    Lifeless,
    /// No connections are open any more.
    Drained,
    /// The one beside it: made, ready, or no good; and cleared away.
    Doubled,
    DoubleReady,
    DoubleFailed,
    Cleared,
    Removed,
    RemoveFailed,
    /// [`State::due`] has come.
    Due,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sight {
    Nothing,
    Running {
        /// As remembered of this very run.
        started: bool,
        /// As remembered of this very run; None where nothing probes.
        ready: Option<bool>,
    },
    /// `news`: this death has not been seen before. `same`: of the wanted spec.
    /// `wait`: what was left of its back-off when the agent went.
    Dead {
        exit: Exited,
        news: bool,
        same: bool,
        wait: Option<Duration>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exited {
    pub class: ExitClass,
    /// It did not live for a minute.
    pub brief: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wish {
    /// Should run, in the shape that it has if it runs.
    Run,
    /// Should run in another shape.
    Replace,
    /// Should run in another shape, when the operator says so.
    Hold,
    /// The operator asked for a fresh start.
    Restart,
    Stop,
    Remove,
    /// What is under way should not wait for connections any more.
    Hurry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    ImageMissing,
    /// Another's container has the name.
    Foreign,
    /// Docker does not take the spec, or a file that it needs is not there.
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
    /// Makes the new one beside the old one.
    Double,
    /// Gives the one beside it its name and place.
    Promote,
    /// Removes the one beside it.
    Clear,
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
    pub deregister: Duration,
    pub connections: Duration,
    /// Whatever stops has to be signalled by then.
    pub deadline: Option<Instant>,
    pub pull: PullPolicy,
    /// Has a startup probe.
    pub starts: bool,
    /// Has a readiness probe.
    pub readies: bool,
    /// Others wait for its completion.
    pub completes: bool,
    /// The new one is started beside the old one.
    pub overlap: bool,
    pub ready_within: Duration,
    /// The operator has it left alone: nothing is begun.
    pub paused: bool,
}

/// The answer of [`super::transition::next`].
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
            State::Running(running) => {
                let reset = running
                    .good_since
                    .filter(|_| running.climb > 0)
                    .map(|since| since + RESET_AFTER);
                let swap = match running.swap {
                    Swap::Later(at) | Swap::Proving(at) => Some(at),
                    _ => None,
                };
                [reset, swap].into_iter().flatten().min()
            }
            State::Draining { until, .. }
            | State::Stopping { until, .. }
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
            | State::Running(Running { climb, .. })
            | State::Stopping {
                then: Then::Again(climb),
                ..
            }
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
            State::Running(_) => Phase::Running,
            State::Draining { .. } => Phase::Draining,
            State::Stopping { .. } | State::Removing { .. } => Phase::Stopping,
            State::Stopped | State::Removed => Phase::Stopped,
            State::Backoff { .. } => Phase::Backoff,
            State::Completed => Phase::Completed,
            State::Blocked { .. } => Phase::Blocked,
        }
    }

    pub fn running(&self) -> Option<&Running> {
        match self {
            State::Running(running) => Some(running),
            _ => None,
        }
    }

    /// A main process is expected to live.
    pub fn expects_process(&self) -> bool {
        matches!(
            self,
            State::Running(_) | State::Draining { .. } | State::Stopping { .. }
        )
    }

    /// One beside it is expected to live, or to be there at least.
    pub fn expects_double(&self) -> bool {
        match self {
            State::Running(running) => matches!(
                running.swap,
                Swap::Doubling | Swap::Proving(_) | Swap::Clearing
            ),
            State::Draining { then, .. } | State::Stopping { then, .. } => *then == Then::Promote,
            _ => false,
        }
    }

    /// Nothing of it runs or is about to.
    pub fn is_at_rest(&self) -> bool {
        matches!(
            self,
            State::Stopped | State::Completed | State::Removing { .. } | State::Removed
        )
    }
}
