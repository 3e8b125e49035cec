//! What a task says of itself: its line of the status, its share of the memory.

use super::ContainerStatus;
use super::memory::{Entry, SavedExit};
use super::state::State;
use super::task::Task;
use std::time::SystemTime;
use tokio::time::Instant;

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
}

impl Task {
    /// Tells the supervisor what has changed, if anything has.
    pub(super) async fn report(&mut self) {
        let report = self.describe();
        if self.reported.as_ref() == Some(&report) {
            return;
        }
        let name = report.status.name.as_str();
        let counts = &self.ground.counts;
        let flag = |is: bool| i64::from(is);
        let up = matches!(self.state, State::Running { .. });
        let ready = up && report.status.ready != Some(false);
        counts.up.with_label_values(&[name]).set(flag(up));
        counts.ready.with_label_values(&[name]).set(flag(ready));
        self.reported = Some(report.clone());
        // A supervisor that has gone stops this task by other means.
        let _ = self.ground.reports.send(report).await;
    }

    fn describe(&mut self) -> Report {
        let ready = match self.state {
            State::Running { ready, .. } => ready,
            _ => self.now.container.probes.readiness.as_ref().map(|_| false),
        };
        let held = self.held.as_ref().filter(|held| !held.dead);
        if let (State::Running { .. }, Some(held)) = (&self.state, held) {
            self.entry.run.clone_from(&held.run);
            self.entry.ready = ready;
        }
        self.entry.climb = self.state.climb();
        self.retry = match (self.state.due(), &self.state) {
            (Some(until), State::Backoff { .. } | State::Blocked { .. }) => match self.retry {
                Some((known, at)) if known == until => Some((known, at)),
                _ => Some((until, wall(until))),
            },
            _ => None,
        };
        let last_exit = self.entry.last_exit.as_ref().and_then(SavedExit::exit);
        Report {
            status: ContainerStatus {
                name: self.now.container.name.clone(),
                image: self.now.container.spec.image.clone(),
                essential: self.now.container.essential,
                phase: self.state.phase(),
                ready,
                id: held.map(|held| held.id.clone()),
                pid: held.and_then(|held| held.pid),
                started_at: held.and_then(|held| held.started_at),
                restarts: self.entry.restarts,
                last_exit,
                retry_at: self.retry.map(|(_, at)| at),
                message: self.message.clone(),
            },
            entry: self.entry.clone(),
            seen: self.seen,
            at_rest: self.state.is_at_rest(),
            removed: self.state == State::Removed,
        }
    }
}

/// For display only: every wait itself is on the monotonic clock.
fn wall(at: Instant) -> SystemTime {
    SystemTime::now() + at.saturating_duration_since(Instant::now())
}
