//! What a mind says of itself: its line of the status, its share of the memory.

use super::{Goal, Mind, Moment};
use crate::supervise::memory::{Entry, SavedExit, millis};
use crate::supervise::state::{Action, Drainage, State, Swap};
use crate::supervise::{ContainerStatus, Phase};

/// Told to the supervisor after each change.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub status: ContainerStatus,
    pub entry: Entry,
    /// The connection to Docker in which it was last looked at.
    pub seen: u64,
    /// Nothing of it runs or is about to.
    pub at_rest: bool,
    pub removed: bool,
    /// Its new image is here, and it waits for its turn to be replaced.
    pub wants_lane: bool,
    /// It is being replaced, or what replaced it is not ready yet.
    pub in_lane: bool,
}

impl Mind {
    pub fn report(&mut self, moment: &Moment) -> Report {
        let running = self.state.running().copied();
        let probes = &self.now.container.probes;
        let presumed = matches!(self.state, State::Unknown { .. }) && self.entry.is_alive();
        let ready = match (&running, &self.state) {
            (Some(running), _) => running.ready,
            _ if presumed => probes.say_ready().then_some(self.entry.ready == Some(true)),
            // What is drained is on its way out: nothing is to be sent to it.
            _ => probes.say_ready().then_some(false),
        };
        let held = self.held.as_ref().filter(|held| !held.dead);
        if let (Some(running), Some(held)) = (&running, held) {
            self.entry.run.clone_from(&held.run);
            self.entry.started = running.started;
            self.entry.ready = running.ready;
        }
        self.entry.climb = self.state.climb();
        self.retry = match (self.state.due(), &self.state) {
            (
                Some(until),
                State::Backoff { .. } | State::Blocked { .. } | State::Draining { .. },
            ) => match self.retry {
                Some((known, at)) if known == until => Some((known, at)),
                // For display and for the next agent: each wait itself is on
                // the monotonic clock.
                _ => Some((
                    until,
                    moment.wall + until.saturating_duration_since(moment.at),
                )),
            },
            _ => None,
        };
        self.entry.wait_until = match self.state {
            State::Backoff { .. } => self.retry.map(|(_, at)| millis(at)),
            _ => None,
        };
        let swap = running.map(|running| running.swap);
        let in_lane = match (&self.state, &running) {
            (State::Starting { .. } | State::Draining { .. } | State::Stopping { .. }, _) => true,
            (_, Some(running)) => {
                matches!(
                    running.swap,
                    Swap::Doubling | Swap::Proving(_) | Swap::Clearing
                ) || running.ready == Some(false)
            }
            _ => false,
        };
        Report {
            status: ContainerStatus {
                name: self.now.container.name.clone(),
                image: self.now.container.spec.image.clone(),
                essential: self.now.container.essential,
                phase: self.state.phase(),
                ready,
                presumed,
                unwanted: self.now.goal != Goal::Run,
                id: held.map(|held| held.id.clone()),
                pid: held.and_then(|held| held.pid),
                started_at: held.and_then(|held| held.started_at),
                ports: held.map(|held| held.ports.clone()).unwrap_or_default(),
                restarts: self.entry.restarts,
                crash_loop: self.is_crash_loop(moment.wall) && self.now.goal == Goal::Run,
                update: self.update_word(swap),
                rolled_back: self.is_rolled_back(),
                paused: self.now.paused,
                pull: self.pull.filter(|_| self.doing == Some(Action::Fetch)),
                last_exit: self.entry.last_exit.as_ref().and_then(SavedExit::exit),
                retry_at: self.retry.map(|(_, at)| at),
                message: self.message.clone().or_else(|| self.drain_word()),
            },
            entry: self.entry.clone(),
            seen: self.seen,
            at_rest: self.state.is_at_rest(),
            removed: self.state == State::Removed,
            wants_lane: swap == Some(Swap::Fetched) && !self.now.paused,
            in_lane,
        }
    }

    fn update_word(&self, swap: Option<Swap>) -> Option<&'static str> {
        match swap? {
            Swap::No => None,
            Swap::Held => Some("pending, agent restart brings it in"),
            Swap::Fetching => Some("pending, image is being pulled"),
            Swap::Later(_) => Some("pending, image could not be pulled"),
            Swap::Fetched => Some("pending, waits for its turn"),
            Swap::Doubling | Swap::Proving(_) => Some("the new one is getting ready"),
            Swap::Clearing => Some("the new one is cleared away"),
        }
    }

    /// The config's shape was tried and was no good.
    fn is_rolled_back(&self) -> bool {
        self.is_bad(&self.now.hash)
    }

    fn drain_word(&self) -> Option<String> {
        match &self.state {
            State::Draining {
                step: Drainage::Deregister,
                then,
                ..
            } => Some(format!(
                "{}, waits until no work is sent to it",
                then.word()
            )),
            State::Draining { then, .. } => {
                Some(format!("{}, waits for open connections", then.word()))
            }
            State::Stopping { then, killed, .. } => {
                let step = if *killed { "killed" } else { "signalled" };
                Some(format!("{step}, {}", then.word()))
            }
            _ => None,
        }
    }

    pub fn phase(&self) -> Phase {
        self.state.phase()
    }
}
