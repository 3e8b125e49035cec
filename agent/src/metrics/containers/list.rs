//! Which containers run: Docker's list, kept current beside the scrapes.
//!
//! The lister asks Docker every [`TICK`], a moment after each of Docker's
//! events, and when a scrape finds a container gone. Each call has a deadline.
//! Scrapes read what the last answer said and never wait: while Docker is
//! hung or away that list holds on, and [`Listing::seen`] tells its age.

use crate::chain::Chain;
use crate::docker::container::{Container, Summary};
use crate::docker::events::{Event, Events, What};
use crate::docker::{Docker, Error};
use crate::pulse::Beat;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// From one list to the next where nothing asks for it sooner.
pub const TICK: Duration = Duration::from_secs(10);
/// Docker's events come in bursts: one list for all of them.
const AFTER_EVENT: Duration = Duration::from_millis(200);
/// A scrape that finds a container gone asks for a list no sooner than this
/// after the last one.
const BETWEEN: Duration = Duration::from_secs(1);

/// One run of one container.
#[derive(Debug, Clone)]
pub struct Found {
    pub id: String,
    pub name: String,
    /// As it was asked for: `app:1`.
    pub image: String,
    pub labels: BTreeMap<String, String>,
    /// Its main process.
    pub pid: i64,
    pub started_at: Option<SystemTime>,
    /// By Docker's own policy.
    pub restarts: u64,
    /// Its network is another container's, which shows it.
    pub borrows_network: bool,
    pub ooms: Arc<Ooms>,
}

/// OOM kills of a container over all its runs. The cgroup's count ends with
/// the cgroup, often by the very kill, and Docker's events are lost while the
/// agent does not listen: the larger sum is nearer the truth.
#[derive(Debug, Default)]
pub struct Ooms {
    events: AtomicU64,
    /// Of the cgroups before, and of this one.
    kills_before: AtomicU64,
    kills: AtomicU64,
}

/// What is known of the host's containers.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Those that run.
    pub found: Arc<Vec<Found>>,
    /// When Docker said so.
    pub seen: SystemTime,
    /// The last question was answered in full.
    pub ok: bool,
}

/// Shared by the lister and the scrapes.
#[derive(Clone)]
pub struct List {
    shared: Arc<Shared>,
}

struct Shared {
    listing: Mutex<Listing>,
    wanted: Notify,
}

/// Keeps the list; run it once.
pub struct Lister {
    docker: Docker,
    list: List,
    proc: PathBuf,
    /// Of every container that exists, running or not.
    ooms: HashMap<String, Arc<Ooms>>,
    /// What was said last.
    well: Option<bool>,
}

impl Ooms {
    /// All of them, given what the cgroup counts now.
    pub fn total(&self, kills: Option<u64>) -> u64 {
        let kills = kills.unwrap_or_default();
        let kills = self.kills.fetch_max(kills, Ordering::Relaxed).max(kills);
        let kills = self.kills_before.load(Ordering::Relaxed) + kills;
        kills.max(self.events.load(Ordering::Relaxed))
    }

    /// Docker tells of one.
    pub fn event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// The container runs anew, its cgroup counts from 0.
    pub fn next_run(&self) {
        let kills = self.kills.swap(0, Ordering::Relaxed);
        self.kills_before.fetch_add(kills, Ordering::Relaxed);
    }
}

impl List {
    pub fn new() -> List {
        let listing = Listing {
            found: Arc::default(),
            seen: SystemTime::UNIX_EPOCH,
            ok: false,
        };
        List {
            shared: Arc::new(Shared {
                listing: Mutex::new(listing),
                wanted: Notify::new(),
            }),
        }
    }

    /// The last known list.
    pub fn now(&self) -> Listing {
        self.lock().clone()
    }

    /// Asks for a new list soon; does not wait for it.
    pub fn want(&self) {
        self.shared.wanted.notify_one();
    }

    pub(super) fn set(&self, listing: Listing) {
        *self.lock() = listing;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Listing> {
        let listing = &self.shared.listing;
        listing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Turn {
    Stop,
    Due,
    Wanted,
    Event(Result<Event, Error>),
}

impl Lister {
    /// `proc` is where /proc is.
    pub fn new(docker: Docker, list: List, proc: &Path) -> Lister {
        Lister {
            docker,
            list,
            proc: proc.to_owned(),
            ooms: HashMap::new(),
            well: None,
        }
    }

    /// Until `stop`. Beats at each turn; a turn takes no longer than Docker's
    /// deadlines.
    pub async fn run(mut self, beat: Beat, stop: CancellationToken) {
        let mut events: Option<Events> = None;
        let mut last = Instant::now();
        let mut due = last;
        loop {
            beat.beat();
            let turn = tokio::select! {
                () = stop.cancelled() => Turn::Stop,
                () = tokio::time::sleep_until(due) => Turn::Due,
                () = self.list.shared.wanted.notified() => Turn::Wanted,
                event = next(&mut events) => Turn::Event(event),
            };
            match turn {
                Turn::Stop => return,
                Turn::Wanted => due = due.min(last + BETWEEN),
                Turn::Event(Ok(event)) => {
                    self.count(&event);
                    due = due.min(Instant::now() + AFTER_EVENT);
                }
                // The next turn subscribes anew and lists, so nothing is lost but time.
                Turn::Event(Err(_)) => {
                    events = None;
                    due = due.min(last + BETWEEN);
                }
                Turn::Due => {
                    if events.is_none() {
                        let subscribed = self.docker.events(&[], None);
                        let subscribed = stop.run_until_cancelled(subscribed).await;
                        events = subscribed.and_then(Result::ok);
                    }
                    let _ = stop.run_until_cancelled(self.refresh()).await;
                    last = Instant::now();
                    due = last + TICK;
                }
            }
        }
    }

    fn count(&self, event: &Event) {
        if event.what == What::Oom
            && let Some(ooms) = self.ooms.get(&event.id)
        {
            ooms.event();
        }
    }

    /// Asks Docker, and replaces the list by what it says.
    async fn refresh(&mut self) {
        let before = self.list.now();
        match self.docker.list(&[]).await {
            Ok(listed) => {
                let seen = SystemTime::now();
                let (mut found, failed) = self.look_at(listed, &before.found).await;
                found.sort_by(|a, b| a.name.cmp(&b.name));
                self.say(failed.as_ref(), found.len());
                self.list.set(Listing {
                    found: Arc::new(found),
                    seen,
                    ok: failed.is_none(),
                });
            }
            Err(error) => {
                self.say(Some(&error), before.found.len());
                self.list.set(Listing {
                    ok: false,
                    ..before
                });
            }
        }
    }

    /// Those that run, each inspected once per run, and the last error.
    async fn look_at(
        &mut self,
        listed: Vec<Summary>,
        before: &[Found],
    ) -> (Vec<Found>, Option<Error>) {
        self.ooms
            .retain(|id, _| listed.iter().any(|summary| summary.id == *id));
        let mut all = Vec::new();
        let mut failed: Option<Error> = None;
        for summary in listed.into_iter().filter(|summary| summary.running) {
            let old = before.iter().find(|found| found.id == summary.id);
            // One that hangs in Docker makes the rest wait for the next turn.
            let hangs = failed.as_ref().is_some_and(Error::is_unreachable);
            if let Some(old) = old.filter(|old| hangs || self.runs(old)) {
                let name = summary.name;
                all.push(Found {
                    name,
                    ..old.clone()
                });
                continue;
            }
            if hangs {
                continue;
            }
            match self.docker.inspect(&summary.id).await {
                Ok(container) => {
                    let ooms = self.ooms.entry(summary.id).or_default();
                    ooms.next_run();
                    all.extend(found(container, ooms.clone()));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    all.extend(old.cloned());
                    failed = Some(error);
                }
            }
        }
        (all, failed)
    }

    /// Logs a change of state, not each turn.
    fn say(&mut self, error: Option<&Error>, containers: usize) {
        let well = error.is_none();
        if self.well.replace(well) == Some(well) {
            return;
        }
        match error {
            Some(error) => {
                warn!(containers, error = %Chain(error), "containers cannot be listed in full for metrics, those known are shown");
            }
            None => info!(containers, "containers listed for metrics"),
        }
    }

    /// The run that is known still runs: its main process is in its cgroup.
    fn runs(&self, found: &Found) -> bool {
        let path = self.proc.join(found.pid.to_string()).join("cgroup");
        fs::read_to_string(path).is_ok_and(|text| text.contains(&found.id))
    }
}

/// The next event; for ever where nobody listens. Cancel-safe.
async fn next(events: &mut Option<Events>) -> Result<Event, Error> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// A container, if it runs.
fn found(container: Container, ooms: Arc<Ooms>) -> Option<Found> {
    Some(Found {
        pid: container.pid?,
        id: container.id,
        name: container.name,
        image: container.image,
        labels: container.labels.into_iter().collect(),
        started_at: container.started_at,
        restarts: container.restart_count,
        borrows_network: container.network_mode.starts_with("container:"),
        ooms,
    })
}

#[cfg(test)]
mod tests;
