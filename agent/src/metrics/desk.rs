//! The desk between those who wait for a page and the thread that makes it.
//!
//! One thread at a time is the worker: it takes collectors from the desk one
//! after the other, brings each back with what it wrote, and turns the parts
//! into a page. In the good case that is all: one thread, one uncontended lock
//! per collector.
//!
//! A collector that the kernel holds does not come back. Whoever waits for a
//! page looks at the desk when its patience ends ([`limit`]); if the worker is
//! then still in that collector it is set aside: the collector counts as failed,
//! a fresh worker goes on with what was brought before, and the old one ends
//! when its call returns. Until then the collector is away and cannot be begun
//! again, so there is at most one parked thread per collector; its state comes
//! back with it.

use crate::metrics::collector::{CollectError, Collector, Selection, Slot, Summary};
use crate::metrics::exposition::{Page, Part};
use crate::metrics::scraper::{Body, Job, Tools};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The longest that a page waits for one collector.
pub const HOLD: Duration = Duration::from_secs(2);
/// A collector that was begun more recently is never set aside.
const LEAST: Duration = Duration::from_millis(100);

pub struct Desk {
    state: Mutex<State>,
    /// Rung when a job comes, and when the desk closes.
    bell: Condvar,
    /// Jobs that wait at once.
    places: usize,
}

struct State {
    jobs: VecDeque<Job>,
    slots: Vec<Slot>,
    round: Option<Round>,
    /// Away while the worker finishes a page.
    tools: Option<Tools>,
    /// The number of the worker; whoever has another one was set aside.
    worker: u64,
    /// Whether that worker was started.
    manned: bool,
    closed: bool,
}

/// One page under way.
pub struct Round {
    pub selection: Selection,
    pub gzip: bool,
    deadline: Instant,
    pub replies: Vec<oneshot::Sender<Body>>,
    pub begun: Instant,
    /// `None` while the worker writes into it.
    page: Option<Page>,
    /// With the slot that wrote it.
    parts: Vec<(usize, Part)>,
    pub results: Vec<Outcome>,
    pub summary: Summary,
    next: usize,
    at_work: Option<(usize, Instant)>,
}

/// What the page tells of one collector.
pub struct Outcome {
    pub collector: &'static str,
    pub took: Duration,
    pub success: bool,
}

/// What a worker has to do next.
pub enum Step {
    Collect(Turn),
    Finish(Box<Finish>),
    /// It was set aside, or nobody wants pages any more.
    Leave,
}

/// One collector, out of its slot.
pub struct Turn {
    slot: usize,
    pub collector: Box<dyn Collector>,
    pub page: Page,
    begun: Instant,
}

/// All collectors came by.
pub struct Finish {
    pub round: Round,
    pub page: Page,
    pub tools: Tools,
}

/// What a worker brings.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it at a time, and a box for each turn would be paid at each scrape"
)]
pub enum Brought {
    Nothing,
    Collected(Turn, Result<(), CollectError>),
    /// The page, for its memory.
    Finished(Box<Finish>),
}

/// Who looks has to come again, or to start the worker of that number.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    Again(Instant),
    Start(u64),
}

impl Desk {
    pub fn new(collectors: Vec<Box<dyn Collector>>, tools: Tools, places: usize) -> Arc<Desk> {
        let state = State {
            jobs: VecDeque::new(),
            slots: collectors.into_iter().map(Slot::new).collect(),
            round: None,
            tools: Some(tools),
            worker: 0,
            manned: false,
            closed: false,
        };
        Arc::new(Desk {
            state: Mutex::new(state),
            bell: Condvar::new(),
            places,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False where too many wait already.
    pub fn ask(&self, job: Job) -> bool {
        let mut state = self.state();
        state.jobs.retain(|job| !job.reply.is_closed());
        if state.closed || state.jobs.len() >= self.places {
            return false;
        }
        state.jobs.push_back(job);
        drop(state);
        self.bell.notify_one();
        true
    }

    /// All workers end, those that are held when they can.
    pub fn close(&self) {
        self.state().closed = true;
        self.bell.notify_all();
    }

    /// For whoever asked at `asked` and waits until `deadline`: sets the worker aside if it
    /// is in one collector for too long.
    pub fn look(&self, now: Instant, asked: Instant, deadline: Instant) -> Look {
        let mut state = self.state();
        if !state.manned {
            state.manned = true;
            return Look::Start(state.worker);
        }
        let at_work = state.round.as_ref().and_then(|round| round.at_work);
        let Some((slot, since)) = at_work else {
            return Look::Again(limit(now, asked, deadline));
        };
        let limit = limit(since, asked, deadline);
        if now < limit {
            return Look::Again(limit);
        }
        state.set_aside(slot, now - since);
        state.manned = true;
        Look::Start(state.worker)
    }

    /// The worker that [`Desk::look`] asked for could not be started.
    pub fn unmanned(&self) {
        self.state().manned = false;
    }

    /// The one call of a worker: what it brings against what it gets. Waits for a job.
    pub fn step(&self, worker: u64, brought: Brought) -> Step {
        let mut state = self.state();
        match brought {
            Brought::Nothing => {}
            Brought::Collected(turn, result) => state.bring(worker, turn, &result),
            Brought::Finished(finish) => state.keep(*finish),
        }
        loop {
            if state.worker != worker {
                return Step::Leave;
            }
            if state.round.is_none() {
                state.begin_round();
            }
            if state.round.is_some() {
                return state.next_turn();
            }
            if state.closed {
                return Step::Leave;
            }
            let woken = self.bell.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// When a page stops waiting for a collector that runs since `since`: after [`HOLD`], or
/// half of the time that is left to `deadline`, so that the others have the rest.
pub fn limit(since: Instant, asked: Instant, deadline: Instant) -> Instant {
    let from = since.max(asked);
    let half = from + deadline.saturating_duration_since(from) / 2;
    half.min(since + HOLD).max(since + LEAST)
}

impl State {
    /// Takes the first job, and all others that the same page answers: it is begun after
    /// they asked.
    fn begin_round(&mut self) {
        if self.tools.as_ref().is_some_and(Tools::is_full) {
            self.jobs.clear(); // whoever waits is told
        }
        let Some(first) = self.jobs.pop_front() else {
            return;
        };
        let mut replies = vec![first.reply];
        let mut others = VecDeque::with_capacity(self.jobs.len());
        let now = Instant::now();
        let left = |deadline: Instant| deadline.saturating_duration_since(now);
        for job in self.jobs.drain(..) {
            let same = job.selection == first.selection && job.gzip == first.gzip;
            // Time is short for the one who has least: others may have far more of it.
            let alike =
                job.deadline >= first.deadline && left(job.deadline) <= 2 * left(first.deadline);
            if same && alike {
                replies.push(job.reply);
            } else {
                others.push_back(job);
            }
        }
        self.jobs = others;
        replies.retain(|reply| !reply.is_closed());
        if replies.is_empty() {
            return self.begin_round();
        }
        let mut page = self.tools.as_mut().map(Tools::page).unwrap_or_default();
        page.clear();
        self.round = Some(Round {
            selection: first.selection,
            gzip: first.gzip,
            deadline: first.deadline,
            replies,
            begun: page.begun(),
            page: Some(page),
            parts: Vec::with_capacity(self.slots.len()),
            results: Vec::with_capacity(self.slots.len()),
            summary: Summary::default(),
            next: 0,
            at_work: None,
        });
    }

    /// The next collector of the round, or its end.
    fn next_turn(&mut self) -> Step {
        let Some(round) = &mut self.round else {
            return Step::Leave;
        };
        let now = Instant::now();
        while let Some(slot) = self.slots.get_mut(round.next) {
            let index = round.next;
            round.next += 1;
            if !round.selection.takes(slot.name) {
                continue;
            }
            if slot.rests(now) {
                slot.count(&mut round.summary);
                round.tell(slot.name, Duration::ZERO, slot.rests_well);
                continue;
            }
            let is_late = now >= round.deadline;
            if is_late && slot.collector.is_some() {
                slot.note(&Err(CollectError::Late));
            }
            let collector = slot.collector.take_if(|_| !is_late);
            let Some(collector) = collector else {
                slot.count(&mut round.summary);
                round.tell(slot.name, Duration::ZERO, false);
                continue;
            };
            let parts = round.parts.iter().map(|(_, part)| part);
            let page = round.page.take();
            let mut page = page.unwrap_or_else(|| Page::after(round.begun, parts));
            page.cut(std::mem::take(&mut slot.spare));
            round.at_work = Some((index, now));
            return Step::Collect(Turn {
                slot: index,
                collector,
                page,
                begun: now,
            });
        }
        let (Some(mut round), Some(tools)) = (self.round.take(), self.tools.take()) else {
            return Step::Leave;
        };
        let parts = round.parts.iter().map(|(_, part)| part);
        let page = round.page.take();
        let page = page.unwrap_or_else(|| Page::after(round.begun, parts));
        Step::Finish(Box::new(Finish { round, page, tools }))
    }

    /// A collector is back in its slot; what it wrote counts if its round still waits for it.
    fn bring(&mut self, worker: u64, mut turn: Turn, result: &Result<(), CollectError>) {
        let took = turn.begun.elapsed();
        let is_full = turn.page.overflowed();
        let result = if is_full {
            &Err(CollectError::Full)
        } else {
            result
        };
        let part = turn.page.cut(Part::default());
        let Some(slot) = self.slots.get_mut(turn.slot) else {
            return;
        };
        slot.collector = Some(turn.collector);
        if self.worker != worker {
            // Of a page that has gone out long since.
            slot.came_back(took);
            return;
        }
        let Some(round) = &mut self.round else { return };
        round.at_work = None;
        slot.settle(turn.begun, result, part.is_empty());
        slot.count(&mut round.summary);
        round.tell(slot.name, took, result.is_ok());
        round.parts.push((turn.slot, part));
        round.page = Some(turn.page);
    }

    fn set_aside(&mut self, at: usize, took: Duration) {
        let Some(round) = &mut self.round else { return };
        self.worker += 1;
        round.at_work = None;
        if let Some(slot) = self.slots.get_mut(at) {
            slot.note(&Err(CollectError::Held { for_now: took }));
            slot.count(&mut round.summary);
            round.tell(slot.name, took, false);
        }
    }

    /// Puts the page's memory back for the next one.
    fn keep(&mut self, finish: Finish) {
        let mut tools = finish.tools;
        tools.keep(finish.page);
        self.tools = Some(tools);
        for (slot, mut part) in finish.round.parts {
            part.clear();
            if let Some(slot) = self.slots.get_mut(slot) {
                slot.spare = part;
            }
        }
    }
}

impl Round {
    fn tell(&mut self, collector: &'static str, took: Duration, success: bool) {
        self.results.push(Outcome {
            collector,
            took,
            success,
        });
    }

    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().map(|(_, part)| part)
    }
}
