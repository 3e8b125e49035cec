//! The loop that holds all jobs: hears, lets [`job::next`] decide, begins what follows.
//!
//! What is decided is saved before a container is asked for: an agent that dies
//! in between finds in its memory what to look for.

use super::act;
use super::counts::Counts;
use super::job;
use super::memory::{self, SaveError};
use super::report;
use super::run::Done;
use super::schedule::Schedule;
use super::settings::{Job as Policy, Overlap, Settings};
use super::state::{Effect, Event, Job, Key, Now, Seen, seconds};
use super::timers;
use super::{Clock, Command, Handle, OrderError, Parts, Status};
use crate::chain::Chain;
use crate::docker::Docker;
use crate::docker::container::Summary;
use crate::docker::events::What;
use crate::pulse::Pulse;
use crate::supervise::pull::Puller;
use crate::supervise::spec::Spec;
use crate::supervise::watcher::{self, Notice};
use crate::supervise::{Change, PullPolicy};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

const COMMANDS: usize = 16;
const NOTICES: usize = 256;
/// The wall clock is asked at least this often, as it may be moved.
const BEAT: Duration = Duration::from_secs(15);
const ALLOWANCE: Duration = Duration::from_secs(60);
/// Grace of a job that the config no longer describes.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);

/// Between tries to remove the containers of a former job.
const LEAVE_AGAIN: Duration = Duration::from_secs(60);
/// Between tries to write the memory file.
const SAVE_AGAIN: Duration = Duration::from_secs(15);

/// Makes the room; nothing runs until [`Jobs::run`]. Reads the memory file.
pub fn new(parts: Parts) -> (Handle, Jobs) {
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let (status, watched) = watch::channel(Arc::default());
    let mut jobs = Jobs {
        docker: parts.docker,
        puller: parts.puller,
        log_address: parts.log_address,
        counts: Counts::new(&parts.registry),
        pulse: parts.pulse,
        clock: parts.clock,
        inbox,
        status,
        docker_up: None,
        remembered: memory::load(&parts.memory),
        memory: parts.memory,
        members: BTreeMap::new(),
        order: Vec::new(),
        saved: Vec::new(),
        unsaved: None,
        held: Vec::new(),
        riding: Vec::new(),
        saving: JoinSet::new(),
        actions: JoinSet::new(),
        watching: JoinSet::new(),
    };
    jobs.plan(parts.settings);
    jobs.enter_orphans();
    jobs.publish();
    let handle = Handle {
        commands,
        status: watched,
    };
    (handle, jobs)
}

/// The room's loop, made by [`new`].
pub struct Jobs {
    pub(super) docker: Docker,
    pub(super) puller: Puller,
    pub(super) log_address: Option<String>,
    pub(super) counts: Counts,
    pulse: Pulse,
    clock: Clock,
    inbox: mpsc::Receiver<Command>,
    status: watch::Sender<Arc<Status>>,
    /// None until it has been asked.
    docker_up: Option<bool>,
    /// As the file had it at the start, less what has become a member.
    remembered: memory::Memory,
    memory: PathBuf,
    pub(super) members: BTreeMap<String, Member>,
    /// Names in the order of the config.
    pub(super) order: Vec<String>,
    /// What the file holds.
    saved: Vec<u8>,
    /// The last save failed; not tried again before.
    unsaved: Option<Instant>,
    /// Launches that wait for what they are to be saved.
    pub(super) held: Vec<(String, Key, bool)>,
    /// Launches that begin when the save under way is done.
    riding: Vec<(String, Key, bool)>,
    saving: JoinSet<Result<Vec<u8>, SaveError>>,
    pub(super) actions: JoinSet<Done>,
    watching: JoinSet<()>,
}

pub(super) struct Member {
    pub(super) policy: Policy,
    pub(super) job: Job,
    /// Of launches that may be given up.
    pub(super) launches: BTreeMap<Key, CancellationToken>,
    /// Its containers are being removed for good; not begun again before.
    leaving: Option<Instant>,
}

enum Heard {
    Stop,
    Command(Command),
    Notice(Notice),
    Done(Result<Done, JoinError>),
    Saved(Result<Result<Vec<u8>, SaveError>, JoinError>),
    Timer,
}

impl Jobs {
    /// Runs jobs until `stop`. Containers of runs under way are left running: they
    /// outlive the agent, and the next one finds them.
    pub async fn run(mut self, stop: CancellationToken) {
        let beat = self.pulse.register("jobs", ALLOWANCE);
        let (notices, mut noticed) = mpsc::channel(NOTICES);
        loop {
            beat.beat();
            if self.watching.is_empty() && !self.members.is_empty() {
                // A host without jobs asks Docker nothing here.
                let (docker, pulse) = (self.docker.clone(), self.pulse.clone());
                self.watching
                    .spawn(watcher::run(docker, notices.clone(), pulse));
            }
            let due = self.settle();
            let heard = tokio::select! {
                () = stop.cancelled() => Heard::Stop,
                Some(command) = self.inbox.recv() => Heard::Command(command),
                Some(notice) = noticed.recv() => Heard::Notice(notice),
                Some(done) = self.actions.join_next() => Heard::Done(done),
                Some(saved) = self.saving.join_next() => Heard::Saved(saved),
                () = sleep_until(due) => Heard::Timer,
            };
            match heard {
                Heard::Stop => break,
                Heard::Command(command) => self.obey(command),
                Heard::Notice(notice) => self.noticed(notice),
                Heard::Done(Ok(done)) => self.done(done),
                Heard::Done(Err(error)) => {
                    tracing::error!(%error, "an action of a job ended unasked");
                }
                Heard::Saved(saved) => self.take_saved(saved),
                Heard::Timer => {}
            }
        }
        self.leave().await;
    }

    /// Launches under way are left to the next agent: their names are known.
    async fn leave(mut self) {
        while let Some(saved) = self.saving.join_next().await {
            self.riding.clear();
            self.take_saved(saved);
        }
        self.held.clear();
        self.save();
        if let Some(saved) = self.saving.join_next().await {
            self.riding.clear();
            self.take_saved(saved);
        }
    }

    /// Lets time pass for every job; says when it is to pass again.
    fn settle(&mut self) -> Instant {
        let names: Vec<String> = self.members.keys().cloned().collect();
        for name in names {
            self.feed(&name, Event::Tick);
        }
        self.remove_retired();
        self.publish();
        self.save();
        let now = self.now();
        let mut due = now.mono + BEAT;
        for member in self.members.values() {
            let docker = self.docker_up == Some(true);
            due = timers::due(&member.job, docker).map_or(due, |at| at.min(due));
            let next = member.job.next_run(&member.policy);
            if let Some(wait) = next.and_then(|next| u64::try_from(next - now.wall).ok()) {
                due = due.min(now.mono + Duration::from_millis(wait));
            }
        }
        due
    }

    pub(super) fn now(&self) -> Now {
        Now {
            wall: act::unix((self.clock)()),
            mono: Instant::now(),
            docker: self.docker_up == Some(true),
            spread: fastrand::f64(),
        }
    }

    pub(super) fn feed(&mut self, name: &str, event: Event) {
        let now = self.now();
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let before = std::mem::take(&mut member.job);
        let (after, effects) = job::next(before, event, &now, &member.policy);
        member.job = after;
        let running = i64::try_from(member.job.runs.len()).unwrap_or(i64::MAX);
        self.counts.running.with_label_values(&[name]).set(running);
        for effect in effects {
            self.perform(name, effect);
        }
    }

    fn noticed(&mut self, notice: Notice) {
        match notice {
            // The list that follows says what there is: nothing is begun before.
            Notice::Up { .. } => {}
            Notice::Down { .. } => self.docker_up = Some(false),
            Notice::Listed(all) => {
                self.listed(&all);
                self.docker_up = Some(true);
            }
            Notice::Happened(event) => {
                let Some((job, _)) = act::owner(&event.attributes) else {
                    return;
                };
                let (job, id) = (job.to_owned(), event.id);
                match event.what {
                    What::Died(_) => self.perform(&job, Effect::Inspect(id)),
                    What::Destroyed => self.feed(&job, Event::Vanished { id }),
                    What::Oom
                    | What::Started
                    | What::Renamed
                    | What::Killed
                    | What::Paused
                    | What::Updated => {}
                }
            }
        }
    }

    fn listed(&mut self, all: &[Summary]) {
        let mut by_job: BTreeMap<&str, Vec<Seen>> = BTreeMap::new();
        for (job, seen) in all.iter().filter_map(act::seen) {
            by_job.entry(job).or_default().push(seen);
        }
        let names: Vec<String> = self.members.keys().cloned().collect();
        for name in names {
            let seen = by_job.remove(name.as_str()).unwrap_or_default();
            self.feed(&name, Event::Listed(seen));
        }
        for name in by_job.keys() {
            tracing::debug!(
                job = name,
                "containers of a job that is neither in the config nor in the memory are left alone"
            );
        }
    }

    fn obey(&mut self, command: Command) {
        // A caller that has gone needs no answer.
        match command {
            Command::Reload(settings, reply) => {
                let _ = reply.send(self.plan(settings));
            }
            Command::Start(name, reply) => {
                let _ = reply.send(self.start(&name));
            }
            Command::Stop(name, reply) => {
                let known = self.order.contains(&name);
                if known {
                    tracing::info!(job = name, "operator ends what is under way");
                    self.feed(&name, Event::Stop);
                    self.publish();
                }
                let answer = known.then_some(()).ok_or(OrderError::Unknown(name));
                let _ = reply.send(answer);
            }
        }
    }

    fn start(&mut self, name: &str) -> Result<u64, OrderError> {
        let member = self.members.get(name).filter(|member| !member.job.retired);
        let Some(member) = member else {
            return Err(OrderError::Unknown(name.into()));
        };
        if let Some(reason) = member.job.refusal(&member.policy) {
            return Err(OrderError::Refused {
                job: name.into(),
                reason,
            });
        }
        self.feed(name, Event::Start);
        self.publish();
        Ok(self.members.get(name).map_or(0, |member| member.job.number))
    }

    /// Takes new settings over; what changes is what is returned.
    fn plan(&mut self, settings: Settings) -> Vec<Change> {
        let mut changes = Vec::new();
        let order: Vec<String> = settings.jobs.iter().map(|job| job.name.clone()).collect();
        for policy in settings.jobs {
            let name = policy.name.clone();
            let what = match self.members.get_mut(&name) {
                Some(member) => {
                    let was_retired = std::mem::take(&mut member.job.retired);
                    member.leaving = None;
                    let is_same = member.policy == policy;
                    member.policy = policy;
                    self.feed(&name, Event::Changed);
                    match (was_retired, is_same) {
                        (true, _) => "added",
                        (false, true) => "kept",
                        (false, false) => "updated in place",
                    }
                }
                None => {
                    self.enter(policy);
                    "added"
                }
            };
            changes.push(Change { name, what });
        }
        let gone: Vec<String> = self
            .members
            .iter()
            .filter(|(name, member)| !order.contains(name) && !member.job.retired)
            .map(|(name, _)| name.clone())
            .collect();
        self.order = order;
        for name in gone {
            self.feed(&name, Event::Retire);
            changes.push(Change {
                name,
                what: "removed",
            });
        }
        changes
    }

    fn enter(&mut self, policy: Policy) {
        let name = policy.name.clone();
        let mut job = self.remembered.remove(&name).unwrap_or_default();
        if job.seed == 0 {
            job.seed = fastrand::u64(1..);
        }
        self.counts.begin(&name);
        if let Some(at) = job.last_success {
            let gauge = self.counts.last_success.with_label_values(&[&name]);
            gauge.set(seconds(at));
        }
        let member = Member {
            policy,
            job,
            launches: BTreeMap::new(),
            leaving: None,
        };
        self.members.insert(name, member);
    }

    /// Jobs of a former config: what runs of them is stopped, all of it removed.
    fn enter_orphans(&mut self) {
        for name in self.remembered.keys().cloned().collect::<Vec<String>>() {
            let Some(policy) = orphan(&name) else {
                continue;
            };
            tracing::info!(job = name, "not in the config any more, will be removed");
            self.enter(policy);
            self.feed(&name, Event::Retire);
        }
    }

    fn remove_retired(&mut self) {
        if self.docker_up != Some(true) {
            return;
        }
        let now = Instant::now();
        let mut over = Vec::new();
        for (name, member) in &mut self.members {
            let is_over = member.job.retired && member.job.runs.is_empty();
            if !is_over || member.leaving.is_some_and(|again| now < again) {
                continue;
            }
            member.leaving = Some(now + LEAVE_AGAIN);
            over.push(name.clone());
        }
        for name in over {
            self.remove_all_of(name);
        }
    }

    fn publish(&self) {
        let jobs = self.order.iter().filter_map(|name| {
            let member = self.members.get(name)?;
            Some(report::status(&member.policy, &member.job))
        });
        let status = Status {
            docker: self.docker_up,
            jobs: jobs.collect(),
        };
        self.status.send_if_modified(|now| {
            let is_new = **now != status;
            if is_new {
                *now = Arc::new(status);
            }
            is_new
        });
    }

    /// Writes down what has changed, then lets the launches go that wait for it.
    fn save(&mut self) {
        if !self.saving.is_empty() {
            return;
        }
        let members = self.members.iter();
        let jobs = members.map(|(name, member)| (name.as_str(), &member.job));
        let text = memory::text(&jobs.collect());
        self.riding.append(&mut self.held);
        let is_early = self.unsaved.is_some_and(|again| Instant::now() < again);
        let is_nothing = self.saved.is_empty() && self.members.is_empty();
        if text == self.saved || is_early || is_nothing {
            return self.let_go();
        }
        let path = self.memory.clone();
        self.saving.spawn(async move {
            let saved = spawn_blocking(move || memory::save(&path, &text).map(|()| text)).await;
            // The runtime is shutting down: the next agent has the labels.
            saved.unwrap_or_else(|_| Ok(Vec::new()))
        });
    }

    fn take_saved(&mut self, saved: Result<Result<Vec<u8>, SaveError>, JoinError>) {
        let Ok(saved) = saved else { return };
        let again = saved.is_err().then(|| Instant::now() + SAVE_AGAIN);
        let failed_before = std::mem::replace(&mut self.unsaved, again).is_some();
        match saved {
            Ok(text) => {
                if failed_before {
                    tracing::info!("memory of jobs is saved again");
                }
                self.saved = text;
            }
            Err(error) if !failed_before => {
                tracing::error!(error = %Chain(&error), "a restart of the agent could run jobs twice");
            }
            Err(_) => {}
        }
        // Saved or not: a job that does not run because a disk is full helps nobody.
        self.let_go();
    }

    fn let_go(&mut self) {
        for (name, key, late) in std::mem::take(&mut self.riding) {
            self.launch(name, key, late);
        }
    }
}

/// What holds for a job that the config no longer describes.
fn orphan(name: &str) -> Option<Policy> {
    Some(Policy {
        name: name.to_owned(),
        spec: Spec::default(),
        schedule: Schedule::new("@yearly", "UTC").ok()?,
        jitter: Duration::ZERO,
        overlap: Overlap::Forbid,
        timeout: None,
        retries: 0,
        catch_up: false,
        catch_up_within: Duration::ZERO,
        history: 0,
        stop_grace_period: ORPHAN_GRACE,
        pull_policy: PullPolicy::Never,
    })
}
