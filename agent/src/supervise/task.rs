//! One container's own task: hears, asks its mind what to do, does it.
//!
//! One action on Docker at a time, each with a deadline, so a container that
//! hangs hangs alone. All decisions are the mind's; the task has the clock, the
//! connection to Docker, the probes and the counters.

use super::act;
use super::audit::Audit;
use super::counts::Counts;
use super::drain;
use super::memory::Entry;
use super::mind::{Attended, Hint, Mind, Moment, Next, Note, Outcome, Report, Wanted, Work};
use super::probe::{self, Health};
use super::pull::{self, Puller};
use super::settings::Probes;
use super::state::State;
use crate::docker::{self, Docker};
use crate::host::witness::Witness;
use crate::pulse::{Beat, Pulse};
use futures_util::future::BoxFuture;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// An idle task wakes this often to show that it turns.
const BEAT: Duration = Duration::from_secs(20);
const ALLOWANCE: Duration = Duration::from_secs(90);
/// At a stop of the agent a launch under way may end, so that no container is
/// left half replaced.
const FINISH: Duration = Duration::from_secs(5);

/// What all tasks share.
#[derive(Clone)]
pub struct Ground {
    pub docker: Docker,
    pub puller: Puller,
    pub log_address: Option<String>,
    pub counts: Counts,
    pub audit: Audit,
    pub pulse: Pulse,
    pub reports: mpsc::Sender<Report>,
}

pub struct Task {
    ground: Ground,
    wanted: watch::Receiver<Wanted>,
    hints: mpsc::Receiver<Hint>,
    mind: Mind,
    doing: Option<Doing>,
    tidying: Option<BoxFuture<'static, Result<bool, docker::Error>>>,
    progress: (
        watch::Sender<pull::Progress>,
        watch::Receiver<pull::Progress>,
    ),
    probes: Attendance,
    double: Attendance,
    draining: Option<(String, drain::Watch)>,
    /// Of the run that it names.
    witness: Option<(String, Witness)>,
    reported: Option<Report>,
    beat: Beat,
}

struct Doing {
    /// A start: it may end when the agent stops.
    starts: bool,
    work: BoxFuture<'static, Outcome>,
}

/// The probes of one run.
struct Attendance {
    of: Option<(Attended, Probes)>,
    running: JoinSet<()>,
    health: watch::Receiver<Health>,
}

enum Heard {
    Stop,
    Wanted(bool),
    Done(Box<Outcome>),
    Tidied(Result<bool, docker::Error>),
    Hint(Option<Hint>),
    Progress,
    Health,
    DoubleHealth,
    Connections(drain::Count),
    /// Its main process is no more; whether memory was too short before.
    Ended(bool),
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
            mind: Mind::new(now, entry, &moment()),
            doing: None,
            tidying: None,
            progress: watch::channel(pull::Progress::default()),
            probes: Attendance::none(),
            double: Attendance::none(),
            draining: None,
            witness: None,
            reported: None,
            wanted,
            hints,
        }
    }

    /// Runs until `stop`, or until the container is removed and unwanted. The
    /// container itself is left as it is.
    pub async fn run(mut self, stop: CancellationToken) {
        self.tell().await;
        loop {
            self.beat.beat();
            if self.step() {
                self.tell().await;
                continue;
            }
            match self.listen(&stop).await {
                Heard::Stop => return self.finish().await,
                Heard::Wanted(true) => {
                    let wanted = self.wanted.borrow_and_update().clone();
                    self.mind.want(wanted, &moment());
                }
                // The supervisor dropped its end: nobody wants this task.
                Heard::Wanted(false) | Heard::Hint(None) => return,
                Heard::Done(outcome) => {
                    self.doing = None;
                    if let Some(text) = outcome.launch_failure() {
                        self.ground.puller.heed(text);
                    }
                    self.mind.done(*outcome, &moment());
                }
                Heard::Tidied(answer) => {
                    self.tidying = None;
                    self.mind.tidied(answer, &moment());
                }
                Heard::Hint(Some(hint)) => self.mind.hinted(hint, &moment()),
                Heard::Progress => {
                    let progress = *self.progress.1.borrow_and_update();
                    self.mind.pulled(&progress);
                }
                Heard::Health => {
                    let health = self.probes.health.borrow_and_update().clone();
                    self.mind.judged(&health, &moment());
                }
                Heard::DoubleHealth => {
                    let health = self.double.health.borrow_and_update().clone();
                    self.mind.double_judged(&health, &moment());
                }
                Heard::Connections(count) => {
                    self.mind.connections(count.open, count.quiet, &moment());
                }
                Heard::Ended(starved) => {
                    // The run is remembered: nobody watches over it any more.
                    if starved {
                        self.mind.starved();
                    }
                    continue;
                }
                Heard::Timer => {
                    if let Some((_, witness)) = &mut self.witness {
                        witness.look();
                    }
                    continue;
                }
            }
            self.attend();
            self.tell().await;
        }
    }

    async fn listen(&mut self, stop: &CancellationToken) -> Heard {
        let due = self.due();
        let open = !self.mind.is_deaf();
        let doing = &mut self.doing;
        let tidying = &mut self.tidying;
        let draining = &mut self.draining;
        let witness = &mut self.witness;
        let probed = self.probes.of.is_some();
        let doubled = self.double.of.is_some();
        tokio::select! {
            () = stop.cancelled() => Heard::Stop,
            changed = self.wanted.changed() => Heard::Wanted(changed.is_ok()),
            outcome = async { match doing { Some(doing) => (&mut doing.work).await, None => std::future::pending().await } } => Heard::Done(Box::new(outcome)),
            answer = async { match tidying { Some(work) => work.await, None => std::future::pending().await } } => Heard::Tidied(answer),
            count = async { match draining { Some((_, watch)) => watch.next().await, None => std::future::pending().await } } => Heard::Connections(count),
            starved = async { match witness { Some((_, witness)) => witness.end().await, None => std::future::pending().await } } => Heard::Ended(starved),
            hint = self.hints.recv(), if open => Heard::Hint(hint),
            Ok(()) = self.progress.1.changed() => Heard::Progress,
            Ok(()) = self.probes.health.changed(), if probed => Heard::Health,
            Ok(()) = self.double.health.changed(), if doubled => Heard::DoubleHealth,
            () = sleep_until(due) => Heard::Timer,
        }
    }

    fn due(&self) -> Instant {
        let beat = Instant::now() + BEAT;
        let tidy = match &self.tidying {
            Some(_) => None,
            None => self.mind.tidy_due().map(|(at, _)| at),
        };
        [self.mind.due(), tidy]
            .into_iter()
            .flatten()
            .fold(beat, Instant::min)
    }

    /// Does the next thing that needs no waiting; false when there is none.
    fn step(&mut self) -> bool {
        let now = moment();
        let moved = match self.mind.next(&now) {
            Next::Begin(work) => {
                self.begin(work);
                true
            }
            Next::Moved => true,
            Next::Quiet => false,
        };
        if !self.mind.is_busy() {
            // What was under way is of no use any more.
            self.doing = None;
        }
        self.attend();
        if !moved {
            self.begin_tidying(now.at);
        }
        moved
    }

    fn begin(&mut self, work: Work) {
        if matches!(
            work,
            Work::Launch(_)
                | Work::Double(_)
                | Work::Promote { .. }
                | Work::Clear { .. }
                | Work::Remove { .. }
        ) {
            // A list made before a launch must not judge what the launch makes.
            self.tidying = None;
        }
        let starts = matches!(
            work,
            Work::Launch(_) | Work::Double(_) | Work::Promote { .. }
        );
        if matches!(work, Work::Fetch { .. }) {
            self.progress.0.send_replace(pull::Progress::default());
        }
        let progress = self.progress.0.clone();
        let work = act::perform(
            self.ground.docker.clone(),
            self.ground.puller.clone(),
            self.ground.log_address.clone(),
            work,
            progress,
        );
        self.doing = Some(Doing {
            starts,
            work: Box::pin(work),
        });
    }

    fn begin_tidying(&mut self, now: Instant) {
        if self.tidying.is_some() {
            return;
        }
        let Some((at, held)) = self.mind.tidy_due() else {
            return;
        };
        if at <= now {
            let (name, id) = (self.mind.name().to_owned(), held.id.clone());
            self.mind.tidying();
            self.tidying = Some(Box::pin(act::tidy(self.ground.docker.clone(), name, id)));
        }
    }

    /// Probes and counts run exactly while what they ask about does.
    fn attend(&mut self) {
        let probes = &self.mind.now.container.probes;
        let name = self.mind.name();
        self.probes
            .follow(name, self.mind.attended(), probes, &self.ground);
        self.double
            .follow(name, self.mind.attended_double(), probes, &self.ground);
        let run = self.mind.process().map(|(run, ..)| run);
        if self.witness.as_ref().map(|(of, _)| of.as_str()) != run {
            self.witness = self
                .mind
                .process()
                .and_then(|(run, id, pid)| Some((run.to_owned(), Witness::over(pid, id)?)));
        }
        let drained = self.mind.drained();
        let is_watched = match (&self.draining, drained) {
            (Some((run, _)), Some(held)) => *run == held.run,
            (None, None) => true,
            _ => false,
        };
        if !is_watched {
            let container = &self.mind.now.container;
            self.draining = drained.map(|held| {
                let watch = drain::Watch::new(held.pid, drain::ports_of(container, held));
                (held.run.clone(), watch)
            });
        }
    }

    /// Tells the supervisor, the counters and the audit log what has changed.
    async fn tell(&mut self) {
        let now = moment();
        let name = self.mind.name().to_owned();
        for note in self.mind.take_notes() {
            self.count(&name, note);
        }
        let report = self.mind.report(&now);
        if self.reported.as_ref() == Some(&report) {
            return;
        }
        let counts = &self.ground.counts;
        let up = matches!(
            self.mind.state(),
            State::Running(_) | State::Draining { .. }
        );
        counts.show(&report.status, up);
        counts.show_times(&report.status, now.wall);
        self.reported = Some(report.clone());
        // A supervisor that has gone stops this task by other means.
        let _ = self.ground.reports.send(report).await;
    }

    fn count(&self, name: &str, note: Note) {
        let counts = &self.ground.counts;
        match note {
            Note::Restart { reason } => counts.restarts.with_label_values(&[name, reason]).inc(),
            Note::StartFailed => counts.start_failures.with_label_values(&[name]).inc(),
            Note::ExitCode(code) => counts.last_exit_code.with_label_values(&[name]).set(code),
            Note::Surprise(_) => counts.surprises.inc(),
            Note::Rollback => counts.rollbacks.with_label_values(&[name]).inc(),
            Note::Audit(record) => self.ground.audit.record(record),
        }
    }

    async fn finish(&mut self) {
        if let Some(Doing { starts: true, work }) = &mut self.doing {
            // Late or not, the container is found by its label next time.
            let _ = timeout(FINISH, work).await;
        }
    }
}

impl Attendance {
    fn none() -> Attendance {
        Attendance {
            of: None,
            running: JoinSet::new(),
            health: watch::channel(Health::default()).1,
        }
    }

    fn follow(&mut self, name: &str, run: Option<Attended>, probes: &Probes, ground: &Ground) {
        let same = match (&self.of, &run) {
            (Some((known, by)), Some(run)) => known.run == run.run && by == probes,
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        // Dropping the set ends the probes that ran in it.
        *self = Attendance::none();
        let Some(run) = run else { return };
        let (tell, health) = watch::channel(Health::default());
        self.health = health;
        let target = probe::Target {
            docker: ground.docker.clone(),
            name: name.to_owned(),
            id: run.id.clone(),
            started: run.since,
            failures: ground.counts.probe_failures.clone(),
        };
        self.running
            .spawn(probe::attend(probes.clone(), target, run.passed, tell));
        self.of = Some((run, probes.clone()));
    }
}

fn moment() -> Moment {
    Moment {
        at: Instant::now(),
        wall: SystemTime::now(),
        spread: fastrand::f64(),
    }
}
