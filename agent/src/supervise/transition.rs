//! What follows from an event: the decisions of supervision, as a pure function.
//!
//! [`next`] takes a state, an event and the time, and says the new state and
//! at most one thing to do. It has no clock, no socket and no container id:
//! the mind that feeds it knows which id an event speaks of.
//! Invariants: a crash goes to `Launch` without `Fetch`; nothing is launched
//! from `Unknown` before a look at what is there; nothing is begun while the
//! operator has paused it; an event that makes no sense in a state changes
//! nothing and is told as a surprise.

use super::restart::{self, RESET_AFTER};
use super::state::{
    Action, Drainage, Event, Exited, Failure, Policy, Running, Sight, Signal, State, Step, Swap,
    Then, Wish,
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
/// Grace of a container that a probe has given up.
const LIFELESS_GRACE: Duration = Duration::from_secs(10);
/// Kept free of a deadline for the last signal and the end.
const LAST_MOMENTS: Duration = Duration::from_secs(5);
/// Where the ladder begins for what only another config can mend: 60 s.
const CONFIG_RUNG: u32 = 7;

/// What follows from `event` in `state`.
pub fn next(state: State, event: Event, now: Instant, policy: &Policy) -> Step {
    let step = follow(state, event, now, policy);
    if policy.paused {
        return held_back(step, now);
    }
    step
}

/// A paused container is not started and not replaced.
fn held_back(step: Step, now: Instant) -> Step {
    let state = match (&step.action, step.state) {
        (Some(Action::Launch), state) => State::Backoff {
            climb: state.climb(),
            until: now,
        },
        (Some(Action::Fetch | Action::Double), State::Running(running)) => {
            State::Running(Running {
                swap: Swap::No,
                ..running
            })
        }
        (_, state) => return Step { state, ..step },
    };
    Step {
        state,
        action: None,
        surprise: step.surprise,
    }
}

fn follow(state: State, event: Event, now: Instant, policy: &Policy) -> Step {
    match (state, event) {
        // what is wanted; at rest these are quick
        (state, Event::Wish(wish)) => wished(state, wish, now, policy),

        // what is there
        (State::Unknown { climb }, Event::Sighted(sight)) => first_look(climb, sight, now, policy),
        (
            State::Stopping { then, .. } | State::Draining { then, .. },
            Event::Sighted(Sight::Nothing | Sight::Dead { .. })
            | Event::Exited(_)
            | Event::Vanished,
        ) => ended(then, now, policy),
        (State::Stopped, Event::Sighted(Sight::Running { .. })) => stop(Then::Rest, now, policy),
        (
            state @ (State::Draining { .. }
            | State::Stopping { .. }
            | State::Removing { .. }
            | State::Removed
            | State::Running(_)),
            Event::Sighted(Sight::Running { .. }),
        )
        | (state @ (State::Removing { .. } | State::Removed), Event::Sighted(_)) => stay(state),
        (_, Event::Sighted(Sight::Running { started, ready })) => {
            stay(adopted(0, started, ready, now))
        }
        (
            State::Running(running),
            Event::Sighted(Sight::Nothing | Sight::Dead { .. })
            | Event::Vanished
            | Event::Exited(_),
        ) => {
            let climb = forgiven(&running, now);
            match (running.swap, event) {
                // What was to follow it is there already.
                (Swap::Proving(_), _) => go(State::Starting { climb }, Action::Promote),
                (_, Event::Sighted(Sight::Dead { exit, .. }) | Event::Exited(exit)) => {
                    exited(climb, exit, now, policy)
                }
                _ => failed(climb, now, policy),
            }
        }
        (
            State::Starting { climb },
            Event::Exited(exit)
            | Event::Sighted(Sight::Dead {
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
            Event::FetchFailed(_),
        ) => go(State::Starting { climb }, Action::Launch),
        (State::Fetching { climb, .. }, Event::FetchFailed(until)) => {
            stay(State::Backoff { climb, until })
        }
        (State::Starting { climb }, Event::Launched) => stay(launched(climb, now, policy)),
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

        (State::Running(running), event) => while_running(running, event, now, policy),

        // on the way down
        (
            State::Draining {
                step: Drainage::Deregister,
                then,
                ..
            },
            Event::Due,
        ) => drain_connections(then, now, policy),
        (State::Draining { then, .. }, Event::Due) => stop(then, now, policy),
        (
            State::Draining {
                step: Drainage::Connections,
                then,
                ..
            },
            Event::Drained,
        ) => stop(then, now, policy),
        (
            State::Draining {
                step,
                until,
                then: Then::Promote,
            },
            Event::DoubleFailed,
        ) => stay(State::Draining {
            step,
            until,
            then: Then::Launch,
        }),
        (
            State::Stopping {
                until,
                killed,
                then: Then::Promote,
            },
            Event::DoubleFailed,
        ) => stay(State::Stopping {
            until,
            killed,
            then: Then::Launch,
        }),
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

        (state, _) => surprise(state),
    }
}

fn while_running(running: Running, event: Event, now: Instant, policy: &Policy) -> Step {
    let with = |swap| State::Running(Running { swap, ..running });
    match (running.swap, event) {
        (_, Event::Started) if !running.started => {
            let ready = running.ready.map(|_| !policy.readies);
            stay(State::Running(Running {
                started: true,
                ready,
                good_since: (ready != Some(false)).then_some(now),
                ..running
            }))
        }
        (_, Event::NeverStarted | Event::Lifeless) if policy.paused => {
            stay(State::Running(running))
        }
        (_, Event::NeverStarted | Event::Lifeless) => {
            let then = match running.swap {
                Swap::Proving(_) => Then::Promote,
                _ => Then::Again(forgiven(&running, now)),
            };
            let grace = policy.grace.min(LIFELESS_GRACE);
            stop(then, now, &Policy { grace, ..*policy })
        }
        (_, Event::Ready(is)) if running.started && running.ready.is_some() => {
            stay(State::Running(Running {
                good_since: match running.ready == Some(is) {
                    true => running.good_since,
                    false => is.then_some(now),
                },
                ready: Some(is),
                ..running
            }))
        }
        (swap, Event::Due) => {
            let climb = forgiven(&running, now);
            let running = Running { climb, ..running };
            let with = |swap| State::Running(Running { swap, ..running });
            match swap {
                Swap::Later(at) if at <= now => go(with(Swap::Fetching), Action::Fetch),
                Swap::Proving(until) if until <= now => go(with(Swap::Clearing), Action::Clear),
                swap => stay(with(swap)),
            }
        }
        (Swap::Fetching, Event::Fetched) => stay(with(Swap::Fetched)),
        (Swap::Fetching, Event::FetchFailed(at)) => stay(with(Swap::Later(at))),
        (Swap::Fetched, Event::Turn) if policy.overlap => go(with(Swap::Doubling), Action::Double),
        (Swap::Fetched, Event::Turn) => leave(&running, Then::Launch, now, policy),

        // two at once
        (Swap::Doubling, Event::Doubled) if policy.starts || policy.readies => {
            stay(with(Swap::Proving(now + policy.ready_within)))
        }
        (Swap::Doubling, Event::Doubled) | (Swap::Proving(_), Event::DoubleReady) => {
            leave(&running, Then::Promote, now, policy)
        }
        (Swap::Doubling, Event::LaunchFailed(Failure::ImageMissing))
            if policy.pull != PullPolicy::Never =>
        {
            go(with(Swap::Fetching), Action::Fetch)
        }
        (Swap::Doubling, Event::LaunchFailed(_))
        | (Swap::Doubling | Swap::Proving(_), Event::DoubleFailed) => {
            go(with(Swap::Clearing), Action::Clear)
        }
        (Swap::Clearing, Event::Cleared) => stay(with(Swap::No)),
        _ => surprise(State::Running(running)),
    }
}

fn wished(state: State, wish: Wish, now: Instant, policy: &Policy) -> Step {
    match (state, wish) {
        // not before a look, or before an unclear start is cleared up
        (state @ (State::Unknown { .. } | State::Starting { .. }), _) => stay(state),

        (State::Draining { then, .. }, Wish::Hurry) => stop(then, now, policy),
        (state, Wish::Hurry) => stay(state),

        (State::Running(running), wish) => wished_while_running(running, wish, now, policy),

        (State::Draining { step, until, .. }, wish) => stay(State::Draining {
            step,
            until,
            then: then(wish),
        }),
        (State::Stopping { until, killed, .. }, wish) => stay(State::Stopping {
            until,
            killed,
            then: then(wish),
        }),

        (state @ (State::Removing { .. } | State::Removed), Wish::Stop | Wish::Remove) => {
            stay(state)
        }
        (State::Removing { .. } | State::Removed, _) => stay(State::Waiting { climb: 0 }),

        (_, Wish::Remove) => go(State::Removing { retry: None }, Action::Remove),
        (_, Wish::Stop) => stay(State::Stopped),
        (State::Backoff { .. } | State::Blocked { .. }, _) => {
            go(State::Starting { climb: 0 }, Action::Launch)
        }
        (_, _) => stay(State::Waiting { climb: 0 }),
    }
}

fn wished_while_running(running: Running, wish: Wish, now: Instant, policy: &Policy) -> Step {
    let with = |swap| State::Running(Running { swap, ..running });
    match (running.swap, wish) {
        // The one beside it is cleared away first; the wish comes again.
        (Swap::Proving(_), Wish::Stop | Wish::Remove | Wish::Restart | Wish::Replace)
        | (Swap::Proving(_), Wish::Run | Wish::Hold) => go(with(Swap::Clearing), Action::Clear),
        (Swap::Doubling | Swap::Clearing, _) => stay(State::Running(running)),
        (_, Wish::Stop | Wish::Remove | Wish::Restart) => leave(&running, then(wish), now, policy),
        (_, Wish::Replace) => go(with(Swap::Fetching), Action::Fetch),
        (_, Wish::Hold) => stay(with(Swap::Held)),
        (_, Wish::Run | Wish::Hurry) => stay(with(Swap::No)),
    }
}

fn then(wish: Wish) -> Then {
    match wish {
        Wish::Stop => Then::Rest,
        Wish::Remove => Then::Remove,
        Wish::Run | Wish::Replace | Wish::Hold | Wish::Restart | Wish::Hurry => Then::Launch,
    }
}

/// What to make of what an earlier agent, or an earlier boot, left behind.
fn first_look(climb: u32, sight: Sight, now: Instant, policy: &Policy) -> Step {
    match sight {
        Sight::Nothing => stay(State::Waiting { climb }),
        Sight::Running { started, ready } => stay(adopted(climb, started, ready, now)),
        Sight::Dead { same: false, .. } => stay(State::Waiting { climb: 0 }),
        Sight::Dead {
            exit, news, wait, ..
        } => {
            if policy.completes && exit.class == ExitClass::Clean {
                return stay(State::Completed);
            }
            if let (false, Some(wait)) = (news, wait) {
                return stay(State::Backoff {
                    climb,
                    until: now + wait,
                });
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
    match exit.class {
        ExitClass::Clean if policy.completes => stay(State::Completed),
        ExitClass::Daemon => stay(State::Waiting { climb }),
        // What someone else did is no failure of its own, unless they fight us.
        ExitClass::External if !exit.brief => stay(State::Waiting { climb }),
        ExitClass::Config => failed(climb.max(CONFIG_RUNG), now, policy),
        _ => failed(climb, now, policy),
    }
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

fn ended(then: Then, now: Instant, policy: &Policy) -> Step {
    match then {
        Then::Launch => go(State::Starting { climb: 0 }, Action::Launch),
        Then::Rest => stay(State::Stopped),
        Then::Remove => go(State::Removing { retry: None }, Action::Remove),
        Then::Again(climb) => failed(climb, now, policy),
        Then::Promote => go(State::Starting { climb: 0 }, Action::Promote),
    }
}

fn forgiven(running: &Running, now: Instant) -> u32 {
    match running.good_since {
        Some(since) if now.duration_since(since) >= RESET_AFTER => 0,
        _ => running.climb,
    }
}

fn launched(climb: u32, now: Instant, policy: &Policy) -> State {
    let probed = policy.starts || policy.readies;
    adopted(climb, !policy.starts, probed.then_some(false), now)
}

fn adopted(climb: u32, started: bool, ready: Option<bool>, now: Instant) -> State {
    State::Running(Running {
        climb,
        good_since: (ready != Some(false)).then_some(now),
        started,
        ready,
        swap: Swap::No,
    })
}

/// The way out of running: what it serves is let finish before the signal.
fn leave(running: &Running, then: Then, now: Instant, policy: &Policy) -> Step {
    if !running.started {
        return stop(then, now, policy);
    }
    // Nobody sends work to what is not ready.
    if running.ready == Some(false) || policy.deregister.is_zero() {
        return drain_connections(then, now, policy);
    }
    drain(Drainage::Deregister, policy.deregister, then, now, policy)
}

fn drain_connections(then: Then, now: Instant, policy: &Policy) -> Step {
    drain(Drainage::Connections, policy.connections, then, now, policy)
}

fn drain(step: Drainage, time: Duration, then: Then, now: Instant, policy: &Policy) -> Step {
    let last = policy
        .deadline
        .and_then(|deadline| deadline.checked_sub(policy.grace + LAST_MOMENTS));
    let until = match (policy.deadline, last) {
        (None, _) => now + time,
        (Some(_), Some(last)) => last.min(now + time),
        (Some(_), None) => now,
    };
    if until <= now {
        return stop(then, now, policy);
    }
    stay(State::Draining { step, until, then })
}

fn stop(then: Then, now: Instant, policy: &Policy) -> Step {
    let until = now + policy.grace;
    let state = State::Stopping {
        until: policy.deadline.map_or(until, |last| last.min(until)),
        killed: false,
        then,
    };
    go(state, Action::Signal(Signal::Stop))
}

fn surprise(state: State) -> Step {
    Step {
        state,
        action: None,
        surprise: true,
    }
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
