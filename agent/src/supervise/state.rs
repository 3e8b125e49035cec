//! The life of one container, as a pure function.
//!
//! [`next`] takes a state, an event and the time, and says the new state and
//! at most one thing to do. It has no clock, no socket and no container id:
//! the task that owns the container knows which id an event speaks of.
//! Invariants: a crash goes to `Launch` without `Fetch`; nothing is launched
//! from `Unknown` before a look at what is there; an event that makes no sense
//! in a state changes nothing and is told as a surprise.

use super::restart::{self, RESET_AFTER};
use super::{ExitClass, Phase, PullPolicy};
use std::time::Duration;
use tokio::time::Instant;

/// Between SIGKILL and the next SIGKILL, for a process stuck in the kernel.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// Between looks at whether what blocks a container is gone.
const BLOCKED_RETRY: Duration = Duration::from_secs(30);
/// Between tries to fetch the image of a replacement while the old one runs.
const FETCH_RETRY: Duration = Duration::from_secs(30);
/// Between tries to remove a container for good.
const REMOVE_RETRY: Duration = Duration::from_secs(60);

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
    FetchFailed,
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

/// What follows from `event` in `state`.
pub fn next(state: State, event: Event, now: Instant, policy: &Policy) -> Step {
    match (state, event) {
        // what is wanted; at rest these are quick
        (state, Event::Wish(wish)) => wished(state, wish, now, policy),

        // what is there
        (State::Unknown { climb }, Event::Sighted(sight)) => first_look(climb, sight, now, policy),
        (State::Stopping { then, .. }, Event::Sighted(Sight::Nothing | Sight::Dead { .. }))
        | (State::Stopping { then, .. }, Event::Exited(_) | Event::Vanished) => match then {
            Then::Launch => go(State::Starting { climb: 0 }, Action::Launch),
            Then::Rest => stay(State::Stopped),
            Then::Remove => go(State::Removing { retry: None }, Action::Remove),
        },
        (State::Stopped, Event::Sighted(Sight::Running { .. })) => stop(Then::Rest, now, policy),
        (
            state @ (State::Stopping { .. } | State::Removing { .. } | State::Removed),
            Event::Sighted(_),
        ) => stay(state),
        (running @ State::Running { .. }, Event::Sighted(Sight::Running { .. })) => stay(running),
        (_, Event::Sighted(Sight::Running { ready })) => stay(running(0, ready, now)),
        (
            State::Running {
                climb, good_since, ..
            },
            Event::Sighted(Sight::Nothing) | Event::Vanished,
        ) => failed(forgiven(climb, good_since, now), now, policy),
        (
            State::Running {
                climb, good_since, ..
            },
            Event::Sighted(Sight::Dead { exit, .. }) | Event::Exited(exit),
        ) => exited(forgiven(climb, good_since, now), exit, now, policy),
        (State::Starting { climb }, Event::Exited(exit))
        | (
            State::Starting { climb },
            Event::Sighted(Sight::Dead {
                exit, news: true, ..
            }),
        ) => exited(climb, exit, now, policy),
        (State::Starting { climb }, Event::Sighted(_)) => {
            go(State::Starting { climb }, Action::Launch)
        }
        (state, Event::Sighted(_)) => stay(state),

        // on the way up
        (State::Waiting { climb }, Event::Released) => match policy.pull {
            PullPolicy::Always => go(
                State::Fetching {
                    climb,
                    missing: false,
                },
                Action::Fetch,
            ),
            PullPolicy::Missing | PullPolicy::Never => {
                go(State::Starting { climb }, Action::Launch)
            }
        },
        (State::Fetching { climb, .. }, Event::Fetched)
        | (
            State::Fetching {
                climb,
                missing: false,
            },
            Event::FetchFailed,
        ) => go(State::Starting { climb }, Action::Launch),
        // A registry that just said no is not asked again at once.
        (State::Fetching { climb, .. }, Event::FetchFailed) => failed(climb.max(1), now, policy),
        (State::Starting { climb }, Event::Launched) => {
            stay(running(climb, policy.probed.then_some(false), now))
        }
        (State::Starting { climb }, Event::LaunchFailed(failure)) => match failure {
            Failure::ImageMissing if policy.pull != PullPolicy::Never => go(
                State::Fetching {
                    climb,
                    missing: true,
                },
                Action::Fetch,
            ),
            Failure::Foreign | Failure::Refused => stay(State::Blocked {
                climb,
                until: now + BLOCKED_RETRY,
            }),
            Failure::ImageMissing | Failure::Failed => failed(climb, now, policy),
            Failure::Unsure => stay(State::Starting { climb }),
        },
        (State::Backoff { climb, .. } | State::Blocked { climb, .. }, Event::Due) => {
            go(State::Starting { climb }, Action::Launch)
        }

        // while it runs
        (
            State::Running {
                climb,
                good_since,
                ready: Some(was),
                swap,
            },
            Event::Ready(is),
        ) => stay(State::Running {
            climb,
            good_since: if is == was {
                good_since
            } else {
                is.then_some(now)
            },
            ready: Some(is),
            swap,
        }),
        (
            State::Running {
                climb,
                good_since,
                ready,
                swap,
            },
            Event::Due,
        ) => {
            let kept = |swap| State::Running {
                climb: forgiven(climb, good_since, now),
                good_since,
                ready,
                swap,
            };
            match swap {
                Swap::Later(at) if at <= now => go(kept(Swap::Fetching), Action::Fetch),
                swap => stay(kept(swap)),
            }
        }
        (
            State::Running {
                swap: Swap::Fetching,
                ..
            },
            Event::Fetched,
        ) => stop(Then::Launch, now, policy),
        (
            State::Running {
                climb,
                good_since,
                ready,
                swap: Swap::Fetching,
            },
            Event::FetchFailed,
        ) => stay(State::Running {
            climb,
            good_since,
            ready,
            swap: Swap::Later(now + FETCH_RETRY),
        }),

        // on the way down
        (State::Stopping { then, .. }, Event::Due) => go(
            State::Stopping {
                until: now + KILL_AGAIN,
                killed: true,
                then,
            },
            Action::Signal(Signal::Kill),
        ),
        (State::Removing { .. }, Event::Removed) => stay(State::Removed),
        (State::Removing { .. }, Event::RemoveFailed) => stay(State::Removing {
            retry: Some(now + REMOVE_RETRY),
        }),
        (State::Removing { .. }, Event::Due) => go(State::Removing { retry: None }, Action::Remove),

        (state, _) => Step {
            state,
            action: None,
            surprise: true,
        },
    }
}

fn wished(state: State, wish: Wish, now: Instant, policy: &Policy) -> Step {
    match (state, wish) {
        // not before a look, or before an unclear start is cleared up
        (state @ (State::Unknown { .. } | State::Starting { .. }), _) => stay(state),

        (State::Running { .. }, Wish::Stop) => stop(Then::Rest, now, policy),
        (State::Running { .. }, Wish::Remove) => stop(Then::Remove, now, policy),
        (State::Running { .. }, Wish::Restart) => stop(Then::Launch, now, policy),
        (
            State::Running {
                climb,
                good_since,
                ready,
                ..
            },
            wish @ (Wish::Run | Wish::Replace),
        ) => {
            let kept = |swap| State::Running {
                climb,
                good_since,
                ready,
                swap,
            };
            if wish == Wish::Replace {
                go(kept(Swap::Fetching), Action::Fetch)
            } else {
                stay(kept(Swap::No))
            }
        }

        (State::Stopping { until, killed, .. }, wish) => stay(State::Stopping {
            until,
            killed,
            then: match wish {
                Wish::Stop => Then::Rest,
                Wish::Remove => Then::Remove,
                Wish::Run | Wish::Replace | Wish::Restart => Then::Launch,
            },
        }),

        (State::Removing { .. } | State::Removed, Wish::Run | Wish::Replace | Wish::Restart) => {
            stay(State::Waiting { climb: 0 })
        }
        (state @ (State::Removing { .. } | State::Removed), _) => stay(state),

        (_, Wish::Remove) => go(State::Removing { retry: None }, Action::Remove),
        (_, Wish::Stop) => stay(State::Stopped),
        (
            State::Backoff { .. } | State::Blocked { .. },
            Wish::Run | Wish::Replace | Wish::Restart,
        ) => go(State::Starting { climb: 0 }, Action::Launch),
        (_, Wish::Run | Wish::Replace | Wish::Restart) => stay(State::Waiting { climb: 0 }),
    }
}

/// What to make of what an earlier agent, or an earlier boot, left behind.
fn first_look(climb: u32, sight: Sight, now: Instant, policy: &Policy) -> Step {
    match sight {
        Sight::Nothing => stay(State::Waiting { climb }),
        Sight::Running { ready } => stay(running(climb, ready, now)),
        Sight::Dead { same: false, .. } => stay(State::Waiting { climb: 0 }),
        Sight::Dead { exit, news, .. } => {
            if policy.completes && exit.class == ExitClass::Clean {
                return stay(State::Completed);
            }
            // A death that the memory holds has climbed its rung already.
            let rung = if news { climb } else { climb.saturating_sub(1) };
            let delay = restart::delay(rung, policy.spread);
            if delay.is_zero() {
                // After a boot everything is dead: dependencies count again.
                return stay(State::Waiting { climb: rung + 1 });
            }
            stay(State::Backoff {
                climb: rung.saturating_add(1),
                until: now + delay,
            })
        }
    }
}

fn exited(climb: u32, exit: Exited, now: Instant, policy: &Policy) -> Step {
    if policy.completes && exit.class == ExitClass::Clean {
        return stay(State::Completed);
    }
    if exit.blameless {
        return stay(State::Waiting { climb });
    }
    failed(climb, now, policy)
}

/// One rung up: at once from the ground, else after a wait.
fn failed(climb: u32, now: Instant, policy: &Policy) -> Step {
    let delay = restart::delay(climb, policy.spread);
    let climb = climb.saturating_add(1);
    if delay.is_zero() {
        return go(State::Starting { climb }, Action::Launch);
    }
    stay(State::Backoff {
        climb,
        until: now + delay,
    })
}

fn forgiven(climb: u32, good_since: Option<Instant>, now: Instant) -> u32 {
    match good_since {
        Some(since) if now.duration_since(since) >= RESET_AFTER => 0,
        _ => climb,
    }
}

fn running(climb: u32, ready: Option<bool>, now: Instant) -> State {
    State::Running {
        climb,
        good_since: (ready != Some(false)).then_some(now),
        ready,
        swap: Swap::No,
    }
}

fn stop(then: Then, now: Instant, policy: &Policy) -> Step {
    let state = State::Stopping {
        until: now + policy.grace,
        killed: false,
        then,
    };
    go(state, Action::Signal(Signal::Stop))
}

fn stay(state: State) -> Step {
    Step {
        state,
        action: None,
        surprise: false,
    }
}

fn go(state: State, action: Action) -> Step {
    Step {
        state,
        action: Some(action),
        surprise: false,
    }
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
