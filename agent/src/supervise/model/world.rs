//! Time, faults and orders around the imagined Docker.

use super::docker::{Daemon, Life, NAME, Sim, lost};
use crate::docker::events;
use crate::supervise::memory::Entry;
use crate::supervise::mind::{Goal, Hint, Mind, Moment, Next, Note, Outcome, Wanted, Work};
use crate::supervise::probe::{Health, Verdict};
use crate::supervise::settings::{
    Check, Container, Drain, Order, Probe, Probes, PullPolicy, Takeover, Update,
};
use crate::supervise::spec::Spec;
use crate::supervise::state::State;
use crate::supervise::{Phase, act};
use fastrand::Rng;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::Instant;

const RELIST: Duration = Duration::from_secs(30);
/// Beyond the delays that were pending when the faults stopped.
const CONVERGE: Duration = Duration::from_secs(60);
/// Longest delay that may be pending: the ladder's top and its jitter.
const PENDING: Duration = Duration::from_secs(75);

pub struct World {
    rng: Rng,
    seed: u64,
    now: Instant,
    began: Instant,
    daemon: Daemon,
    mind: Mind,
    wanted: Wanted,
    versions: u32,
    /// What is under way, its next call, and when that happens.
    doing: Option<(Work, usize, Instant)>,
    hints: Vec<(Instant, Hint)>,
    relist_at: Instant,
    reconnect_at: Option<Instant>,
    probe_at: Instant,
    /// Probes of the present spec say no.
    unwell: bool,
    lossy: bool,
    quiet_drift: bool,
    n_records: u64,
    trace: Vec<String>,
}

fn container(rng: &mut Rng) -> Container {
    let probe = Probe {
        check: Check::Tcp {
            host: String::new(),
            port: 1,
        },
        period: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        failures: 3,
        successes: 1,
    };
    let some = |rng: &mut Rng| rng.bool().then(|| probe.clone());
    Container {
        name: NAME.into(),
        spec: Spec {
            image: "app:1".into(),
            ..Spec::default()
        },
        depends_on: Vec::new(),
        stop_grace_period: Duration::from_secs(10),
        pull_policy: PullPolicy::Missing,
        probes: Probes {
            startup: some(rng),
            readiness: some(rng),
            liveness: None,
        },
        drain: Drain {
            deregister_wait: Duration::from_secs(rng.u64(0..5)),
            connections: Duration::from_secs(rng.u64(0..10)),
        },
        update: Update {
            order: match rng.bool() {
                true => Order::Overlap,
                false => Order::StopFirst,
            },
            rollback: rng.bool(),
            ready_within: Duration::from_secs(20),
            ..Update::default()
        },
        takeover: Takeover::Refuse,
        essential: true,
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::with_seed(seed);
        let now = Instant::now();
        let wall = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let wanted = Wanted {
            container: Arc::new(container(&mut rng)),
            hash: "v1:1".into(),
            goal: Goal::Run,
            turn: 0,
            gate: None,
            completes: false,
            lane: true,
            paused: false,
            hurry: false,
            deadline: None,
            docker: true,
            connection: 1,
        };
        let moment = Moment {
            at: now,
            wall,
            spread: rng.f64(),
        };
        World {
            mind: Mind::new(wanted.clone(), Entry::default(), &moment),
            rng,
            seed,
            now,
            began: now,
            daemon: Daemon::new(wall),
            wanted,
            versions: 1,
            doing: None,
            hints: Vec::new(),
            relist_at: now + RELIST,
            reconnect_at: None,
            probe_at: now,
            unwell: false,
            lossy: false,
            quiet_drift: false,
            n_records: 0,
            trace: Vec::new(),
        }
    }

    /// Since the beginning. Unit: seconds.
    fn passed(&self) -> u64 {
        self.now.duration_since(self.began).as_secs()
    }

    fn moment(&mut self) -> Moment {
        Moment {
            at: self.now,
            wall: self.daemon.wall,
            spread: self.rng.f64(),
        }
    }

    pub fn something_happens(&mut self) {
        let what = self.rng.u32(0..24);
        self.trace.push(format!("{what}@{}", self.passed()));
        let held = self.daemon.running().map(|one| one.id.clone());
        let any = match self.daemon.all.len() {
            0 => None,
            n => Some(self.daemon.all[self.rng.usize(0..n)].id.clone()),
        };
        match (what, held) {
            (0, Some(id)) => self.daemon.end(&id, 1, false),
            (1, Some(id)) => self.daemon.end(&id, 0, false),
            (2, Some(id)) => self.daemon.end(&id, 137, true),
            (3, Some(id)) => self.daemon.kill(&id, 143),
            (4, Some(id)) => self.daemon.destroy(&id),
            (5, Some(id)) => self.change(&id, |one| one.life = Life::Paused),
            (6, Some(id)) => self.change(&id, |one| one.name = "stolen".into()),
            (7, Some(id)) => {
                self.change(&id, |one| one.restarts_by_itself = true);
                self.daemon.tell(&id, events::What::Updated);
            }
            (8, _) => {
                if let Some(id) = any {
                    self.daemon.start(&id);
                }
            }
            (9, _) => self.daemon.registry ^= true,
            (10, _) => self.daemon.image = false,
            (11, _) => self.fall(),
            (12, _) => self.rise(),
            (13, _) => self.lossy ^= true,
            (14 | 15, _) => self.edit(),
            (16, _) => self.agent_dies(),
            (17, _) => self.clock_steps(),
            (18, _) => self.wanted.goal = Goal::Stop,
            (19, _) => self.wanted.goal = Goal::Run,
            (20, _) => self.wanted.turn += 1,
            (21, _) => self.wanted.paused ^= true,
            (22, _) => self.daemon.sick = self.rng.bool().then_some(1),
            (23, _) => self.unwell ^= true,
            _ => {}
        }
        let time = match self.rng.u32(0..4) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(self.rng.u64(0..500)),
            2 => Duration::from_millis(self.rng.u64(0..5_000)),
            _ => Duration::from_millis(self.rng.u64(0..40_000)),
        };
        self.pass(time);
    }

    fn change(&mut self, id: &str, how: impl Fn(&mut Sim)) {
        if let Some(one) = self.daemon.all.iter_mut().find(|one| one.id == id) {
            how(one);
        }
    }

    fn fall(&mut self) {
        if !self.daemon.up {
            return;
        }
        self.daemon.up = false;
        // Not always with live-restore.
        if self.rng.bool() {
            let ids: Vec<String> = self.daemon.all.iter().map(|one| one.id.clone()).collect();
            for id in ids {
                self.daemon.end(&id, 137, false);
            }
            self.daemon.told.clear();
        }
        self.hints.clear();
        self.wanted.docker = false;
    }

    fn rise(&mut self) {
        if !self.daemon.up {
            self.daemon.up = true;
            let wait = Duration::from_millis(self.rng.u64(0..5_000));
            self.reconnect_at = Some(self.now + wait);
        }
    }

    fn edit(&mut self) {
        self.versions += 1;
        let mut container = container(&mut self.rng);
        container.spec.image = format!("app:{}", self.versions);
        self.wanted.container = Arc::new(container);
        self.wanted.hash = format!("v1:{}", self.versions).into();
    }

    /// kill -9: what is under way may still happen, as far as it was asked for.
    fn agent_dies(&mut self) {
        if let Some((work, n, _)) = self.doing.take()
            && self.daemon.up
            && self.rng.bool()
        {
            self.daemon.step(&work, n);
        }
        let moment = self.moment();
        let report = self.mind.report(&moment);
        self.check_notes();
        self.wanted.connection = 1;
        self.wanted.turn = 0;
        self.wanted.docker = self.daemon.up && self.reconnect_at.is_none();
        self.mind = Mind::new(self.wanted.clone(), report.entry, &moment);
        self.hints.clear();
        self.relist_at = self.now + RELIST;
    }

    fn clock_steps(&mut self) {
        let step = Duration::from_secs(self.rng.u64(0..7_200));
        self.daemon.wall = match self.rng.bool() {
            true => self.daemon.wall + step,
            false => self.daemon.wall - step,
        };
    }

    /// Faults stop: what is wanted stays as it is from here on.
    pub fn calm_down(&mut self) {
        self.trace.push("calm".into());
        self.rise();
        self.daemon.registry = true;
        self.daemon.sick = None;
        self.unwell = false;
        self.lossy = false;
        self.wanted.paused = false;
        self.pass(PENDING + CONVERGE + self.drain_time() * 2);
    }

    fn drain_time(&self) -> Duration {
        let container = &self.wanted.container;
        let drain = &container.drain;
        drain.deregister_wait
            + drain.connections
            + container.stop_grace_period
            + container.update.ready_within
    }

    pub fn must_have_converged(&mut self) {
        let (seed, state) = (self.seed, self.mind.state().clone());
        let alive: Vec<Sim> = self.alive();
        let fault = |what: &str| -> ! {
            panic!(
                "seed {seed}: {what}; state {state:?}, alive {alive:?}, history {:?}",
                self.trace
            )
        };
        if self.wanted.goal == Goal::Stop {
            if self.mind.phase() != Phase::Stopped || !alive.is_empty() {
                fault("not stopped");
            }
            return;
        }
        let State::Running(running) = &state else {
            fault("not running")
        };
        let [one] = alive.as_slice() else {
            fault("not exactly one")
        };
        let entry = {
            let moment = Moment {
                at: self.now,
                wall: self.daemon.wall,
                spread: 0.5,
            };
            self.mind.report(&moment).entry
        };
        let is_bad = entry.bad.as_deref() == Some(&*self.wanted.hash);
        let drifted = one.restarts_by_itself && !self.quiet_drift;
        if one.name != NAME || one.life != Life::Runs || drifted {
            fault("drift is left");
        }
        if one.hash != *self.wanted.hash && !is_bad {
            fault("another shape");
        }
        if running.ready == Some(false) {
            fault("not ready");
        }
    }

    fn alive(&self) -> Vec<Sim> {
        let ours = self.daemon.all.iter().filter(|one| one.ours);
        ours.filter(|one| one.lives()).cloned().collect()
    }

    /// Lets time pass, with all that falls due in it.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut n = 0;
        loop {
            n += 1;
            assert!(n < 20_000, "seed {}: spins", self.seed);
            self.settle();
            self.check();
            let next = [
                self.doing.as_ref().map(|(_, _, at)| *at),
                self.hints.iter().map(|(at, _)| *at).min(),
                self.mind.due(),
                self.mind.tidy_due().map(|(at, _)| at),
                self.reconnect_at,
                Some(self.relist_at),
                Some(self.probe_at),
            ];
            let next = next.into_iter().flatten().min().unwrap_or(end).min(end);
            if next > self.now {
                self.daemon.wall += next - self.now;
                self.now = next;
            } else if next == end {
                return;
            }
            self.fall_due();
        }
    }

    /// The task's loop up to where it would listen.
    fn settle(&mut self) {
        let moment = self.moment();
        if self.wanted_differs() {
            self.mind.want(self.wanted.clone(), &moment);
        }
        for _ in 0..100 {
            let moment = self.moment();
            match self.mind.next(&moment) {
                Next::Begin(work) => {
                    self.n_records += 1;
                    // What was under way may have been asked for by now.
                    if let Some((work, n, _)) = self.doing.take()
                        && self.daemon.up
                        && self.rng.bool()
                    {
                        self.daemon.step(&work, n);
                    }
                    self.trace
                        .push(format!("{work:?}").chars().take(24).collect());
                    self.doing = Some((work, 0, self.soon()));
                }
                Next::Moved => {}
                Next::Quiet => {
                    if !self.mind.is_busy() {
                        self.doing = None;
                    }
                    self.check_notes();
                    return;
                }
            }
        }
        panic!("seed {}: never quiet", self.seed);
    }

    fn soon(&mut self) -> Instant {
        self.now + Duration::from_millis(self.rng.u64(1..400))
    }

    fn wanted_differs(&self) -> bool {
        let (now, wanted) = (&self.mind.now, &self.wanted);
        now.goal != wanted.goal
            || now.turn != wanted.turn
            || now.paused != wanted.paused
            || now.docker != wanted.docker
            || now.connection != wanted.connection
            || !Arc::ptr_eq(&now.container, &wanted.container)
    }

    fn fall_due(&mut self) {
        self.deliver();
        if self.reconnect_at.is_some_and(|at| at <= self.now) {
            self.reconnect_at = None;
            self.wanted.docker = true;
            self.wanted.connection += 1;
            self.relist_at = self.now;
        }
        if let Some((work, n, at)) = self.doing.take() {
            if at > self.now {
                self.doing = Some((work, n, at));
            } else {
                self.call(work, n);
            }
        }
        if self.relist_at <= self.now {
            self.relist_at = self.now + RELIST;
            if self.wanted.docker {
                let list = self.daemon.list();
                self.hints.push((self.now, Hint::Listed(list)));
            }
        }
        if self.probe_at <= self.now {
            self.probe_at = self.now + Duration::from_secs(5);
            self.probe();
        }
        let tidy = self.mind.tidy_due().filter(|(at, _)| *at <= self.now);
        if let Some(id) = tidy.map(|(_, held)| held.id.clone()) {
            self.mind.tidying();
            let kept = self.daemon.tidy(&id);
            let moment = self.moment();
            self.mind.tidied(Ok(kept), &moment);
        }
    }

    fn call(&mut self, work: Work, n: usize) {
        let outcome = if !self.daemon.up {
            Some(lost(&work))
        } else if self.rng.u32(0..40) == 0 && self.lossy {
            // It happened, but the answer is lost.
            self.daemon.step(&work, n);
            Some(lost(&work))
        } else {
            self.daemon.step(&work, n)
        };
        match outcome {
            Some(outcome) => self.answer(outcome),
            None => {
                let at = self.soon();
                self.doing = Some((work, n + 1, at));
            }
        }
    }

    fn answer(&mut self, outcome: Outcome) {
        let moment = self.moment();
        self.mind.done(outcome, &moment);
    }

    /// Events arrive, late, twice, in another order, or not at all.
    fn deliver(&mut self) {
        let told: Vec<events::Event> = self.daemon.told.drain(..).collect();
        // Lost news of drift are made up for by the slow look only.
        let is_drift = |event: &events::Event| matches!(event.what, events::What::Updated);
        if !self.wanted.docker {
            self.quiet_drift |= told.iter().any(is_drift);
        } else {
            for event in told {
                if self.lossy && self.rng.u32(0..3) == 0 {
                    self.quiet_drift |= is_drift(&event);
                    continue;
                }
                let late = if self.lossy { 3_000 } else { 50 };
                let at = self.now + Duration::from_millis(self.rng.u64(0..late));
                self.hints.push((at, Hint::Happened(event.clone())));
                if self.lossy && self.rng.bool() {
                    self.hints.push((at, Hint::Happened(event)));
                }
            }
        }
        if self.mind.is_deaf() {
            // The task does not take hints now; they wait.
            for (at, _) in &mut self.hints {
                *at = (*at).max(self.now + Duration::from_millis(1));
            }
            return;
        }
        self.hints.sort_by_key(|(at, _)| *at);
        while self.hints.first().is_some_and(|(at, _)| *at <= self.now) && !self.mind.is_deaf() {
            let (_, hint) = self.hints.remove(0);
            let moment = self.moment();
            self.mind.hinted(hint, &moment);
            self.settle();
        }
    }

    fn probe(&mut self) {
        let moment = self.moment();
        let verdict = match self.unwell {
            true => Verdict::Bad("unwell".into()),
            false => Verdict::Good,
        };
        let mut health = Health::default();
        if !self.unwell {
            health.startup = Verdict::Good;
        }
        health.readiness = verdict;
        let runs = |daemon: &mut Daemon, id: &str| {
            daemon
                .inspect(id)
                .is_some_and(|one| one.running && !one.paused)
        };
        if let Some(run) = self.mind.attended()
            && runs(&mut self.daemon, &run.id)
        {
            self.mind.judged(&health, &moment);
        }
        if let Some(run) = self.mind.attended_double()
            && runs(&mut self.daemon, &run.id)
        {
            self.mind.double_judged(&health, &moment);
        }
        if self.mind.drained().is_some() {
            self.mind.connections(0, true, &moment);
        }
    }

    /// What holds at every step.
    fn check(&mut self) {
        let alive = self.alive();
        let next = act::double_name(NAME);
        let (doubles, others): (Vec<_>, Vec<_>) = alive.iter().partition(|one| one.name == next);
        // Someone else may start a dead generation behind our back; it is not
        // the mind that has two.
        let by_us = others.len() + doubles.len();
        if by_us > 2 && !self.trace.iter().any(|what| what.starts_with("8@")) {
            panic!(
                "seed {}: {alive:?} run at once: {:?}",
                self.seed, self.trace
            );
        }
        let overlaps = self.wanted.container.update.order == Order::Overlap;
        let ever = self.versions > 1;
        if others.len() > 1
            && !(overlaps || ever)
            && !self
                .trace
                .iter()
                .any(|what| what.starts_with("8@") || what.starts_with("6@"))
        {
            panic!(
                "seed {}: {alive:?} run at once: {:?}",
                self.seed, self.trace
            );
        }
    }

    /// Every call that changes something has left a line.
    fn check_notes(&mut self) {
        let notes = self.mind.take_notes();
        let records = notes.iter().filter(|note| matches!(note, Note::Audit(_)));
        self.n_records += u64::try_from(records.count()).unwrap();
    }
}
