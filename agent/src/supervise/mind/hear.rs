//! What a mind makes of answers, hints and verdicts: from Docker's words to events.
//!
//! A death is counted once, whether an event, a look or a launch told of it.

use super::{
    FetchError, Held, Hint, LOOK_AGAIN, LOOK_OVER, Mind, Moment, Note, Outcome, Repair, TIDY_AFTER,
};
use crate::chain::Chain;
use crate::docker::container::{Container, Summary};
use crate::docker::{self, events};
use crate::supervise::act::{Found, LaunchError, double_name};
use crate::supervise::body::{self, LABEL_SPEC};
use crate::supervise::memory::{SavedExit, millis};
use crate::supervise::settings::Takeover;
use crate::supervise::spec::hash;
use crate::supervise::state::{Event, Exited, Failure, Sight, State, Swap};
use crate::supervise::{Exit, ExitClass};
use std::time::{Duration, SystemTime};

/// A run that was shorter is brief.
const BRIEF: Duration = Duration::from_secs(60);
/// Between tries to put right what Docker would not.
const REPAIR_AGAIN: Duration = Duration::from_secs(60);
/// Ends within this much time that make a crash loop, and how many of them.
const CRASH_LOOP: (Duration, usize) = (Duration::from_secs(600), 5);
/// How a process ends that SIGKILL has ended.
const KILLED: i64 = 137;
/// Longest wait that is taken over from an agent that has gone.
const LONGEST_WAIT: Duration = Duration::from_secs(75);

impl Mind {
    /// The answer of what was under way.
    pub fn done(&mut self, outcome: Outcome, moment: &Moment) {
        if matches!(outcome, Outcome::Repaired(_)) {
            self.repairing = false;
        } else {
            self.doing = None;
        }
        match outcome {
            Outcome::Looked(Ok(found)) => self.looked(*found, moment),
            Outcome::Looked(Err(error)) => self.look_again(&error, moment),
            Outcome::Fetched(Ok(())) => {
                self.message = None;
                self.feed(Event::Fetched, moment);
            }
            Outcome::Fetched(Err(FetchError { text, again_in })) => {
                tracing::warn!(container = self.name(), error = text, "image not fetched");
                self.message = Some(text);
                self.feed(Event::FetchFailed(moment.at + again_in), moment);
            }
            Outcome::Launched(Ok(container)) => self.launched(&container, moment),
            Outcome::Launched(Err(error)) => self.launch_failed(error, moment),
            Outcome::Doubled(Ok(container)) => self.doubled(&container, moment),
            Outcome::Doubled(Err(error)) => self.double_failed(error, moment),
            Outcome::Promoted(Ok(container)) => self.promoted(&container, moment),
            Outcome::Promoted(Err(error)) => self.look_again(&error, moment),
            Outcome::Cleared(answer) => {
                if let Err(error) = answer {
                    tracing::debug!(container = self.name(), error = %Chain(&error), "the new one stays for now");
                }
                self.double = None;
                self.tidy_at = Some(moment.at + LOOK_AGAIN);
                self.feed(Event::Cleared, moment);
            }
            Outcome::Signalled(Ok(())) => {}
            // It may be dead by now, or Docker may not answer: look.
            Outcome::Signalled(Err(error)) if error.is_unreachable() => {
                self.look_again(&error, moment);
            }
            Outcome::Signalled(Err(_)) => self.look_at = Some(moment.at),
            Outcome::Removed(Ok(())) => {
                self.held = None;
                self.prev_taken = false;
                self.feed(Event::Removed, moment);
            }
            Outcome::Removed(Err(error)) => {
                self.message = Some(Chain(&error).to_string());
                self.feed(Event::RemoveFailed, moment);
            }
            Outcome::Repaired(Ok(())) => self.look_at = Some(moment.at),
            Outcome::Repaired(Err(error)) if error.is_unreachable() => {
                self.look_again(&error, moment);
            }
            Outcome::Repaired(Err(error)) => {
                let error = Chain(&error).to_string();
                tracing::warn!(container = self.name(), error, "drift is not put right");
                self.message = Some(error.clone());
                self.unmended = Some((moment.at + REPAIR_AGAIN, error));
                // It may be right by now.
                self.look_at = Some(moment.at + LOOK_AGAIN);
            }
        }
    }

    fn look_again(&mut self, error: &docker::Error, moment: &Moment) {
        tracing::debug!(container = self.name(), error = %Chain(error), "docker gave no clear answer");
        self.look_at = Some(moment.at + LOOK_AGAIN);
    }

    fn looked(&mut self, found: Found, moment: &Moment) {
        let after_outage = std::mem::take(&mut self.outage);
        self.seen = self.looking;
        self.learn_hash(&found.hash);
        self.prev_taken = found.others > 0;
        self.sight_double(found.double.as_ref(), moment);
        let Some(container) = found.current else {
            self.held = None;
            self.feed(Event::Sighted(Sight::Nothing), moment);
            return;
        };
        let run = run_of(&container);
        let known_dead = self.entry.buried == run;
        let was_same = self.held.as_ref().is_some_and(|held| held.run == run);
        let is_foreign = self
            .held
            .as_ref()
            .is_some_and(|held| held.foreign && held.id == container.id);
        let since = self
            .held
            .as_ref()
            .filter(|_| was_same)
            .and_then(|h| h.since);
        self.hold(&container, run);
        if let Some(held) = &mut self.held {
            held.since = since;
        }
        if let (true, Some(held)) = (is_foreign, &mut self.held) {
            held.foreign = true;
            // No event tells of it.
            self.look_at = Some(moment.at + LOOK_AGAIN);
        }
        if !was_same {
            (self.oom, self.signalled) = (false, false);
            self.unlimited = None;
        }
        if self.tried.is_none() {
            self.tried = self.held.as_ref().map(|held| held.hash.as_str().into());
        }
        if container.running {
            if self.look_at.is_none() {
                // Not all at once.
                self.look_at = Some(moment.at + LOOK_OVER.mul_f64(0.8 + 0.4 * moment.spread));
            }
            if self.prev_taken && self.tidy_at.is_none() {
                self.tidy_at = Some(moment.at + TIDY_AFTER);
            }
            self.look_for_drift(&container, moment);
            let beside = self.double.clone();
            self.feed(Event::Sighted(self.sight_running()), moment);
            // One that nobody expected is forgotten by now, and still runs.
            self.double = self.double.take().or(beside);
            self.take_double_over(moment);
            return;
        }
        let label = container.labels.get(LABEL_SPEC);
        let same = label.is_some_and(|label| hash::same(label, &self.target().1));
        let mut exit = Exited {
            class: ExitClass::Error,
            brief: true,
        };
        let mut news = false;
        if container.created_only {
            // Made by an agent that did not live to start it: no death.
            if let Some(held) = &mut self.held {
                held.dead = true;
            }
        } else {
            news = !known_dead;
            let class = match after_outage {
                true => ExitClass::Daemon,
                false => self.classify(container.exit_code, container.oom_killed),
            };
            let at = container.finished_at.unwrap_or(moment.wall);
            exit = self.exit_of(class, at);
            if news {
                self.bury(container.exit_code, exit, at, moment);
            }
        }
        let wait = self.entry.wait_until.and_then(|until| {
            let left = until.checked_sub(millis(moment.wall))?;
            Some(Duration::from_millis(left).min(LONGEST_WAIT))
        });
        let sight = Sight::Dead {
            exit,
            news,
            same,
            wait,
        };
        self.feed(Event::Sighted(sight), moment);
    }

    /// What is remembered of this very run stays believed until a probe speaks.
    fn sight_running(&self) -> Sight {
        let probes = &self.now.container.probes;
        let remembered = self
            .held
            .as_ref()
            .is_some_and(|held| held.run == self.entry.run);
        Sight::Running {
            started: probes.startup.is_none() || remembered && self.entry.started,
            ready: probes
                .say_ready()
                .then_some(remembered && self.entry.ready == Some(true)),
        }
    }

    fn look_for_drift(&mut self, container: &Container, moment: &Moment) {
        self.repair.clear();
        if self.held.as_ref().is_none_or(|held| held.foreign) {
            return;
        }
        let (target, wanted) = self.target();
        let is_that = (self.held.as_ref()).is_some_and(|held| hash::same(&held.hash, &wanted));
        let limited = !is_that
            || body::limits(&target.spec).hold_in(&container.limits)
            // Docker was told, and made this of it.
            || self.unlimited.as_ref() == Some(&container.limits);
        self.unlimited = (!limited).then(|| container.limits.clone());
        let drift = [
            (!limited, Repair::Limits),
            (container.name != self.name(), Repair::Name),
            (container.paused, Repair::Paused),
            (container.restarts_by_itself, Repair::RestartPolicy),
        ];
        self.repair
            .extend(drift.into_iter().filter(|one| one.0).map(|one| one.1));
        match self.unmended.take() {
            Some((until, error)) if !self.repair.is_empty() && moment.at < until => {
                self.repair.clear();
                self.look_at = Some(until);
                self.unmended = Some((until, error));
            }
            Some((_, error)) if self.message.as_ref() == Some(&error) => self.message = None,
            _ => {}
        }
    }

    /// One beside it that an earlier agent has made is proven, not made again.
    fn take_double_over(&mut self, moment: &Moment) {
        let is_idle = self
            .state
            .running()
            .is_some_and(|running| running.swap == Swap::No);
        let is_wanted = self
            .double
            .as_ref()
            .is_some_and(|double| hash::same(&double.hash, &self.target().1));
        if is_idle && is_wanted && self.differs() {
            let until = moment.at + self.now.container.update.ready_within;
            if let State::Running(running) = &mut self.state {
                running.swap = Swap::Proving(until);
            }
            self.tried = Some(self.target().1);
        } else if is_idle && self.double.take().is_some() {
            self.tidy_at = Some(moment.at);
        }
    }

    fn sight_double(&mut self, found: Option<&Container>, moment: &Moment) {
        let lives = found.is_some_and(|one| one.running);
        if lives {
            let one = found.into_iter().next();
            self.double = one.map(|one| held_of(one, run_of(one)));
        } else if self.double.take().is_some() {
            self.double_died(moment);
        }
    }

    fn launched(&mut self, container: &Container, moment: &Moment) {
        let known = self.held.is_some();
        self.prev_taken |= known;
        self.hold(container, run_of(container));
        if let Some(held) = &mut self.held {
            held.since = Some(moment.at);
            let made = held.hash.clone();
            self.learn_hash(&made);
            self.tried = Some(self.target().1);
        }
        (self.oom, self.signalled) = (false, false);
        self.look_at = Some(moment.at + LOOK_OVER);
        self.feed(Event::Launched, moment);
        if !container.running {
            let class = self.classify(container.exit_code, container.oom_killed);
            self.exited(container.exit_code, class, container.finished_at, moment);
        }
    }

    fn launch_failed(&mut self, error: LaunchError, moment: &Moment) {
        let failure = error.failure;
        match failure {
            Failure::Unsure => self.look_at = Some(moment.at + LOOK_AGAIN),
            Failure::Foreign if self.now.container.takeover == Takeover::Adopt => {
                if let Some(holder) = error.holder {
                    self.adopt_foreign(&holder, moment);
                    return;
                }
            }
            // Moved aside on the way, or not: the next launch finds out.
            _ => {
                if self.held.take().is_some() {
                    self.prev_taken = true;
                }
            }
        }
        self.tell_failure(failure, &error.text);
        self.message = Some(error.text);
        self.feed(Event::LaunchFailed(failure), moment);
    }

    /// It runs on as it is; its next start is ours.
    fn adopt_foreign(&mut self, holder: &Container, moment: &Moment) {
        tracing::warn!(
            container = self.name(),
            id = holder.id,
            "a container that the agent did not make is supervised as it is until its next restart"
        );
        let mut held = held_of(holder, run_of(holder));
        held.foreign = true;
        self.held = Some(held);
        self.look_at = Some(moment.at + LOOK_AGAIN);
        self.feed(Event::Sighted(self.sight_running()), moment);
    }

    fn tell_failure(&mut self, failure: Failure, text: &str) {
        if !matches!(failure, Failure::ImageMissing | Failure::Unsure) {
            self.notes.push(Note::StartFailed);
            self.count_death();
        }
        if failure == Failure::ImageMissing {
            tracing::info!(container = self.name(), error = text, "image is not here");
        } else {
            tracing::warn!(
                container = self.name(),
                error = text,
                "container did not start"
            );
        }
    }

    fn doubled(&mut self, container: &Container, moment: &Moment) {
        if !container.running {
            self.message = Some(format!(
                "the new one exited at once: {}",
                container.exit_code
            ));
            self.condemn("it exited at once beside the old one");
            self.feed(Event::DoubleFailed, moment);
            return;
        }
        let mut double = held_of(container, run_of(container));
        double.since = Some(moment.at);
        self.double = Some(double);
        self.feed(Event::Doubled, moment);
    }

    fn double_failed(&mut self, error: LaunchError, moment: &Moment) {
        self.tell_failure(error.failure, &error.text);
        self.message = Some(error.text);
        if !matches!(error.failure, Failure::ImageMissing | Failure::Unsure) {
            self.condemn("it did not start beside the old one");
        }
        self.feed(Event::LaunchFailed(error.failure), moment);
    }

    /// The new one has the name now; it was ready, and stays so.
    fn promoted(&mut self, container: &Container, moment: &Moment) {
        self.prev_taken |= self.held.is_some();
        self.hold(container, run_of(container));
        (self.oom, self.signalled) = (false, false);
        self.double = None;
        self.entry.run = run_of(container);
        (self.entry.started, self.entry.ready) = (true, Some(true));
        if container.running {
            self.feed(Event::Sighted(self.sight_running()), moment);
        } else {
            self.feed(Event::Launched, moment);
            let class = self.classify(container.exit_code, container.oom_killed);
            self.exited(container.exit_code, class, container.finished_at, moment);
        }
    }

    fn hold(&mut self, container: &Container, run: String) {
        self.held = Some(held_of(container, run));
    }

    pub fn hinted(&mut self, hint: Hint, moment: &Moment) {
        match hint {
            Hint::Listed(all) => {
                if !self.agrees(&all) {
                    self.look_at = Some(moment.at);
                }
            }
            Hint::Happened(event) => self.happened(&event, moment),
        }
    }

    /// Whether a list shows what is believed.
    fn agrees(&self, all: &[Summary]) -> bool {
        let is = |held: &Option<Held>, one: &Summary| {
            held.as_ref().is_some_and(|held| held.id == one.id) && one.running
        };
        if self.held.as_ref().is_some_and(|held| held.foreign) {
            return true;
        }
        let double = double_name(self.name());
        let others: Vec<&Summary> = all.iter().filter(|one| one.name != double).collect();
        // Somebody may have started what was left of an earlier one.
        let beside = all.iter().find(|one| one.name == double && one.running);
        let doubles = match beside {
            Some(one) => is(&self.double, one),
            None => self.double.is_none(),
        };
        let named = |one: &Summary| one.name == self.name() && !one.paused;
        match &self.state {
            State::Unknown { .. } => false,
            State::Running(_) => {
                let n_running = others.iter().filter(|one| one.running).count();
                others.iter().any(|one| is(&self.held, one) && named(one))
                    && n_running == 1
                    && doubles
            }
            state if state.expects_process() => others.iter().any(|one| is(&self.held, one)),
            _ => !all.iter().any(|one| one.running),
        }
    }

    fn happened(&mut self, event: &events::Event, moment: &Moment) {
        if self.double.as_ref().is_some_and(|one| one.id == event.id) {
            if matches!(event.what, events::What::Died(_) | events::What::Destroyed) {
                self.double = None;
                self.double_died(moment);
            }
            return;
        }
        let Some(held) = &self.held else { return };
        if held.id != event.id || held.dead {
            return;
        }
        match event.what {
            events::What::Oom => self.starved(),
            events::What::Killed => {
                self.signalled |= self.state.running().is_some();
            }
            events::What::Died(code) => {
                // A replayed death of an earlier run of the same container.
                let stale = match (event.at, held.started_at) {
                    (Some(at), Some(started)) => at < started,
                    _ => false,
                };
                if stale {
                    // Or the clock has been set back: a look tells which.
                    self.look_at = Some(moment.at);
                    return;
                }
                let class = self.classify(code, false);
                self.exited(code, class, event.at, moment);
            }
            events::What::Destroyed => {
                self.held = None;
                self.message = Some("removed by someone else".into());
                self.count_restart("removed", moment);
                self.feed(Event::Vanished, moment);
            }
            events::What::Paused | events::What::Renamed | events::What::Updated => {
                self.look_at = Some(moment.at);
            }
            events::What::Started => {}
        }
    }

    /// The kernel has killed something in this run for want of memory.
    pub fn starved(&mut self) {
        self.oom = true;
    }

    fn exited(&mut self, code: i64, class: ExitClass, at: Option<SystemTime>, moment: &Moment) {
        let at = at.unwrap_or(moment.wall);
        let exit = self.exit_of(class, at);
        self.bury(code, exit, at, moment);
        self.feed(Event::Exited(exit), moment);
    }

    fn exit_of(&self, class: ExitClass, at: SystemTime) -> Exited {
        let started = self.held.as_ref().and_then(|held| held.started_at);
        let lived = started.and_then(|started| at.duration_since(started).ok());
        Exited {
            class,
            brief: lived.is_none_or(|lived| lived < BRIEF),
        }
    }

    fn classify(&self, code: i64, oom_flag: bool) -> ExitClass {
        if matches!(self.state, State::Stopping { .. }) {
            return ExitClass::Stopped;
        }
        match code {
            // The flag alone says that some process inside was hit.
            KILLED if self.oom || oom_flag => ExitClass::Oom,
            _ if self.signalled => ExitClass::External,
            0 => ExitClass::Clean,
            126 | 127 => ExitClass::Config,
            129..=192 => ExitClass::Signal,
            _ => ExitClass::Error,
        }
    }

    /// Counts a death once.
    fn bury(&mut self, code: i64, exit: Exited, at: SystemTime, moment: &Moment) {
        self.notes.push(Note::ExitCode(code));
        if let Some(held) = &mut self.held {
            held.dead = true;
            held.pid = None;
            held.started_at = None;
            self.entry.buried = held.run.clone();
        }
        let class = exit.class;
        self.entry.last_exit = Some(SavedExit::of(&Exit { code, class, at }));
        let completed = self.now.completes && class == ExitClass::Clean;
        let wanted_so = matches!(self.state, State::Draining { .. }) || class == ExitClass::Stopped;
        if !wanted_so && !completed {
            self.message = Some(format!("exited: {} {code}", class.word()));
            self.count_restart(class.word(), moment);
            if !matches!(class, ExitClass::Daemon | ExitClass::External) {
                self.count_death();
            }
            tracing::warn!(
                container = self.name(),
                code,
                class = class.word(),
                "container exited"
            );
        }
    }

    pub(super) fn count_restart(&mut self, reason: &'static str, moment: &Moment) {
        self.entry.restarts = self.entry.restarts.saturating_add(1);
        self.notes.push(Note::Restart { reason });
        if !matches!(reason, "daemon" | "external" | "removed") {
            self.entry.falls.push(millis(moment.wall));
            let surplus = self.entry.falls.len().saturating_sub(CRASH_LOOP.1);
            self.entry.falls.drain(..surplus);
        }
    }

    /// It falls over faster than anyone should call running.
    pub(super) fn is_crash_loop(&self, wall: SystemTime) -> bool {
        let now = millis(wall);
        let recent = |at: &&u64| {
            let age = now.saturating_sub(**at);
            u128::from(age) <= CRASH_LOOP.0.as_millis()
        };
        self.entry.falls.iter().filter(recent).count() >= CRASH_LOOP.1
    }
}

fn held_of(container: &Container, run: String) -> Held {
    Held {
        id: container.id.clone(),
        name: container.name.clone(),
        hash: container
            .labels
            .get(LABEL_SPEC)
            .cloned()
            .unwrap_or_default(),
        run,
        pid: container.pid,
        started_at: container.started_at.filter(|_| container.running),
        stop_signal: container.stop_signal.clone(),
        image_id: container.image_id.clone(),
        ports: container.ports.clone(),
        since: None,
        foreign: false,
        dead: !container.running,
    }
}

/// Names one run: Docker keeps the id over a restart, not the start time.
fn run_of(container: &Container) -> String {
    format!("{}@{}", container.id, container.started_at_text)
}
