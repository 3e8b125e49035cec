//! Where what is wanted differs from what is.

use super::{Goal, Mind};
use crate::supervise::settings::{Apply, Container};
use crate::supervise::spec::hash;
use crate::supervise::state::{State, Swap, Then, Wish};
use std::sync::Arc;

impl Mind {
    /// The order that would bring what is closer to what is wanted.
    pub(super) fn wish(&self) -> Option<Wish> {
        if matches!(self.state, State::Unknown { .. } | State::Starting { .. }) {
            return None;
        }
        if self.now.hurry && matches!(self.state, State::Draining { .. }) {
            return Some(Wish::Hurry);
        }
        match self.now.goal {
            Goal::Remove => self.wish_gone(),
            Goal::Stop => self.wish_stopped(),
            Goal::Run if self.now.paused => None,
            Goal::Run => self.wish_running(),
        }
    }

    fn wish_gone(&self) -> Option<Wish> {
        match &self.state {
            State::Removing { .. } | State::Removed => None,
            State::Stopping { then, .. } | State::Draining { then, .. } => {
                (*then != Then::Remove).then_some(Wish::Remove)
            }
            State::Running(running) if self.is_doubled(running.swap) => None,
            _ => Some(Wish::Remove),
        }
    }

    fn wish_stopped(&self) -> Option<Wish> {
        match &self.state {
            State::Stopped | State::Removing { .. } | State::Removed => None,
            State::Stopping { then, .. } | State::Draining { then, .. } => {
                (!matches!(then, Then::Rest | Then::Remove)).then_some(Wish::Stop)
            }
            State::Running(running) if self.is_doubled(running.swap) => None,
            _ => Some(Wish::Stop),
        }
    }

    fn wish_running(&self) -> Option<Wish> {
        let restart = self.turned != self.now.turn;
        let wanted = self.target().1;
        let tried_another = self
            .tried
            .as_deref()
            .is_some_and(|tried| !hash::same(tried, &wanted));
        match &self.state {
            State::Draining { then, .. } | State::Stopping { then, .. } => {
                matches!(then, Then::Rest | Then::Remove).then_some(Wish::Run)
            }
            State::Stopped | State::Removing { .. } | State::Removed => Some(Wish::Run),
            State::Running(running) => self.wish_swapped(running.swap, restart, tried_another),
            _ if restart => Some(Wish::Restart),
            State::Backoff { .. }
            | State::Blocked { .. }
            | State::Completed
            | State::Fetching { .. } => tried_another.then_some(Wish::Run),
            _ => None,
        }
    }

    fn wish_swapped(&self, swap: Swap, restart: bool, tried_another: bool) -> Option<Wish> {
        match (self.differs(), swap) {
            (_, Swap::Doubling | Swap::Clearing) => None,
            (_, Swap::Proving(_)) if restart => Some(Wish::Restart),
            (true, Swap::No | Swap::Held) if restart => Some(Wish::Replace),
            (false, _) if restart => Some(Wish::Restart),
            (true, Swap::No | Swap::Held) => match self.now.container.update.apply {
                Apply::Auto => Some(Wish::Replace),
                Apply::Manual if swap == Swap::Held || self.forced => None,
                Apply::Manual => Some(Wish::Hold),
            },
            // An order while the new image is on its way only makes it urgent.
            (true, _) if restart || tried_another => Some(Wish::Replace),
            (true, _) | (false, Swap::No) => None,
            (false, _) => Some(Wish::Run),
        }
    }

    fn is_doubled(&self, swap: Swap) -> bool {
        matches!(swap, Swap::Doubling | Swap::Clearing)
    }

    /// What runs is not of the shape that it should have.
    pub(super) fn differs(&self) -> bool {
        let wanted = self.target().1;
        match &self.held {
            // A shape that was no good replaces nothing that runs.
            Some(_) if self.is_bad(&wanted) => false,
            Some(held) if held.foreign => false,
            Some(held) => !hash::same(&held.hash, &wanted),
            None => false,
        }
    }

    /// Was tried and was no good.
    pub(super) fn is_bad(&self, shape: &str) -> bool {
        let bad = self.entry.bad.as_deref();
        bad.is_some_and(|bad| hash::same(bad, shape))
    }

    /// What it is to be made of: the config, or the last good one where the
    /// config's was tried and was no good.
    pub(super) fn target(&self) -> (Arc<Container>, Arc<str>) {
        let wanted = &self.now;
        let is_bad = self.is_bad(&wanted.hash);
        match &self.entry.last_good {
            Some(good) if is_bad && wanted.container.update.rollback => {
                let mut container = Container::clone(&wanted.container);
                container.spec = good.spec.clone();
                (Arc::new(container), good.hash.as_str().into())
            }
            _ => (wanted.container.clone(), wanted.hash.clone()),
        }
    }
}
