//! Dead generations: when they are cleared away.

use super::{Held, Mind, Moment};
use crate::chain::Chain;
use crate::docker;
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

    /// The task has begun to clear away.
    pub fn tidying(&mut self) {
        self.tidy_at = None;
    }

    /// Whether a dead generation is kept under `<name>.prev`.
    pub fn tidied(&mut self, answer: Result<bool, docker::Error>, moment: &Moment) {
        match answer {
            Ok(kept) => self.prev_taken = kept,
            Err(error) => {
                tracing::debug!(container = self.name(), error = %Chain(&error), "dead generation stays for now");
                self.tidy_at = Some(moment.at + TIDY_AGAIN.mul_f64(0.8 + 0.4 * moment.spread));
            }
        }
    }
}
