//! What follows from an event: the decisions of supervision, as a pure function.
//!
//! [`next`] takes a state, an event and the time, and says the new state and
//! at most one thing to do. It has no clock, no socket and no container id:
//! the task that owns the container knows which id an event speaks of.
//! Invariants: a crash goes to `Launch` without `Fetch`; nothing is launched
//! from `Unknown` before a look at what is there; an event that makes no sense
//! in a state changes nothing and is told as a surprise.

use super::restart::{self, RESET_AFTER};
use super::state::{
    Action, Event, Exited, Failure, Policy, Sight, Signal, State, Step, Swap, Then, Wish,
};
use super::{ExitClass, PullPolicy};
use std::time::Duration;
use tokio::time::Instant;

/// Between SIGKILL and the next SIGKILL, for a process stuck in the kernel.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// Between looks at whether what blocks a container is gone.
const BLOCKED_RETRY: Duration = Duration::from_secs(30);
/// Between tries to remove a container for good.
const REMOVE_RETRY: Duration = Duration::from_secs(60);

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
        (State::Fetching { climb, .. }, Event::Fetched) => {
            go(State::Starting { climb }, Action::Launch)
        }
        // No crash: pulls have a ladder of their own.
        (State::Fetching { climb, .. }, Event::FetchFailed(again_in)) => stay(State::Backoff {
            climb,
            until: now + again_in,
        }),
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
            Event::FetchFailed(again_in),
        ) => stay(State::Running {
            climb,
            good_since,
            ready,
            swap: Swap::Later(now + again_in),
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
