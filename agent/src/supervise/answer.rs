//! What a task makes of answers and hints: from Docker's words to events.
//!
//! A death is counted once, whether an event, a look or a launch told of it.

use super::act::{Found, LaunchError};
use super::body::LABEL_SPEC;
use super::memory::SavedExit;
use super::spec::hash;
use super::state::{Event, Exited, Failure, Sight, State};
use super::task::{Held, Hint, Outcome, Task};
use super::{Exit, ExitClass};
use crate::chain::Chain;
use crate::docker::{self, container::Container, events};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Between looks while an answer was unclear.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Task {
    pub(super) fn done(&mut self, outcome: Outcome) {
        self.doing = None;
        match outcome {
            Outcome::Looked(Ok(found)) => self.looked(found),
            Outcome::Looked(Err(error)) => self.look_again(&error),
            Outcome::Fetched(Ok(())) => {
                self.message = None;
                self.feed(Event::Fetched);
            }
            Outcome::Fetched(Err(error)) => {
                self.message = Some(Chain(&error).to_string());
                tracing::warn!(container = self.name(), error = %Chain(&error), "image not fetched");
                self.feed(Event::FetchFailed);
            }
            Outcome::Launched(Ok(container)) => self.launched(&container),
            Outcome::Launched(Err(error)) => self.launch_failed(error),
            Outcome::Signalled(Ok(())) => {}
            // It may be dead by now, or Docker may not answer: look.
            Outcome::Signalled(Err(error)) if error.is_unreachable() => self.look_again(&error),
            Outcome::Signalled(Err(_)) => self.look_at = Some(Instant::now()),
            Outcome::Removed(Ok(())) => {
                self.held = None;
                self.prev_taken = false;
                self.feed(Event::Removed);
            }
            Outcome::Removed(Err(error)) => {
                self.message = Some(Chain(&error).to_string());
                self.feed(Event::RemoveFailed);
            }
        }
    }

    fn look_again(&mut self, error: &docker::Error) {
        tracing::debug!(container = self.name(), error = %Chain(error), "docker gave no clear answer");
        self.look_at = Some(Instant::now() + LOOK_AGAIN);
    }

    fn looked(&mut self, found: Found) {
        let blameless = std::mem::take(&mut self.outage);
        self.seen = self.looking;
        self.learn_hash(&found.hash);
        self.prev_taken = found.others > 0;
        let Some(container) = found.current else {
            self.held = None;
            self.feed(Event::Sighted(Sight::Nothing));
            return;
        };
        let run = run_of(&container);
        let known_dead = self.entry.buried == run;
        self.hold(&container, run);
        if self.tried.is_none() {
            self.tried = self.held.as_ref().map(|held| held.hash.as_str().into());
        }
        if container.running {
            let ready = self.now.container.probes.readiness.as_ref().map(|_| {
                let remembered = self.held.as_ref().is_some_and(|h| h.run == self.entry.run);
                remembered && self.entry.ready == Some(true)
            });
            self.feed(Event::Sighted(Sight::Running { ready }));
            return;
        }
        if container.created_only {
            // Made by an agent that did not live to start it: no death.
            if let Some(held) = &mut self.held {
                held.dead = true;
            }
            let same = self
                .held
                .as_ref()
                .is_some_and(|h| hash::same(&h.hash, &self.now.hash));
            let exit = Exited {
                class: ExitClass::Error,
                blameless: true,
            };
            let event = Sight::Dead {
                exit,
                news: false,
                same,
            };
            self.feed(Event::Sighted(event));
            return;
        }
        let class = self.classify(container.exit_code, container.oom_killed);
        let exit = Exited { class, blameless };
        let label = container.labels.get(LABEL_SPEC);
        let same = label.is_some_and(|label| hash::same(label, &self.now.hash));
        if !known_dead {
            let at = container.finished_at.unwrap_or_else(SystemTime::now);
            self.bury(container.exit_code, exit, at);
        }
        self.feed(Event::Sighted(Sight::Dead {
            exit,
            news: !known_dead,
            same,
        }));
    }

    fn launched(&mut self, container: &Container) {
        let known = self.held.is_some();
        let run = run_of(container);
        self.prev_taken |= known;
        self.hold(container, run);
        if let Some(made) = self.held.as_ref().map(|held| held.hash.clone()) {
            self.learn_hash(&made);
            self.tried = Some(self.now.hash.clone());
        }
        self.oom = false;
        self.feed(Event::Launched);
        if !container.running {
            let class = self.classify(container.exit_code, container.oom_killed);
            self.exited(container.exit_code, class, container.finished_at);
        }
    }

    fn launch_failed(&mut self, error: LaunchError) {
        match error.failure {
            Failure::Unsure => self.look_at = Some(Instant::now() + LOOK_AGAIN),
            // Moved aside on the way, or not: the next launch finds out.
            _ => {
                if self.held.take().is_some() {
                    self.prev_taken = true;
                }
            }
        }
        if !matches!(error.failure, Failure::ImageMissing | Failure::Unsure) {
            let name = self.now.container.name.clone();
            self.ground
                .counts
                .start_failures
                .with_label_values(&[&name])
                .inc();
        }
        if error.failure == Failure::ImageMissing {
            tracing::info!(
                container = self.name(),
                error = error.text,
                "image is not here"
            );
        } else {
            tracing::warn!(
                container = self.name(),
                error = error.text,
                "container did not start"
            );
        }
        self.message = Some(error.text);
        self.feed(Event::LaunchFailed(error.failure));
    }

    /// What the files of the wanted spec hold is known by now, or known better.
    fn learn_hash(&mut self, known: &str) {
        if hash::same_spec(known, &self.now.hash) {
            self.now.hash = known.into();
        }
    }

    fn hold(&mut self, container: &Container, run: String) {
        self.held = Some(Held {
            id: container.id.clone(),
            hash: container
                .labels
                .get(LABEL_SPEC)
                .cloned()
                .unwrap_or_default(),
            run,
            pid: container.pid,
            started_at: container.started_at.filter(|_| container.running),
            stop_signal: container.stop_signal.clone(),
            dead: !container.running,
        });
    }

    pub(super) fn hinted(&mut self, hint: Hint) {
        match hint {
            Hint::Listed(all) => {
                let held = self.held.as_ref();
                let runs = all.iter().any(|one| one.running);
                let held_runs = all
                    .iter()
                    .any(|one| one.running && held.is_some_and(|held| held.id == one.id));
                let agrees = match self.state {
                    State::Unknown { .. } => false,
                    _ if self.state.expects_process() => held_runs,
                    _ => !runs,
                };
                if !agrees && self.look_at.is_none() {
                    self.look_at = Some(Instant::now());
                }
            }
            Hint::Happened(event) => self.happened(&event),
        }
    }

    fn happened(&mut self, event: &events::Event) {
        let Some(held) = &self.held else { return };
        if held.id != event.id || held.dead {
            return;
        }
        match event.what {
            events::What::Oom => self.oom = true,
            events::What::Died(code) => {
                // A replayed death of an earlier run of the same container.
                let stale = match (event.at, held.started_at) {
                    (Some(at), Some(started)) => at < started,
                    _ => false,
                };
                if stale {
                    // Or the clock has been set back: a look tells which.
                    self.look_at = Some(Instant::now());
                    return;
                }
                let class = self.classify(code, false);
                self.exited(code, class, event.at);
            }
            events::What::Destroyed => {
                self.held = None;
                self.message = Some("removed by someone else".into());
                self.count_restart("removed");
                self.feed(Event::Vanished);
            }
            events::What::Started | events::What::Renamed => {}
        }
    }

    fn exited(&mut self, code: i64, class: ExitClass, at: Option<SystemTime>) {
        let exit = Exited {
            class,
            blameless: false,
        };
        self.bury(code, exit, at.unwrap_or_else(SystemTime::now));
        self.feed(Event::Exited(exit));
    }

    fn classify(&self, code: i64, oom_flag: bool) -> ExitClass {
        if matches!(self.state, State::Stopping { .. }) {
            return ExitClass::Stopped;
        }
        match code {
            0 => ExitClass::Clean,
            // The flag alone says that some process inside was hit.
            137 if self.oom || oom_flag => ExitClass::Oom,
            129..=192 => ExitClass::Signal,
            _ => ExitClass::Error,
        }
    }

    /// Counts a death once.
    fn bury(&mut self, code: i64, exit: Exited, at: SystemTime) {
        let name = self.now.container.name.clone();
        let counts = &self.ground.counts;
        counts.last_exit_code.with_label_values(&[&name]).set(code);
        if let Some(held) = &mut self.held {
            held.dead = true;
            held.pid = None;
            held.started_at = None;
            self.entry.buried = held.run.clone();
        }
        let class = exit.class;
        self.entry.last_exit = Some(SavedExit::of(&Exit { code, class, at }));
        let completed = self.now.completes && class == ExitClass::Clean;
        if class != ExitClass::Stopped && !completed {
            let reason = if exit.blameless {
                "daemon"
            } else {
                class.word()
            };
            self.count_restart(reason);
            self.message = Some(format!("exited: {} {code}", class.word()));
            tracing::warn!(
                container = name,
                code,
                class = class.word(),
                "container exited"
            );
        }
    }

    fn count_restart(&mut self, reason: &str) {
        self.entry.restarts = self.entry.restarts.saturating_add(1);
        let name = self.now.container.name.clone();
        let counts = &self.ground.counts;
        counts
            .restarts
            .with_label_values(&[name.as_str(), reason])
            .inc();
    }
}

/// Names one run: Docker keeps the id over a restart, not the start time.
fn run_of(container: &docker::container::Container) -> String {
    format!("{}@{}", container.id, container.started_at_text)
}
