//! One container's own task: hears, lets [`transition::next`] decide, acts.
//!
//! One action on Docker at a time, each with a deadline, so a container that
//! hangs hangs alone. While Docker is silent nothing is begun; when it answers
//! again the task looks before it acts, so nothing is done twice.

use super::act::{self, Found, LaunchError};
use super::body;
use super::counts::Counts;
use super::memory::Entry;
use super::probe::{self, Verdict};
use super::report::Report;
use super::spec::hash;
use super::state::{self, Action, Event, Policy, Signal, State, Swap, Wish};
use super::transition;
use super::{Container, Probe};
use crate::chain::Chain;
use crate::docker::{self, Docker, container::Summary, events};
use crate::pulse::{Beat, Pulse};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Between tries to clear away dead generations.
const TIDY_AGAIN: Duration = Duration::from_secs(60);
/// An idle task wakes this often to show that it turns.
const BEAT: Duration = Duration::from_secs(20);
const ALLOWANCE: Duration = Duration::from_secs(90);
/// At a stop of the agent a launch under way may end, so that no container is
/// left half replaced.
const FINISH: Duration = Duration::from_secs(5);

/// What the supervisor wants of a container; a level, not an order.
#[derive(Clone)]
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
#[derive(Debug)]
pub enum Hint {
    Listed(Vec<Summary>),
    Happened(events::Event),
}

/// What all tasks share.
#[derive(Clone)]
pub struct Ground {
    pub docker: Docker,
    pub log_address: Option<String>,
    pub counts: Counts,
    pub pulse: Pulse,
    pub reports: mpsc::Sender<Report>,
}

pub(super) enum Outcome {
    Looked(Result<Found, docker::Error>),
    Fetched(Result<(), docker::Error>),
    Launched(Result<docker::container::Container, LaunchError>),
    Signalled(Result<(), docker::Error>),
    Removed(Result<(), docker::Error>),
}

pub struct Task {
    pub(super) ground: Ground,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) hints: mpsc::Receiver<Hint>,
    /// What of `wanted` is in force; changed only between actions.
    pub(super) now: Wanted,
    pub(super) state: State,
    pub(super) entry: Entry,
    /// Our container under the name, dead or alive.
    pub(super) held: Option<Held>,
    /// The hash and the turn that the last launch stands for.
    pub(super) tried: Option<Arc<str>>,
    pub(super) turned: u64,
    pub(super) message: Option<String>,
    pub(super) doing: Option<(Action, BoxFuture<'static, Outcome>)>,
    pub(super) tidying: Option<BoxFuture<'static, Result<bool, docker::Error>>>,
    pub(super) tidy_at: Option<Instant>,
    pub(super) prev_taken: bool,
    pub(super) look_at: Option<Instant>,
    /// The connection in which the last look began, and the one whose look has an answer.
    pub(super) looking: u64,
    pub(super) seen: u64,
    /// Docker was away since the last look.
    pub(super) outage: bool,
    /// The OOM killer struck in this run.
    pub(super) oom: bool,
    pub(super) progress: (watch::Sender<Option<u8>>, watch::Receiver<Option<u8>>),
    pub(super) probing: JoinSet<()>,
    pub(super) probed: Option<Probe>,
    pub(super) verdict: watch::Receiver<Verdict>,
    pub(super) reported: Option<Report>,
    /// The end of a wait by the wall clock, as shown.
    pub(super) retry: Option<(Instant, SystemTime)>,
    pub(super) beat: Beat,
}

/// The container that the task speaks of.
pub(super) struct Held {
    pub id: String,
    pub hash: String,
    /// Id and start time: one run of it.
    pub run: String,
    pub pid: Option<i64>,
    pub started_at: Option<SystemTime>,
    /// Its own; None: SIGTERM.
    pub stop_signal: Option<String>,
    /// Its death has been counted.
    pub dead: bool,
}

enum Heard {
    Stop,
    Wanted(bool),
    Done(Box<Outcome>),
    Tidied(Result<bool, docker::Error>),
    Hint(Option<Hint>),
    Progress,
    Verdict,
    Timer,
}

impl Task {
    pub fn new(
        ground: Ground,
        wanted: watch::Receiver<Wanted>,
        hints: mpsc::Receiver<Hint>,
        entry: Entry,
    ) -> Task {
        let now = wanted.borrow().clone();
        let name = format!("container {}", now.container.name);
        Task {
            beat: ground.pulse.register(name, ALLOWANCE),
            ground,
            state: State::Unknown { climb: entry.climb },
            entry,
            held: None,
            tried: None,
            turned: now.turn,
            message: None,
            doing: None,
            tidying: None,
            tidy_at: None,
            prev_taken: false,
            look_at: now.docker.then(Instant::now),
            looking: 0,
            seen: 0,
            outage: false,
            oom: false,
            progress: watch::channel(None),
            probing: JoinSet::new(),
            probed: None,
            verdict: watch::channel(Verdict::Unknown).1,
            reported: None,
            retry: None,
            now,
            wanted,
            hints,
        }
    }

    /// Runs until `stop`, or until the container is removed and unwanted. The
    /// container itself is left as it is.
    pub async fn run(mut self, stop: CancellationToken) {
        self.report().await;
        loop {
            self.beat.beat();
            if self.begin_what_is_due() {
                self.report().await;
                continue;
            }
            match self.listen(&stop).await {
                Heard::Stop => return self.finish().await,
                Heard::Wanted(true) => {
                    let was_up = self.now.docker;
                    self.take_wanted();
                    if self.now.docker && !was_up {
                        self.outage = !matches!(self.state, State::Unknown { .. });
                        self.look_at = Some(Instant::now());
                    }
                }
                // The supervisor dropped its end: nobody wants this task.
                Heard::Wanted(false) | Heard::Hint(None) => return,
                Heard::Done(outcome) => self.done(*outcome),
                Heard::Tidied(answer) => self.tidied(answer),
                Heard::Hint(Some(hint)) => self.hinted(hint),
                Heard::Progress => {
                    let percent = *self.progress.1.borrow_and_update();
                    self.message = percent.map(|percent| format!("image pulled to {percent} %"));
                }
                Heard::Verdict => self.judged(),
                Heard::Timer => continue,
            }
            self.report().await;
        }
    }

    async fn listen(&mut self, stop: &CancellationToken) -> Heard {
        let due = self.due();
        // A launch knows its container before its events are of use.
        let open = !matches!(self.doing, Some((Action::Launch | Action::Look, _)));
        let doing = &mut self.doing;
        let tidying = &mut self.tidying;
        let probing = self.probed.is_some();
        tokio::select! {
            () = stop.cancelled() => Heard::Stop,
            changed = self.wanted.changed() => Heard::Wanted(changed.is_ok()),
            outcome = async { match doing { Some((_, work)) => work.await, None => std::future::pending().await } } => Heard::Done(Box::new(outcome)),
            answer = async { match tidying { Some(work) => work.await, None => std::future::pending().await } } => Heard::Tidied(answer),
            hint = self.hints.recv(), if open => Heard::Hint(hint),
            Ok(()) = self.progress.1.changed() => Heard::Progress,
            Ok(()) = self.verdict.changed(), if probing => Heard::Verdict,
            () = sleep_until(due) => Heard::Timer,
        }
    }

    fn due(&self) -> Instant {
        let beat = Instant::now() + BEAT;
        let busy = self.doing.is_some() || !self.now.docker;
        let look = self.look_at.filter(|_| !busy);
        let tidy = self.tidy_at.filter(|_| !busy && self.tidying.is_none());
        // An action under way is waited for, but a stop's clock is not.
        let state = self.state.due().filter(|_| !busy);
        [look, tidy, state]
            .into_iter()
            .flatten()
            .fold(beat, Instant::min)
    }

    /// Does the next thing that needs no waiting; false when there is none.
    fn begin_what_is_due(&mut self) -> bool {
        let now = Instant::now();
        if matches!(self.doing, Some((Action::Fetch, _))) && self.wish().is_some() {
            // What is fetched may not be what is wanted any more.
            self.doing = None;
        }
        if self.doing.is_some() || !self.now.docker {
            return false;
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.begin(Action::Look);
            return true;
        }
        if let Some(wish) = self.wish() {
            self.turned = self.now.turn;
            self.feed(Event::Wish(wish));
            return true;
        }
        if matches!(self.state, State::Waiting { .. }) && self.now.goal == Goal::Run {
            match self.now.gate.clone() {
                None => {
                    self.message = None;
                    self.feed(Event::Released);
                    return true;
                }
                gate if self.message != gate => {
                    self.message = gate;
                    return true;
                }
                _ => {}
            }
        }
        if self.state.due().is_some_and(|at| at <= now) {
            self.feed(Event::Due);
            return true;
        }
        self.begin_tidying(now);
        false
    }

    /// Where what is wanted differs from what is.
    fn wish(&self) -> Option<Wish> {
        if matches!(self.state, State::Unknown { .. } | State::Starting { .. }) {
            return None;
        }
        let restart = self.turned != self.now.turn;
        let changed =
            |hash: Option<&str>| hash.is_some_and(|hash| !hash::same(hash, &self.now.hash));
        let tried = self.tried.as_deref();
        match (self.now.goal, &self.state) {
            (Goal::Remove, State::Removing { .. } | State::Removed) => None,
            (Goal::Remove, State::Stopping { then, .. }) if *then == state::Then::Remove => None,
            (Goal::Remove, _) => Some(Wish::Remove),
            (Goal::Stop, State::Stopped | State::Removing { .. } | State::Removed) => None,
            (Goal::Stop, State::Stopping { then, .. }) if *then != state::Then::Launch => None,
            (Goal::Stop, _) => Some(Wish::Stop),
            (Goal::Run, State::Stopping { then, .. }) => {
                (*then != state::Then::Launch).then_some(Wish::Run)
            }
            (Goal::Run, State::Stopped | State::Removing { .. } | State::Removed) => {
                Some(Wish::Run)
            }
            (Goal::Run, _) if restart => Some(Wish::Restart),
            (Goal::Run, State::Running { swap, .. }) => {
                let differs = changed(self.held.as_ref().map(|held| held.hash.as_str()));
                match (differs, swap) {
                    (true, Swap::No) => Some(Wish::Replace),
                    (true, Swap::Fetching | Swap::Later(_)) => {
                        changed(tried).then_some(Wish::Replace)
                    }
                    (false, Swap::No) => None,
                    (false, _) => Some(Wish::Run),
                }
            }
            (Goal::Run, State::Backoff { .. } | State::Blocked { .. } | State::Completed) => {
                changed(tried).then_some(Wish::Run)
            }
            (Goal::Run, State::Fetching { .. }) => changed(tried).then_some(Wish::Run),
            (Goal::Run, _) => None,
        }
    }

    fn take_wanted(&mut self) {
        let before = self.now.clone();
        self.now = self.wanted.borrow_and_update().clone();
        if Arc::ptr_eq(&before.container, &self.now.container) {
            // What its files hold, the supervisor does not know.
            self.now.hash = before.hash;
        } else if self.now.container.spec.reads_files() && self.now.docker {
            self.look_at = Some(Instant::now());
        }
        self.mind_the_probe();
    }

    fn policy(&self) -> Policy {
        Policy {
            spread: fastrand::f64(),
            grace: self.now.container.stop_grace_period,
            pull: self.now.container.pull_policy,
            probed: self.now.container.probes.readiness.is_some(),
            completes: self.now.completes,
        }
    }

    pub(super) fn feed(&mut self, event: Event) {
        let before = self.state.clone();
        let step = transition::next(before.clone(), event, Instant::now(), &self.policy());
        if step.surprise {
            self.ground.counts.surprises.inc();
            tracing::debug!(container = self.name(), state = ?before, ?event, "event ignored");
        }
        self.state = step.state;
        if self.state.phase() != before.phase() {
            tracing::info!(
                container = self.name(),
                from = before.phase().word(),
                to = self.state.phase().word(),
                "container changes"
            );
        }
        if matches!(event, Event::Wish(_)) {
            self.tried = Some(self.now.hash.clone());
        }
        if matches!(self.state, State::Running { .. }) && !matches!(before, State::Running { .. }) {
            self.message = None;
            self.tidy_at = Some(Instant::now() + Duration::from_secs(1));
        }
        if matches!(self.state, State::Stopping { .. } | State::Stopped) {
            // What was wrong with it is not why it is here.
            self.message = None;
        }
        self.mind_the_probe();
        if let Some(action) = step.action {
            self.begin(action);
        }
    }

    pub(super) fn begin(&mut self, action: Action) {
        let docker = self.ground.docker.clone();
        let container = self.now.container.clone();
        let name = container.name.clone();
        if matches!(action, Action::Launch | Action::Remove) {
            // A list made before a launch must not judge what the launch makes.
            self.tidying = None;
        }
        let work: BoxFuture<'static, Outcome> = match action {
            Action::Look => {
                self.looking = self.now.connection;
                let address = self.ground.log_address.clone();
                Box::pin(
                    async move { Outcome::Looked(act::look(docker, container, address).await) },
                )
            }
            Action::Fetch => {
                self.tried = Some(self.now.hash.clone());
                self.progress.0.send_replace(None);
                let progress = self.progress.0.clone();
                let (image, policy) = (container.spec.image.clone(), container.pull_policy);
                Box::pin(async move {
                    // What cannot be made must not cost the one that runs.
                    if let Err(error) = body::check_files(container).await {
                        let cause = docker::error::Cause::Other(Chain(&error).to_string());
                        let error = docker::Error::new("make container", &name, cause);
                        return Outcome::Fetched(Err(error));
                    }
                    Outcome::Fetched(act::fetch(docker, image, policy, progress).await)
                })
            }
            Action::Launch => {
                self.tried = Some(self.now.hash.clone());
                // A start from here on is as fresh as any order so far asked for.
                self.turned = self.now.turn;
                let launch = act::Launch {
                    docker,
                    container,
                    log_address: self.ground.log_address.clone(),
                    held: self.held.as_ref().map(|held| held.id.clone()),
                    prev_taken: self.prev_taken,
                };
                let launch = Box::pin(act::launch(launch));
                Box::pin(async move { Outcome::Launched(launch.await) })
            }
            Action::Signal(signal) => {
                let Some(held) = &self.held else {
                    self.look_at = Some(Instant::now());
                    return;
                };
                let id = held.id.clone();
                let signal_name = act::signal_name(signal, held.stop_signal.as_deref());
                if signal == Signal::Kill {
                    tracing::warn!(
                        container = name,
                        "grace period is over, container is killed"
                    );
                }
                Box::pin(
                    async move { Outcome::Signalled(act::signal(docker, id, signal_name).await) },
                )
            }
            Action::Remove => {
                Box::pin(async move { Outcome::Removed(act::remove(docker, name).await) })
            }
        };
        self.doing = Some((action, work));
    }

    fn judged(&mut self) {
        let verdict = self.verdict.borrow_and_update().clone();
        match verdict {
            Verdict::Unknown => {}
            Verdict::Ready => {
                self.message = None;
                self.feed(Event::Ready(true));
            }
            Verdict::NotReady(why) => {
                self.message = Some(why);
                self.feed(Event::Ready(false));
            }
        }
    }

    /// A probe runs exactly while its container does.
    fn mind_the_probe(&mut self) {
        let State::Running { ready, .. } = &mut self.state else {
            if self.probed.take().is_some() {
                self.probing = JoinSet::new();
            }
            return;
        };
        let wanted = self.now.container.probes.readiness.clone();
        if wanted == self.probed {
            return;
        }
        if wanted.is_none() {
            *ready = None;
        } else if ready.is_none() {
            *ready = Some(false);
        }
        // Dropping the set ends the probe that ran in it.
        self.probing = JoinSet::new();
        let (tell, verdict) = watch::channel(Verdict::Unknown);
        self.verdict = verdict;
        if let Some(probe) = wanted.clone() {
            self.probing.spawn(probe::run(probe, tell));
        }
        self.probed = wanted;
    }

    fn begin_tidying(&mut self, now: Instant) {
        if self.tidying.is_some() || self.tidy_at.is_none_or(|at| at > now) {
            return;
        }
        self.tidy_at = None;
        // In a wait as well: what exits at once is never seen to run for long.
        let settled = matches!(
            self.state,
            State::Running { .. } | State::Backoff { .. } | State::Stopped | State::Completed
        );
        if let (true, Some(held)) = (settled, &self.held) {
            let (name, id) = (self.now.container.name.clone(), held.id.clone());
            self.tidying = Some(Box::pin(act::tidy(self.ground.docker.clone(), name, id)));
        }
    }

    fn tidied(&mut self, answer: Result<bool, docker::Error>) {
        self.tidying = None;
        match answer {
            Ok(kept) => self.prev_taken = kept,
            Err(error) => {
                tracing::debug!(container = self.name(), error = %Chain(&error), "dead generation stays for now");
                self.tidy_at = Some(Instant::now() + TIDY_AGAIN);
            }
        }
    }

    async fn finish(&mut self) {
        if let Some((Action::Launch, work)) = &mut self.doing {
            // Late or not, the container is found by its label next time.
            let _ = timeout(FINISH, work).await;
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.now.container.name
    }
}
