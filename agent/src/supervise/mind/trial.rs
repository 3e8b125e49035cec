//! Whether a new shape of a container is any good, and the way back.

use super::{Held, Mind, Moment, Note};
use crate::supervise::audit::{Actor, Record};
use crate::supervise::memory::Good;
use crate::supervise::spec::hash;
use crate::supervise::state::{Event, State, Swap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Good time after which a shape is the one to go back to.
const PROVEN_AFTER: Duration = Duration::from_secs(60);
/// Deaths and failed starts of a new shape that end its trial.
const DEATHS: u32 = 3;

/// A new shape that has not proven itself yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    pub hash: Arc<str>,
    /// Has to be ready by then; None once it has been.
    until: Option<Instant>,
    deaths: u32,
}

impl Mind {
    /// A launch of that shape is about to happen.
    pub(super) fn try_out(&mut self, shape: &Arc<str>, moment: &Moment) {
        let is_proven = self
            .entry
            .last_good
            .as_ref()
            .is_some_and(|good| hash::same(&good.hash, shape));
        if is_proven {
            self.trial = None;
        } else if self
            .trial
            .as_ref()
            .is_none_or(|trial| !hash::same(&trial.hash, shape))
        {
            self.trial = Some(Trial {
                hash: shape.clone(),
                until: Some(moment.at + self.now.container.update.ready_within),
                deaths: 0,
            });
        }
    }

    /// It has died, or could not be started, or a probe has given it up.
    pub(super) fn count_death(&mut self) {
        if let Some(trial) = &mut self.trial {
            trial.deaths = trial.deaths.saturating_add(1);
        }
    }

    /// Ends the trial where its outcome is clear; true when the config's shape
    /// was no good and another one is wanted from now on.
    pub(super) fn judge_trial(&mut self, moment: &Moment) -> bool {
        self.remember_good(moment);
        let Some(trial) = &mut self.trial else {
            return false;
        };
        let running = self.state.running();
        if running.is_some_and(|running| running.ready != Some(false)) {
            trial.until = None;
        }
        let late = trial.until.is_some_and(|until| until <= moment.at);
        let why = match (trial.deaths >= DEATHS, late) {
            (true, _) => format!("{} failures in a row", trial.deaths),
            (false, true) => format!(
                "not ready within {:?}",
                self.now.container.update.ready_within
            ),
            (false, false) => return false,
        };
        let is_the_configs = hash::same(&trial.hash, &self.now.hash);
        self.trial = None;
        if !is_the_configs || !self.now.container.update.rollback {
            return false;
        }
        self.condemn(&why);
        self.entry.last_good.is_some()
    }

    /// The config's shape is not tried again until the config changes.
    pub(super) fn condemn(&mut self, why: &str) {
        let shape = self.now.hash.to_string();
        tracing::error!(
            container = self.name(),
            why,
            "new config of the container is no good, it is not tried again until it changes"
        );
        let phase = self.state.phase().word();
        self.notes.push(Note::Audit(Record {
            container: self.name().to_owned(),
            from: phase,
            to: phase,
            reason: format!("rolled back: {why}"),
            actor: Actor::Agent,
        }));
        self.notes.push(Note::Rollback);
        self.entry.bad = Some(shape);
        self.forced = true;
    }

    /// The one beside the old one has used up its time.
    pub(super) fn judge_double(&mut self, before: &State, event: Event) {
        let swap = |state: &State| state.running().map(|running| running.swap);
        let was_proving = matches!(swap(before), Some(Swap::Proving(_)));
        if event == Event::Due && was_proving && swap(&self.state) == Some(Swap::Clearing) {
            let within = self.now.container.update.ready_within;
            self.message = Some(format!("the new one was not ready within {within:?}"));
            self.condemn(&format!("not ready within {within:?} beside the old one"));
        }
    }

    fn remember_good(&mut self, moment: &Moment) {
        let Some(since) = self.state.running().and_then(|running| running.good_since) else {
            return;
        };
        if since + PROVEN_AFTER > moment.at {
            return;
        }
        let (Some(held), (container, shape)) = (&self.held, self.target()) else {
            return;
        };
        if !is_of(held, &shape) || self.is_remembered(held) {
            return;
        }
        let mut spec = container.spec.clone();
        // What the tag stands for today is what was good.
        spec.image.clone_from(&held.image_id);
        self.entry.last_good = Some(Good {
            hash: held.hash.clone(),
            image: container.spec.image.clone(),
            spec,
        });
        self.entry.bad = None;
        self.trial = None;
    }

    fn is_remembered(&self, held: &Held) -> bool {
        self.entry
            .last_good
            .as_ref()
            .is_some_and(|good| good.hash == held.hash && good.spec.image == held.image_id)
    }

    /// When [`Mind::judge_trial`] is of use again.
    pub(super) fn trial_due(&self) -> Option<Instant> {
        let late = self.trial.as_ref().and_then(|trial| trial.until);
        let running = self.state.running();
        let is_ready = running.is_some_and(|running| running.ready != Some(false));
        let proven = running
            .and_then(|running| running.good_since)
            .map(|since| since + PROVEN_AFTER)
            .filter(|_| {
                let wanted = self.target().1;
                let held = self.held.as_ref();
                held.is_some_and(|held| is_of(held, &wanted) && !self.is_remembered(held))
            });
        [late.filter(|_| !is_ready), proven]
            .into_iter()
            .flatten()
            .min()
    }
}

fn is_of(held: &Held, shape: &str) -> bool {
    hash::same(&held.hash, shape) && !held.image_id.is_empty() && !held.foreign
}
