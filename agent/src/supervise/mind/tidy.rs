//! Dead generations: when they are cleared away, and what the last one has to tell.

use super::{Held, Mind, Moment, Tidied};
use crate::chain::Chain;
use crate::docker;
use crate::supervise::ExitClass;
use crate::supervise::state::State;
use std::time::Duration;
use tokio::time::Instant;

/// Between tries to clear away dead generations; spread, so that not all come at once.
const TIDY_AGAIN: Duration = Duration::from_secs(60);

impl Mind {
    /// When dead generations are to be cleared away, where that is of use now.
    pub fn tidy_due(&self) -> Option<(Instant, &Held)> {
        let settled = matches!(
            self.state,
            State::Running(_) | State::Backoff { .. } | State::Stopped | State::Completed
        ) && !self.state.expects_double();
        match (self.tidy_at, &self.held) {
            (Some(at), Some(held)) if settled && self.now.docker && !self.is_busy() => {
                Some((at, held))
            }
            _ => None,
        }
    }

    /// The task has begun to clear away; the id of one whose death is to be looked into.
    pub fn tidying(&mut self) -> Option<String> {
        self.tidy_at = None;
        self.unexplained.take()
    }

    /// Dead generations have been cleared away.
    pub fn tidied(&mut self, answer: Result<Tidied, docker::Error>, moment: &Moment) {
        match answer {
            Ok(tidied) => {
                self.prev_taken = tidied.kept;
                if tidied.was_oom {
                    self.explain_oom();
                }
            }
            Err(error) => {
                tracing::debug!(container = self.name(), error = %Chain(&error), "dead generation stays for now");
                self.tidy_at = Some(moment.at + TIDY_AGAIN.mul_f64(0.8 + 0.4 * moment.spread));
            }
        }
    }

    /// Docker's flag came too late for its events, or an event was lost.
    fn explain_oom(&mut self) {
        let Some(last) = &mut self.entry.last_exit else {
            return;
        };
        last.class = ExitClass::Oom.word().into();
        tracing::warn!(container = self.name(), "it had died for want of memory");
        self.record("its last exit was oom");
    }
}
