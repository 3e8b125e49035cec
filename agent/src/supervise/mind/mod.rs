//! What one container's task knows and decides, without a clock, a socket or
//! a thread: the task tells it what has happened and asks what to do next.
//!
//! Invariants: one action at a time; nothing is begun while Docker is silent,
//! and after it the first thing is a look; a container without our label is
//! never meant, unless the config says to take it over; every change of phase
//! and every call that changes something leaves a line for the audit log.

mod describe;
mod health;
mod hear;
mod journal;
mod tidy;
mod trial;
mod wish;
mod work;

pub use describe::Report;
pub use trial::Trial;
pub use work::{Attended, FetchError, Held, Launch, Next, Note, Outcome, Repair, Work};

use super::act;
use super::body;
use super::memory::Entry;
use super::pull::{self, Priority};
use super::settings::{Container, Order};
use super::spec::hash;
use super::state::{Action, Drainage, Event, Policy, Signal, State, Step, Swap};
use super::{Phase, PullStatus, transition};
use crate::docker::container::{Limits, Summary};
use crate::docker::events;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// From a start until dead generations are cleared away.
const TIDY_AFTER: Duration = Duration::from_secs(1);
/// Between looks at what runs undisturbed: drift of which no event told.
const LOOK_OVER: Duration = Duration::from_secs(300);
/// Between looks while an answer was unclear.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The time, and a die, as values.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub at: Instant,
    pub wall: SystemTime,
    /// 0.0..1.0
    pub spread: f64,
}

/// What the supervisor wants of a container; a level, not an order.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub container: Arc<Container>,
    pub hash: Arc<str>,
    pub goal: Goal,
    /// Counted up by each `restart`.
    pub turn: u64,
    /// Why it must not start yet.
    pub gate: Option<String>,
    /// Others wait for its completion.
    pub completes: bool,
    /// It is its turn to be replaced.
    pub lane: bool,
    /// The operator has it left alone.
    pub paused: bool,
    /// No waiting for connections any more.
    pub hurry: bool,
    /// When the host goes.
    pub deadline: Option<Instant>,
    /// Docker answers.
    pub docker: bool,
    /// How often Docker has begun to answer: what was seen before is not believed.
    pub connection: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    Run,
    Stop,
    Remove,
}

/// What Docker told the supervisor of this container.
#[derive(Debug, Clone)]
pub enum Hint {
    Listed(Vec<Summary>),
    Happened(events::Event),
}

pub struct Mind {
    /// What of the supervisor's wishes is in force; changed only between actions.
    pub(super) now: Wanted,
    state: State,
    entry: Entry,
    /// Our container under the name, dead or alive.
    held: Option<Held>,
    /// The new one beside it, during an update that overlaps.
    double: Option<Held>,
    /// The hash and the turn that the last launch stands for.
    tried: Option<Arc<str>>,
    turned: u64,
    /// An operator's restart brings the changed one in without its turn.
    forced: bool,
    /// The next pull is asked for by someone.
    fresh: bool,
    trial: Option<Trial>,
    message: Option<String>,
    /// Why a probe cannot tell, as shown.
    doubt: Option<String>,
    pull: Option<PullStatus>,
    doing: Option<Action>,
    pending: Option<Action>,
    repair: Vec<Repair>,
    repairing: bool,
    /// Limits that were found and are not those of the config; Docker has been told.
    unlimited: Option<Limits>,
    /// Until when drift that Docker would not have put right is left, and its words.
    unmended: Option<(Instant, String)>,
    tidy_at: Option<Instant>,
    prev_taken: bool,
    look_at: Option<Instant>,
    /// The connection in which the last look began, and the one whose look has an answer.
    looking: u64,
    seen: u64,
    /// Docker was away since the last look.
    outage: bool,
    /// The OOM killer struck in this run.
    oom: bool,
    /// Someone else has signalled it in this run.
    signalled: bool,
    /// Since when it is drained, and what that waits for.
    n_connections: Option<u64>,
    notes: Vec<Note>,
    /// The end of a wait by the wall clock, as shown.
    retry: Option<(Instant, SystemTime)>,
}

impl Mind {
    pub fn new(now: Wanted, entry: Entry, moment: &Moment) -> Mind {
        Mind {
            state: State::Unknown { climb: entry.climb },
            entry,
            held: None,
            double: None,
            tried: None,
            turned: now.turn,
            forced: false,
            fresh: false,
            trial: None,
            message: None,
            doubt: None,
            pull: None,
            doing: None,
            pending: None,
            repair: Vec::new(),
            repairing: false,
            unlimited: None,
            unmended: None,
            tidy_at: None,
            prev_taken: false,
            look_at: now.docker.then_some(moment.at),
            looking: 0,
            seen: 0,
            outage: false,
            oom: false,
            signalled: false,
            n_connections: None,
            notes: Vec::new(),
            retry: None,
            now,
        }
    }

    pub fn name(&self) -> &str {
        &self.now.container.name
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// What is to be counted, logged and written down since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Something is under way whose answer tells which container is meant:
    /// hints are of no use before.
    pub fn is_deaf(&self) -> bool {
        matches!(
            self.doing,
            Some(Action::Launch | Action::Look | Action::Double | Action::Promote | Action::Clear)
        )
    }

    pub fn is_busy(&self) -> bool {
        self.doing.is_some() || self.repairing
    }

    /// New wishes of the supervisor.
    pub fn want(&mut self, wanted: Wanted, moment: &Moment) {
        let was_up = self.now.docker;
        let before = std::mem::replace(&mut self.now, wanted);
        if Arc::ptr_eq(&before.container, &self.now.container) {
            // What its files hold, the supervisor does not know.
            self.now.hash = before.hash;
        } else if self.now.container.spec.reads_files() && self.now.docker {
            self.look_at = Some(moment.at);
        }
        if self.now.docker && !was_up {
            self.outage = !matches!(self.state, State::Unknown { .. });
            self.look_at = Some(moment.at);
        }
        self.mind_the_probes();
    }

    /// The next thing to do. [`Next::Begin`] replaces what is under way.
    pub fn next(&mut self, moment: &Moment) -> Next {
        if let Some(action) = self.pending.take() {
            return self.begin(action, moment);
        }
        if self.doing == Some(Action::Fetch) && self.wish().is_some() {
            // What is fetched may not be what is wanted any more.
            self.doing = None;
        }
        if self.is_busy() || !self.now.docker {
            return Next::Quiet;
        }
        if self.look_at.is_some_and(|at| at <= moment.at) {
            self.look_at = None;
            return self.begin(Action::Look, moment);
        }
        if let Some(repair) = self.next_repair() {
            return repair;
        }
        if let Some(event) = self.next_event(moment) {
            self.feed(event, moment);
            return Next::Moved;
        }
        Next::Quiet
    }

    /// What is decided without waiting for anyone.
    fn next_event(&mut self, moment: &Moment) -> Option<Event> {
        if let Some(wish) = self.wish() {
            if self.turned != self.now.turn {
                self.turned = self.now.turn;
                self.forced = true;
            }
            return Some(Event::Wish(wish));
        }
        if self.judge_trial(moment) {
            // A rolled back config is a new wish; it comes next.
            return self.wish().map(Event::Wish);
        }
        if matches!(self.state, State::Waiting { .. })
            && self.now.goal == Goal::Run
            && !self.now.paused
        {
            match self.now.gate.clone() {
                None => {
                    self.message = None;
                    return Some(Event::Released);
                }
                gate => self.message = gate,
            }
        }
        let waits_for_turn = self
            .state
            .running()
            .is_some_and(|running| running.swap == Swap::Fetched);
        if waits_for_turn && (self.now.lane || self.forced) && !self.now.paused {
            return Some(Event::Turn);
        }
        let asleep =
            self.now.paused && matches!(self.state, State::Backoff { .. } | State::Blocked { .. });
        (!asleep && self.state.due().is_some_and(|at| at <= moment.at)).then_some(Event::Due)
    }

    /// When [`Mind::next`] is to be asked again, if nothing happens before.
    pub fn due(&self) -> Option<Instant> {
        if self.is_busy() || !self.now.docker {
            return None;
        }
        let asleep =
            self.now.paused && matches!(self.state, State::Backoff { .. } | State::Blocked { .. });
        let state = self.state.due().filter(|_| !asleep);
        [self.look_at, state, self.trial_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The run to probe, while there is one.
    pub fn attended(&self) -> Option<Attended> {
        let passed = self.state.running()?.started;
        self.held.as_ref().map(|held| attended(held, passed))
    }

    /// The run, id and main process of what runs.
    pub fn process(&self) -> Option<(&str, &str, i64)> {
        let held = self.held.as_ref().filter(|held| !held.dead)?;
        Some((&held.run, &held.id, held.pid?))
    }

    /// The one beside it, while it has to prove itself.
    pub fn attended_double(&self) -> Option<Attended> {
        let running = self.state.running()?;
        matches!(running.swap, Swap::Proving(_))
            .then_some(self.double.as_ref())?
            .map(|held| attended(held, false))
    }

    /// Whose connections are waited for.
    pub fn drained(&self) -> Option<&Held> {
        let is_waiting = matches!(
            self.state,
            State::Draining {
                step: Drainage::Connections,
                ..
            }
        );
        self.held.as_ref().filter(|_| is_waiting)
    }

    /// How many connections are open; none for long enough ends the wait.
    pub fn connections(&mut self, open: u64, quiet: bool, moment: &Moment) {
        self.n_connections = Some(open);
        if quiet {
            self.feed(Event::Drained, moment);
        } else if self.drained().is_some() {
            self.message = Some(format!("{open} connections open"));
        }
    }

    /// How far the pull is.
    pub fn pulled(&mut self, progress: &pull::Progress) {
        self.message = progress.text();
        self.pull = progress.status();
    }

    /// What the files of the wanted spec hold is known by now, or known better.
    fn learn_hash(&mut self, known: &str) {
        if hash::same_spec(known, &self.now.hash) {
            self.now.hash = known.into();
        }
    }

    fn policy(&self, moment: &Moment) -> Policy {
        let container = self.target().0;
        let wanted = &self.now.container;
        Policy {
            spread: moment.spread,
            grace: wanted.stop_grace_period,
            deregister: wanted.drain.deregister_wait,
            connections: wanted.drain.connections,
            deadline: self.now.deadline,
            pull: container.pull_policy,
            starts: wanted.probes.startup.is_some(),
            readies: wanted.probes.readiness.is_some(),
            completes: self.now.completes,
            overlap: wanted.update.order == Order::Overlap,
            ready_within: wanted.update.ready_within,
            paused: self.now.paused,
        }
    }

    fn feed(&mut self, event: Event, moment: &Moment) {
        let before = self.state.clone();
        let policy = self.policy(moment);
        let Step {
            state,
            action,
            surprise,
        } = transition::next(before.clone(), event, moment.at, &policy);
        if surprise {
            self.notes.push(Note::Surprise(event));
            tracing::debug!(container = self.name(), state = ?before, ?event, "event ignored");
        }
        self.state = state;
        if let Event::Wish(_) = event {
            self.tried = Some(self.target().1);
            self.fresh = true;
        }
        self.settle(&before, event, moment);
        self.judge_double(&before, event);
        self.mind_the_probes();
        if action.is_some() {
            self.pending = action;
        }
    }

    /// What a change of state means for what else is known.
    fn settle(&mut self, before: &State, event: Event, moment: &Moment) {
        let (from, to) = (before.phase(), self.state.phase());
        if from != to {
            self.audit(from, to, event);
        }
        let began = self.state.running().is_some() && before.running().is_none();
        if began {
            self.message = None;
            // Nothing else of it lies about, as far as is known: nothing to clear away.
            self.tidy_at = self.prev_taken.then(|| moment.at + TIDY_AFTER);
        }
        if matches!(
            self.state,
            State::Draining { .. } | State::Stopping { .. } | State::Stopped
        ) && from != to
        {
            // What was wrong with it is not why it is here.
            self.message = None;
            self.n_connections = None;
        }
        if !self.state.expects_double() && self.doing != Some(Action::Promote) {
            let promoting = matches!(
                event,
                Event::Exited(_) | Event::Sighted(_) | Event::Vanished
            ) && matches!(self.state, State::Starting { .. });
            if !promoting {
                self.double = None;
            }
        }
        if from == Phase::Running && to != Phase::Running {
            self.forced = false;
        }
    }

    /// The startup probe's part of the state follows a config that changes live.
    fn mind_the_probes(&mut self) {
        let probes = &self.now.container.probes;
        let State::Running(running) = &mut self.state else {
            return;
        };
        if probes.startup.is_none() {
            running.started = true;
        }
        if !probes.say_ready() {
            running.ready = None;
        } else if running.ready.is_none() {
            let is_all = running.started && probes.readiness.is_none();
            running.ready = Some(is_all);
        }
    }

    fn begin(&mut self, action: Action, moment: &Moment) -> Next {
        if self.doing == Some(Action::Look) && action != Action::Look {
            // Its answer will not come any more.
            self.look_at = Some(moment.at);
        }
        // Whatever was under way is replaced.
        self.doing = None;
        self.repairing = false;
        let name = self.name().to_owned();
        let (container, hash) = self.target();
        let is_fallback = !Arc::ptr_eq(&container, &self.now.container);
        let launch = || Launch {
            container: container.clone(),
            label: is_fallback.then(|| hash.clone()),
            held: self.held.as_ref().map(|held| held.id.clone()),
            prev_taken: self.prev_taken,
        };
        let work = match action {
            Action::Look => {
                self.looking = self.now.connection;
                let foreign = self.held.as_ref().filter(|held| held.foreign);
                Work::Look {
                    container: self.now.container.clone(),
                    foreign: foreign.map(|held| held.id.clone()),
                }
            }
            Action::Fetch => {
                self.tried = Some(hash);
                let priority = match container.essential {
                    true => Priority::Essential,
                    false => Priority::Other,
                };
                Work::Fetch {
                    container: container.clone(),
                    priority,
                    fresh: std::mem::take(&mut self.fresh),
                }
            }
            Action::Launch => {
                let work = Work::Launch(launch());
                self.tried = Some(hash.clone());
                // A start from here on is as fresh as any order so far asked for.
                self.turned = self.now.turn;
                self.try_out(&hash, moment);
                self.record("launch");
                work
            }
            Action::Double => {
                let work = Work::Double(launch());
                self.tried = Some(hash);
                self.record("launch beside the old one");
                work
            }
            Action::Promote => {
                let Some(new) = self.double.clone() else {
                    self.look_at = Some(moment.at);
                    return Next::Moved;
                };
                self.record("let the new one take over");
                Work::Promote {
                    name,
                    old: self.held.as_ref().map(|held| held.id.clone()),
                    new: new.id,
                    prev_taken: self.prev_taken,
                }
            }
            Action::Clear => {
                self.record("remove the new one");
                Work::Clear { name }
            }
            Action::Signal(signal) => {
                let Some(held) = &self.held else {
                    self.look_at = Some(moment.at);
                    return Next::Moved;
                };
                let word = act::signal_name(signal, held.stop_signal.as_deref());
                let id = held.id.clone();
                if signal == Signal::Kill {
                    tracing::warn!(
                        container = name,
                        "grace period is over, container is killed"
                    );
                }
                self.record(match signal {
                    Signal::Stop => "signal",
                    Signal::Kill => "kill",
                });
                Work::Signal { id, signal: word }
            }
            Action::Remove => {
                self.record("remove");
                Work::Remove { name }
            }
        };
        self.doing = Some(action);
        Next::Begin(work)
    }

    fn next_repair(&mut self) -> Option<Next> {
        if !matches!(self.state, State::Running(_)) || self.now.paused {
            return None;
        }
        if self.repair.is_empty() {
            return None;
        }
        let id = self.held.as_ref()?.id.clone();
        let what = std::mem::take(&mut self.repair);
        let limits = body::limits(&self.target().0.spec);
        self.repairing = true;
        self.record("put drift right");
        Some(Next::Begin(Work::Repair {
            id,
            name: self.name().to_owned(),
            what,
            limits,
        }))
    }
}

fn attended(held: &Held, passed: bool) -> Attended {
    Attended {
        id: held.id.clone(),
        run: held.run.clone(),
        pid: held.pid,
        passed,
        since: held.since,
    }
}
