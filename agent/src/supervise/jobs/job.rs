//! The life of one job as a pure function of events and time.
//!
//! [`next`] takes what is known of a job, an event and the time, and says what
//! is known then and what is to be done. Due times are on the wall clock, waits
//! on the monotonic one. Invariants: a due time begins at most one run, whatever
//! the clock and the agent do; of several missed ones at most the last is made
//! up for; a run is written down before its container is asked for, so that a
//! container is looked for before it is made a second time.

use super::settings::{Job as Policy, Overlap};
use super::state::{
    Cause, Class, Effect, Event, Exit, Failure, Job, Key, News, Now, Record, Run, Seen, Stage, Why,
    millis, stamp, unix,
};
use super::timers;
use crate::backoff::Backoff;
use std::time::Duration;

/// Most runs of a job side by side under `overlap = "allow"`.
pub const PARALLEL: usize = 8;
/// A run that begins no later than this after its time is on time.
pub const TOLERANCE: Duration = Duration::from_secs(60);
/// Due times that are remembered to have begun a run, against clocks that go back.
const BEGUN: usize = 64;
/// A mark further ahead than this was set by a clock that was wrong.
const STEP: Duration = Duration::from_secs(26 * 3600);
/// Missed due times are counted up to this at once.
const MOST_MISSED: usize = 10_000;
/// Between tries of a launch whose outcome is not known.
const AGAIN: Duration = Duration::from_secs(5);
/// Before attempt 2, 3, …
pub(super) const RETRY: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));

/// What follows from `event`.
pub fn next(mut job: Job, event: Event, now: &Now, policy: &Policy) -> (Job, Vec<Effect>) {
    let mut effects = Vec::new();
    match event {
        Event::Tick => {}
        Event::Listed(all) => job.listed(all, now, &mut effects),
        Event::Launched { key, id, since } => job.launched(key, id, since),
        Event::LaunchFailed { key, failure, text } => {
            job.launch_failed(key, failure, text, now, policy, &mut effects);
        }
        Event::Ended { id, exit } => job.ended(&id, Some(exit), now, policy, &mut effects),
        Event::Vanished { id } => job.ended(&id, None, now, policy, &mut effects),
        Event::Start => {
            if job.refusal(policy).is_none() {
                job.begin(Cause::Operator, None, now, policy, &mut effects);
            }
        }
        Event::Stop => job.stop_all(Why::Operator, now, policy, &mut effects),
        Event::Retire => {
            job.retired = true;
            job.pending = None;
            job.stop_all(Why::Removed, now, policy, &mut effects);
        }
        Event::Changed => job.forget_deadlines(),
    }
    job.settle_schedule(now, policy, &mut effects);
    timers::settle(&mut job, now, policy, &mut effects);
    job.tidy(policy, &mut effects);
    (job, effects)
}

impl Job {
    /// Why a run cannot begin now; None when it can.
    pub fn refusal(&self, policy: &Policy) -> Option<String> {
        match (policy.overlap, self.runs.last()) {
            (Overlap::Forbid, Some(run)) => Some(format!(
                "run {} is under way and overlap = \"forbid\"",
                run.number
            )),
            (Overlap::Allow, Some(_)) if self.runs.len() >= PARALLEL => {
                Some(format!("{PARALLEL} runs are under way already"))
            }
            _ => None,
        }
    }

    /// When the next scheduled run begins, as far as is known. Unix milliseconds.
    pub fn next_run(&self, policy: &Policy) -> Option<i64> {
        let due = self.pending.or(self.ahead.map(|(_, due)| due))?;
        Some(due + self.delay(due, policy)).filter(|_| !self.retired)
    }

    /// This host's share of the jitter: the same for one due time, however often it is asked.
    fn delay(&self, due: i64, policy: &Policy) -> i64 {
        let span = millis(policy.jitter);
        if span == 0 {
            return 0;
        }
        // splitmix64: neighbouring due times give unrelated numbers.
        let mut mixed = self.seed ^ due.unsigned_abs();
        mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = (mixed ^ mixed >> 31) % span.unsigned_abs();
        i64::try_from(drawn).unwrap_or_default()
    }

    /// Judges what is due by now.
    fn settle_schedule(&mut self, now: &Now, policy: &Policy, effects: &mut Vec<Effect>) {
        if self.retired {
            return;
        }
        let written = policy.schedule.to_string();
        if self.schedule != written {
            // Nothing was missed of a schedule that did not hold yet.
            self.schedule = written;
            self.mark = now.wall;
            (self.pending, self.ahead) = (None, None);
        }
        if self.mark > now.wall.saturating_add(millis(STEP)) {
            (self.mark, self.pending, self.ahead) = (now.wall, None, None);
        }
        loop {
            let is_ahead = |(from, due)| from <= now.wall && now.wall < due;
            if self.pending.is_none() && self.ahead.is_some_and(is_ahead) {
                return;
            }
            let latest = policy.schedule.latest(stamp(now.wall)).map(unix);
            let Some(due) = self.pending.or(latest.filter(|due| *due > self.mark)) else {
                let from = stamp(now.wall.max(self.mark));
                let next = policy.schedule.next(from).map(unix);
                self.ahead = next.map(|due| (now.wall, due));
                return;
            };
            self.ahead = None;
            if now.wall < due + self.delay(due, policy) {
                self.pending = Some(due);
                return;
            }
            if !now.docker {
                // A later due time takes its place when Docker answers again.
                self.pending = None;
                return;
            }
            self.pending = None;
            self.judge(due, now, policy, effects);
        }
    }

    /// Settles all due times up to `due`, which has come: it runs or is missed.
    fn judge(&mut self, due: i64, now: &Now, policy: &Policy, effects: &mut Vec<Effect>) {
        let (mark, until) = (stamp(self.mark), stamp(due));
        let settled = policy.schedule.count(mark, until, MOST_MISSED);
        self.mark = due;
        let mut n_missed = settled.saturating_sub(1);
        let late = now.wall - due;
        let is_on_time = late <= self.delay(due, policy) + millis(TOLERANCE);
        let is_made_up = policy.catch_up && late <= millis(policy.catch_up_within);
        if self.begun.contains(&due) {
            // The clock went back; its run has been.
        } else if !is_on_time && !is_made_up {
            n_missed += 1;
        } else if self.refusal(policy).is_some() {
            self.message = Some(format!(
                "the run of {} was skipped: the one before it was under way",
                stamp(due)
            ));
            effects.push(Effect::Tell(News::Skipped { due }));
        } else {
            let cause = if is_on_time {
                Cause::Schedule
            } else {
                Cause::CatchUp
            };
            self.begin(cause, Some(due), now, policy, effects);
        }
        if n_missed > 0 {
            effects.push(Effect::Tell(News::Missed { n: n_missed }));
        }
    }

    fn begin(
        &mut self,
        cause: Cause,
        due: Option<i64>,
        now: &Now,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        if policy.overlap == Overlap::Replace {
            self.stop_all(Why::Replaced, now, policy, effects);
        }
        self.number += 1;
        self.message = None;
        if let Some(due) = due {
            self.remember(due);
        }
        self.runs.push(Run {
            number: self.number,
            attempt: 1,
            cause,
            due,
            begun: now.wall,
            stage: Stage::Queued,
            reason: None,
        });
        let number = self.number;
        effects.push(Effect::Tell(News::Begun { number, cause }));
    }

    fn remember(&mut self, due: i64) {
        if !self.begun.contains(&due) {
            self.begun.push_back(due);
        }
        while self.begun.len() > BEGUN {
            self.begun.pop_front();
        }
    }

    fn stop_all(&mut self, why: Why, now: &Now, policy: &Policy, effects: &mut Vec<Effect>) {
        let mut over = Vec::new();
        for run in &mut self.runs {
            match &mut run.stage {
                Stage::Queued | Stage::Waiting { .. } | Stage::Starting { asked: false, .. } => {
                    over.push(run.number);
                }
                Stage::Starting { stop, .. } => {
                    stop.get_or_insert(why);
                    effects.push(Effect::Cancel(run.key()));
                }
                Stage::Running { id, since, .. } => {
                    run.stage = Stage::Stopping {
                        id: std::mem::take(id),
                        since: *since,
                        why,
                        until: None,
                    };
                }
                Stage::Stopping { .. } => {}
            }
        }
        for number in over {
            let end = End::new(Class::Stopped, now.wall).because(why.text());
            self.finish(number, end, policy, effects);
        }
    }

    fn launched(&mut self, key: Key, id: String, since: i64) {
        let Some(run) = self.runs.iter_mut().find(|run| run.key() == key) else {
            return;
        };
        let Stage::Starting { stop, .. } = run.stage else {
            return;
        };
        run.stage = match stop {
            None => Stage::Running {
                id,
                since,
                deadline: None,
            },
            Some(why) => Stage::Stopping {
                id,
                since,
                why,
                until: None,
            },
        };
    }

    fn launch_failed(
        &mut self,
        key: Key,
        failure: Failure,
        text: String,
        now: &Now,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        let Some(run) = self.runs.iter_mut().find(|run| run.key() == key) else {
            return;
        };
        let Stage::Starting { stop, .. } = run.stage else {
            return;
        };
        let end = match (failure, stop) {
            (_, Some(why)) => End::new(Class::Stopped, now.wall).because(why.text()),
            (Failure::Unsure | Failure::Cancelled, None) => {
                run.reason = Some(text);
                run.stage = Stage::Starting {
                    asked: false,
                    again: Some(now.mono + AGAIN),
                    stop: None,
                };
                return;
            }
            (Failure::Failed, None) => End::new(Class::Start, now.wall).because(text),
            (Failure::TooLate, None) => End::new(Class::Lost, now.wall).because(text),
        };
        // What was never made in time is not made later.
        if failure == Failure::TooLate {
            self.finish(key.number, end, policy, effects);
        } else {
            self.fail_or_finish(key.number, end, now, policy, effects);
        }
    }

    /// `exit` None: the container is gone.
    fn ended(
        &mut self,
        gone: &str,
        exit: Option<Exit>,
        now: &Now,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        if exit.is_none() && self.kept.as_ref().is_some_and(|(_, id)| id == gone) {
            self.kept = None;
        }
        let has_id = |run: &&Run| run.id() == Some(gone);
        let Some(run) = self.runs.iter().find(has_id) else {
            return;
        };
        let number = run.number;
        let why = match run.stage {
            Stage::Stopping { why, .. } => Some(why),
            _ => None,
        };
        let at = exit.map_or(now.wall, |exit| exit.at);
        let mut end = match (why, exit) {
            (Some(Why::Timeout), _) => End::new(Class::Timeout, at).because(Why::Timeout.text()),
            (Some(why), _) => End::new(Class::Stopped, at).because(why.text()),
            (None, Some(exit)) => End::new(exit.class(), at),
            (None, None) => {
                End::new(Class::Lost, at).because("its container was removed by someone else")
            }
        };
        end.code = exit.map(|exit| exit.code);
        if exit.is_some() {
            if end.class.is_failure() {
                let before = self.kept.replace((number, gone.to_owned()));
                effects.extend(before.map(|(_, id)| Effect::Remove(id)));
            } else {
                effects.push(Effect::Remove(gone.to_owned()));
            }
        }
        self.fail_or_finish(number, end, now, policy, effects);
    }

    /// A failed attempt waits for the next one, where there is one.
    fn fail_or_finish(
        &mut self,
        number: u64,
        end: End,
        now: &Now,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        let found = self.runs.iter_mut().find(|run| run.number == number);
        let Some(run) = found.filter(|run| end.class.is_failure() && run.attempt <= policy.retries)
        else {
            return self.finish(number, end, policy, effects);
        };
        let wait = RETRY.jittered(run.attempt - 1, now.spread);
        run.stage = Stage::Waiting {
            until: now.wall + millis(wait),
            at: Some(now.mono + wait),
        };
        let reason = end.text();
        run.reason = Some(reason.clone());
        effects.push(Effect::Tell(News::Retry {
            number,
            attempt: run.attempt,
            reason,
        }));
    }

    fn finish(&mut self, number: u64, end: End, policy: &Policy, effects: &mut Vec<Effect>) {
        let Some(at) = self.runs.iter().position(|run| run.number == number) else {
            return;
        };
        let run = self.runs.remove(at);
        if end.class == Class::Success {
            self.last_success = Some(end.at);
        }
        let record = Record {
            number,
            attempt: run.attempt,
            cause: run.cause,
            due: run.due,
            begun: run.begun,
            ended: end.at,
            code: end.code,
            class: end.class,
            reason: end.reason,
        };
        self.history.push_back(record.clone());
        while self.history.len() > policy.history {
            self.history.pop_front();
        }
        effects.push(Effect::Tell(News::Ended(record)));
    }

    /// What Docker has against what is known. A list may be older than the last
    /// answer: it begins questions, and ends nothing.
    fn listed(&mut self, all: Vec<Seen>, now: &Now, effects: &mut Vec<Effect>) {
        for run in &self.runs {
            if let Some(id) = run.id()
                && !all.iter().any(|seen| seen.id == id && seen.is_running)
            {
                effects.push(Effect::Inspect(id.to_owned()));
            }
        }
        let known = self.number;
        for seen in all {
            let Key { number, attempt } = seen.key;
            let is_kept = self.kept.as_ref().is_some_and(|(_, id)| *id == seen.id);
            let run = self.runs.iter().find(|run| run.number == number);
            // One whose answer is still out is the launch's to judge.
            let is_of_run = run.is_some_and(|run| run.attempt <= attempt);
            if number <= known {
                if !is_kept && !is_of_run {
                    effects.push(Effect::Remove(seen.id));
                }
                continue;
            }
            // The memory was lost: the labels tell what has been.
            self.number = self.number.max(number);
            if let Some(due) = seen.due {
                self.remember(due);
                self.mark = self.mark.max(due.min(now.wall));
            }
            if !seen.is_running {
                effects.push(Effect::Remove(seen.id));
                continue;
            }
            effects.push(Effect::Tell(News::Adopted { number }));
            self.runs.push(Run {
                number,
                attempt,
                cause: seen.due.map_or(Cause::Operator, |_| Cause::Schedule),
                due: seen.due,
                begun: seen.created,
                stage: Stage::Running {
                    id: seen.id,
                    since: seen.created,
                    deadline: None,
                },
                reason: None,
            });
        }
    }

    fn forget_deadlines(&mut self) {
        for run in &mut self.runs {
            if let Stage::Running { deadline, .. } = &mut run.stage {
                *deadline = None;
            }
        }
    }

    /// Keeps the container of the last failed run no longer than its record.
    fn tidy(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        while self.history.len() > policy.history {
            self.history.pop_front();
        }
        let is_told = |number| {
            self.history.iter().any(|record| record.number == number)
                || self.runs.iter().any(|run| run.number == number)
        };
        if let Some((number, id)) = self.kept.take_if(|(number, _)| !is_told(*number)) {
            tracing::debug!(run = number, "record is gone, and its container with it");
            effects.push(Effect::Remove(id));
        }
    }
}

/// How an attempt ended.
struct End {
    class: Class,
    at: i64,
    code: Option<i64>,
    reason: Option<String>,
}

impl End {
    fn new(class: Class, at: i64) -> End {
        End {
            class,
            at,
            code: None,
            reason: None,
        }
    }

    fn because(mut self, reason: impl Into<String>) -> End {
        self.reason = Some(reason.into());
        self
    }

    fn text(&self) -> String {
        let mut text = self.class.word().to_owned();
        if let Some(code) = self.code {
            text += &format!(" {code}");
        }
        if let Some(reason) = &self.reason {
            text += &format!(": {reason}");
        }
        text
    }
}
