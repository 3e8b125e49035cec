//! Holds the tasks: what is wanted of each, who waits for whom, one status.
//!
//! Orders are levels: a task is shown what is wanted of it in a `watch` and
//! finds its own way there. So a reload while Docker hangs, or two reloads in
//! a row, need no queue and no care.

use super::audit::Audit;
use super::body::LABEL_CONTAINER;
use super::counts::Counts;
use super::lane::Lane;
use super::memory::{self, Entry, Memory};
use super::mind::{Goal, Hint, Report, Wanted};
use super::order;
use super::orders::{Pause, remembered_pause};
use super::pull::Puller;
use super::task::{Ground, Task};
use super::watcher::{self, Notice};
use super::{
    Change, Command, Container, ContainerStatus, DockerStatus, Handle, KEPT_FOR_NOW, Parts,
    Settings, Status,
};
use crate::chain::Chain;
use crate::docker::Docker;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

const COMMANDS: usize = 16;
const NOTICES: usize = 256;
const REPORTS: usize = 256;
/// Hints that one task may have waiting; a list repairs what is dropped.
const HINTS: usize = 64;
const BEAT: Duration = Duration::from_secs(15);
const ALLOWANCE: Duration = Duration::from_secs(60);

/// Makes the room; nothing runs until [`Supervisor::run`]. Reads the memory file.
pub fn new(parts: Parts) -> (Handle, Supervisor) {
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let (reports, told) = mpsc::channel(REPORTS);
    let folder = parts.memory.parent().unwrap_or(Path::new("."));
    let remembered = memory::load(&parts.memory, &parts.boot);
    let docker = Docker::new(parts.docker, &parts.registry);
    let images = parts.settings.images.clone();
    let puller = Puller::new(docker.clone(), images, parts.credentials, &parts.registry);
    let ground = Ground {
        docker,
        puller,
        log_address: parts.log_address,
        counts: Counts::new(&parts.registry),
        audit: Audit::open(folder, &parts.registry),
        pulse: parts.pulse,
        reports,
    };
    let (status, watched) = watch::channel(Arc::default());
    let mut supervisor = Supervisor {
        ground,
        inbox,
        told,
        status,
        docker: DockerStatus::default(),
        members: BTreeMap::new(),
        order: Vec::new(),
        remembered,
        memory: parts.memory,
        boot: parts.boot,
        lane: Lane::new(Instant::now()),
        dirty: false,
        unsaved: false,
        connection: 0,
        tasks: JoinSet::new(),
        saving: JoinSet::new(),
        adopted: false,
        departure: None,
    };
    supervisor.plan(parts.settings);
    supervisor.publish();
    let handle = Handle {
        audit: supervisor.ground.audit.clone(),
        commands,
        status: watched,
    };
    (handle, supervisor)
}

/// The room's loop, made by [`new`].
pub struct Supervisor {
    pub(super) ground: Ground,
    inbox: mpsc::Receiver<Command>,
    told: mpsc::Receiver<Report>,
    status: watch::Sender<Arc<Status>>,
    docker: DockerStatus,
    pub(super) members: BTreeMap<String, Member>,
    /// Names in the order of the config.
    order: Vec<String>,
    pub(super) remembered: Memory,
    memory: PathBuf,
    boot: String,
    lane: Lane,
    /// `remembered` is newer than the file.
    pub(super) dirty: bool,
    /// The last save failed; the next beat tries again.
    unsaved: bool,
    /// How often Docker has begun to answer.
    connection: u64,
    tasks: JoinSet<()>,
    saving: JoinSet<Result<(), memory::SaveError>>,
    /// The first list has been looked through for containers of former configs.
    pub(super) adopted: bool,
    /// When the host will be gone, while it goes down.
    pub(super) departure: Option<Instant>,
}

/// One container and its task.
pub(super) struct Member {
    pub(super) container: Arc<Container>,
    /// What the operator and the config want; the task is shown it when its turn comes.
    pub(super) goal: Goal,
    pub(super) turn: u64,
    pub(super) hurry: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) pause: Option<Pause>,
    wanted: watch::Sender<Wanted>,
    /// What the task is made of until it is spawned.
    seed: Option<Task>,
    hints: mpsc::Sender<Hint>,
    pub(super) report: Option<Report>,
}

enum Heard {
    Stop,
    Command(Command),
    Notice(Notice),
    Report(Box<Report>),
    Saved(Result<Result<(), memory::SaveError>, tokio::task::JoinError>),
    Ended(Result<(), tokio::task::JoinError>),
    Beat,
    /// A pause is over, or the lane may be given anew.
    Due,
}

impl Supervisor {
    /// The connection to Docker, for those who share it.
    /// The host has one order of pulls.
    pub fn puller(&self) -> Puller {
        self.ground.puller.clone()
    }

    pub fn docker(&self) -> Docker {
        self.ground.docker.clone()
    }

    /// Supervises until `stop`. Containers are left running: they outlive the agent.
    pub async fn run(mut self, stop: CancellationToken) {
        let beat = self.ground.pulse.register("supervisor", ALLOWANCE);
        let (notices, mut noticed) = mpsc::channel(NOTICES);
        let mut watching = JoinSet::new();
        watching.spawn(watcher::run(
            self.ground.docker.clone(),
            notices,
            self.ground.pulse.clone(),
        ));
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.beat();
            self.settle(&stop);
            let due = self.due();
            let heard = tokio::select! {
                () = stop.cancelled() => Heard::Stop,
                Some(command) = self.inbox.recv() => Heard::Command(command),
                Some(notice) = noticed.recv() => Heard::Notice(notice),
                Some(report) = self.told.recv() => Heard::Report(Box::new(report)),
                Some(saved) = self.saving.join_next() => Heard::Saved(saved),
                Some(ended) = self.tasks.join_next() => Heard::Ended(ended),
                _ = beats.tick() => Heard::Beat,
                () = sleep_until(due) => Heard::Due,
            };
            match heard {
                Heard::Stop => break,
                Heard::Command(command) => self.obey(command),
                Heard::Notice(notice) => self.noticed(notice),
                Heard::Report(report) => {
                    self.reported(*report);
                    // What has come meanwhile is shown with it.
                    while let Ok(report) = self.told.try_recv() {
                        self.reported(report);
                    }
                    self.publish();
                }
                Heard::Saved(saved) => self.saved(saved),
                Heard::Ended(Err(error)) => {
                    tracing::error!(%error, "a container's task ended unasked");
                }
                Heard::Beat => self.dirty |= self.unsaved,
                Heard::Ended(Ok(())) | Heard::Due => {}
            }
        }
        self.leave().await;
    }

    fn due(&self) -> Instant {
        let pauses = self
            .members
            .values()
            .filter_map(|member| match member.pause {
                Some(Pause::Until(at)) => Some(at),
                _ => None,
            });
        let far = Instant::now() + BEAT * 2;
        pauses.chain(self.lane.due()).fold(far, Instant::min)
    }

    /// The tasks end what they are at, the last word is written down.
    async fn leave(mut self) {
        // Their last reports are read on while they finish.
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => if ended.is_none() { break },
                Some(report) = self.told.recv() => self.reported(report),
            }
        }
        while let Ok(report) = self.told.try_recv() {
            self.reported(report);
        }
        while let Some(saved) = self.saving.join_next().await {
            self.saved(saved);
        }
        self.ground.audit.flush();
        if self.dirty {
            self.save();
            if let Some(saved) = self.saving.join_next().await {
                self.saved(saved);
            }
        }
    }

    /// Brings the tasks in line with what is known now; quick and idempotent.
    fn settle(&mut self, stop: &CancellationToken) {
        let gone: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| {
                member.goal == Goal::Remove && member.report.as_ref().is_some_and(|r| r.removed)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            // Dropping its ends is what ends the task.
            self.members.remove(&name);
            self.ground.counts.forget(&name);
            self.dirty |= self.remembered.remove(&name).is_some();
            self.publish();
        }
        let docker = self.docker.reachable == Some(true);
        let now = Instant::now();
        self.end_pauses(now);
        self.take_turns(now);
        let awaited = order::awaited(self.members.values().map(|member| &*member.container));
        for (name, member) in &self.members {
            let status_of = |name: &str| {
                let report = self.members.get(name)?.report.as_ref()?;
                // What was known before an outage of Docker opens no gate.
                (report.seen == self.connection).then_some(&report.status)
            };
            let gate = order::unmet(&member.container, status_of);
            let goal = self.present_goal(name, member);
            let completes = awaited.contains(name.as_str());
            let lane = self.lane.is_given_to(name);
            let paused = member.pause.is_some();
            let deadline = [member.deadline, self.departure];
            let deadline = deadline.into_iter().flatten().min();
            member.wanted.send_if_modified(|wanted| {
                let same = wanted.goal == goal
                    && wanted.turn == member.turn
                    && wanted.gate == gate
                    && wanted.completes == completes
                    && wanted.lane == lane
                    && wanted.paused == paused
                    && wanted.hurry == member.hurry
                    && wanted.deadline == deadline
                    && wanted.docker == docker
                    && wanted.connection == self.connection
                    && Arc::ptr_eq(&wanted.container, &member.container);
                if same {
                    return false;
                }
                if !Arc::ptr_eq(&wanted.container, &member.container) {
                    let address = self.ground.log_address.as_deref();
                    wanted.hash = member.container.spec.hash(address).into();
                }
                wanted.container = member.container.clone();
                wanted.goal = goal;
                wanted.turn = member.turn;
                wanted.gate = gate;
                wanted.completes = completes;
                wanted.lane = lane;
                wanted.paused = paused;
                wanted.hurry = member.hurry;
                wanted.deadline = deadline;
                wanted.docker = docker;
                wanted.connection = self.connection;
                true
            });
        }
        for member in self.members.values_mut() {
            if let Some(task) = member.seed.take() {
                self.tasks.spawn(task.run(stop.clone()));
            }
        }
        if self.dirty && self.saving.is_empty() {
            self.save();
        }
    }

    /// Stops and removals wait until those that depend on the container, and
    /// are to go as well, have come to rest.
    fn present_goal(&self, name: &str, member: &Member) -> Goal {
        let goal = self.goal_of(member);
        if goal == Goal::Run {
            return Goal::Run;
        }
        let held_up = self.members.values().any(|other| {
            self.goal_of(other) != Goal::Run
                && order::depends_on(&other.container, name)
                && !other.report.as_ref().is_some_and(|report| report.at_rest)
        });
        if held_up { Goal::Run } else { goal }
    }

    /// One replacement after the other, in the order of the config.
    fn take_turns(&mut self, now: Instant) {
        let reports = self
            .order
            .iter()
            .filter_map(|name| self.members.get(name)?.report.as_ref());
        self.lane.turn(reports, now);
    }

    /// Takes new settings over; what changes is what is returned, in the order
    /// of the config and then of what has left it.
    pub(super) fn plan(&mut self, settings: Settings) -> Vec<Change> {
        let address = self.ground.log_address.clone();
        let mut changes = Vec::new();
        self.ground.puller.configure(settings.images);
        let order: Vec<String> = settings.containers.iter().map(|c| c.name.clone()).collect();
        for container in settings.containers {
            let name = container.name.clone();
            let what = match self.members.get_mut(&name) {
                Some(member) if member.goal == Goal::Remove => {
                    member.goal = Goal::Run;
                    member.container = Arc::new(container);
                    "added"
                }
                Some(member) if *member.container == container => {
                    if container.spec.reads_files() {
                        // Another Arc has the task look at them again.
                        member.container = Arc::new(container);
                        KEPT_FOR_NOW
                    } else {
                        "kept"
                    }
                }
                Some(member) => {
                    let before = member.container.spec.hash(address.as_deref());
                    let same = before == container.spec.hash(address.as_deref());
                    member.container = Arc::new(container);
                    if same { "updated in place" } else { "replaced" }
                }
                None => {
                    self.enter(container, Goal::Run);
                    "added"
                }
            };
            changes.push(Change { name, what });
        }
        for (name, member) in &mut self.members {
            if !order.contains(name) && member.goal != Goal::Remove {
                member.goal = Goal::Remove;
                changes.push(Change {
                    name: name.clone(),
                    what: "removed",
                });
            }
        }
        self.order = order;
        changes
    }

    pub(super) fn enter(&mut self, container: Container, goal: Goal) {
        let container = Arc::new(container);
        let hash = container.spec.hash(self.ground.log_address.as_deref());
        let name = container.name.clone();
        let entry = self.remembered.get(&name).cloned().unwrap_or_default();
        let goal = match goal {
            Goal::Run if entry.stopped => Goal::Stop,
            goal => goal,
        };
        let pause = entry.paused_until.and_then(remembered_pause);
        let (wanted, shown) = watch::channel(Wanted {
            container: container.clone(),
            hash: hash.into(),
            goal,
            turn: 0,
            gate: None,
            completes: false,
            lane: false,
            paused: pause.is_some(),
            hurry: false,
            deadline: None,
            docker: false,
            connection: 0,
        });
        let (hints, heard) = mpsc::channel(HINTS);
        let member = Member {
            container,
            goal,
            turn: 0,
            hurry: false,
            deadline: None,
            pause,
            wanted,
            seed: Some(Task::new(self.ground.clone(), shown, heard, entry)),
            hints,
            report: None,
        };
        self.members.insert(name, member);
    }

    fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::Up { version } => {
                tracing::info!(version, "docker answers");
                self.ground.counts.docker_up.set(1);
                self.connection += 1;
                self.docker = DockerStatus {
                    reachable: Some(true),
                    version: Some(version),
                    since: Some(SystemTime::now()),
                    error: None,
                };
                self.publish();
            }
            Notice::Down { error } => {
                if self.docker.reachable != Some(false) {
                    tracing::warn!(
                        error,
                        "docker does not answer, containers are left as they are"
                    );
                    self.docker.since = Some(SystemTime::now());
                }
                self.ground.counts.docker_up.set(0);
                self.docker.reachable = Some(false);
                self.docker.error = Some(error);
                self.publish();
            }
            Notice::Listed(all) => self.listed(all),
            Notice::Happened(event) => {
                let name = event.attributes.get(LABEL_CONTAINER).cloned();
                if let Some(name) = name {
                    self.hint(&name, Hint::Happened(event));
                }
            }
        }
    }

    pub(super) fn hint(&self, name: &str, hint: Hint) {
        if let Some(member) = self.members.get(name)
            && member.hints.try_send(hint).is_err()
        {
            tracing::debug!(container = name, "hint dropped, the next list repairs it");
        }
    }

    fn reported(&mut self, report: Report) {
        let name = report.status.name.clone();
        let Some(member) = self.members.get_mut(&name) else {
            return;
        };
        let known = self.remembered.entry(name).or_default();
        let entry = Entry {
            // The operator's orders are kept here, not by the task.
            stopped: known.stopped,
            paused_until: known.paused_until,
            ..report.entry.clone()
        };
        if *known != entry {
            *known = entry;
            self.dirty = true;
        }
        member.report = Some(report);
    }

    pub(super) fn publish(&self) {
        let mut names: Vec<&String> = self.order.iter().collect();
        let ordered: BTreeSet<&String> = self.order.iter().collect();
        // What is on its way out stands last.
        names.extend(self.members.keys().filter(|name| !ordered.contains(name)));
        let containers = names
            .into_iter()
            .filter_map(|name| self.members.get(name))
            .map(|member| {
                let told = match &member.report {
                    Some(report) => report.status.clone(),
                    None => unknown(
                        &member.container,
                        self.remembered.get(&member.container.name),
                    ),
                };
                ContainerStatus {
                    image: member.container.spec.image.clone(),
                    // What has left the config makes no host unfit while it goes.
                    essential: member.container.essential && member.goal != Goal::Remove,
                    unwanted: self.goal_of(member) != Goal::Run,
                    presumed: told.presumed
                        && self.goal_of(member) == Goal::Run
                        && self.docker.reachable != Some(false),
                    ..told
                }
            })
            .collect();
        let remembered = self.remembered.values();
        let last_good = remembered.filter_map(|entry| entry.last_good.as_ref());
        self.status.send_replace(Arc::new(Status {
            docker: self.docker.clone(),
            containers,
            last_good: last_good.map(|good| good.spec.image.clone()).collect(),
        }));
    }

    fn save(&mut self) {
        self.dirty = false;
        let (path, memory) = (self.memory.clone(), self.remembered.clone());
        let boot = self.boot.clone();
        self.saving.spawn(async move {
            match spawn_blocking(move || memory::save(&path, &boot, &memory)).await {
                Ok(saved) => saved,
                // The runtime is shutting down: the next agent has the labels.
                Err(_) => Ok(()),
            }
        });
    }

    fn saved(&mut self, saved: Result<Result<(), memory::SaveError>, tokio::task::JoinError>) {
        let Ok(saved) = saved else { return };
        let failed_before = std::mem::replace(&mut self.unsaved, saved.is_err());
        match saved {
            Err(error) if !failed_before => {
                tracing::error!(error = %Chain(&error), "back-off and counters would not survive a restart of the agent");
            }
            Ok(()) if failed_before => tracing::info!("back-off and counters are saved again"),
            Ok(()) | Err(_) => {}
        }
    }
}

/// What is shown of a container before its task has spoken.
fn unknown(container: &Container, entry: Option<&Entry>) -> ContainerStatus {
    let presumed = entry.is_some_and(Entry::is_alive);
    let ready = presumed && entry.is_some_and(|entry| entry.ready == Some(true));
    ContainerStatus {
        name: container.name.clone(),
        image: container.spec.image.clone(),
        essential: container.essential,
        ready: container.probes.say_ready().then_some(ready),
        presumed,
        ..ContainerStatus::default()
    }
}
