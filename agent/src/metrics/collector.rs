//! What a collector is, and what is remembered of each between pages.
//!
//! Collectors run one after the other and never sample between scrapes
//! (`desk`). One that fails costs its own `node_scrape_collector_success` 0,
//! keeps the samples that it wrote before, and is logged when its state
//! changes, not per scrape; one whose source is absent is asked once a minute;
//! one that the kernel holds is away until it comes back.
//! After the deadline the rest is not started and
//! reports 0 as well: a page that is late is worth nothing to the scraper.

use crate::chain::Chain;
use crate::metrics::exposition::{MAX_TEXT, Page, Part};
use crate::metrics::systemd::AskError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// How long a collector that found its source absent, and wrote nothing, is not asked again:
/// most hosts lack the source of many collectors, and looking for nothing is not free.
const ABSENT_FOR: Duration = Duration::from_secs(60);

/// One source of families, kept between scrapes with its descriptors and state.
pub trait Collector: Send {
    /// node_exporter's name of it.
    fn name(&self) -> &'static str;

    /// Whether what it shows comes with hardware, modules or mounts, which most hosts lack:
    /// where it has nothing to show, it is then not asked at every scrape.
    fn shows_what_few_have(&self) -> bool {
        false
    }

    /// Writes its families into `page`.
    fn update(&mut self, page: &mut Page) -> Result<(), CollectError>;
}

/// Why a collector has nothing, or not everything, to show.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// This kernel or host has no such thing. As with node_exporter its success
    /// is 0, but nobody is warned: there is nothing to mend.
    #[error("this host has no {path}")]
    Absent { path: PathBuf },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot understand {path}: {what}")]
    Parse { path: PathBuf, what: String },
    #[error("{call} failed")]
    Call {
        call: &'static str,
        source: io::Error,
    },
    #[error("cannot look at units")]
    Systemd { source: AskError },
    #[error("the scrape's deadline had passed")]
    Late,
    /// It has not come back from a system call.
    #[error("the kernel holds it since {} ms", for_now.as_millis())]
    Held { for_now: Duration },
    #[error("the page would be longer than {MAX_TEXT} bytes")]
    Full,
}

impl CollectError {
    /// `Absent` where the file, its directory or the device behind it is not there.
    pub fn read(path: &Path, source: io::Error) -> CollectError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => CollectError::Absent { path },
            _ => CollectError::Read { path, source },
        }
    }
}

/// Which of the collectors that are on a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selection {
    #[default]
    All,
    Only(Vec<String>),
    Except(Vec<String>),
}

impl Selection {
    pub fn takes(&self, name: &str) -> bool {
        match self {
            Selection::All => true,
            Selection::Only(names) => names.iter().any(|chosen| chosen == name),
            Selection::Except(names) => !names.iter().any(|left_out| left_out == name),
        }
    }
}

/// Outcome of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub ok: usize,
    /// Collectors that failed; absent kernel features are not among them.
    pub failed: Vec<&'static str>,
}

/// A collector's place, and what was last said of it.
pub struct Slot {
    pub name: &'static str,
    /// `None` while it is at work, or held.
    pub collector: Option<Box<dyn Collector>>,
    state: State,
    /// Not asked before, as its source was absent.
    rests_until: Option<Instant>,
    /// What it reports meanwhile.
    pub rests_well: bool,
    /// Memory for what it writes.
    pub spare: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Ok,
    Absent,
    Failed,
    Late,
    Held,
}

impl Slot {
    pub fn new(collector: Box<dyn Collector>) -> Slot {
        Slot {
            name: collector.name(),
            collector: Some(collector),
            state: State::Unknown,
            rests_until: None,
            rests_well: false,
            spare: Part::default(),
        }
    }

    pub fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// [`Slot::note`] for one that was begun and is back; one that is `silent` as its source
    /// is absent or empty is left alone for a while.
    pub fn settle(&mut self, begun: Instant, result: &Result<(), CollectError>, silent: bool) {
        self.note(result);
        let optional = (self.collector.as_ref()).is_some_and(|one| one.shows_what_few_have());
        self.rests_well = self.state == State::Ok;
        let rests = silent && (self.state == State::Absent || (self.rests_well && optional));
        self.rests_until = rests.then(|| begun + ABSENT_FOR);
    }

    /// The call that held it has returned; its next run tells whether it works.
    pub fn came_back(&self, took: Duration) {
        info!(collector = self.name, ?took, "collector is back");
    }

    pub fn count(&self, summary: &mut Summary) {
        match self.state {
            State::Ok => summary.ok += 1,
            State::Failed | State::Late | State::Held => summary.failed.push(self.name),
            State::Absent | State::Unknown => {}
        }
    }

    /// Keeps the new state and logs it if it differs from the last one.
    pub fn note(&mut self, result: &Result<(), CollectError>) {
        let collector = self.name;
        let (state, error) = match result {
            Ok(()) => (State::Ok, None),
            Err(error @ CollectError::Absent { .. }) => (State::Absent, Some(error)),
            Err(error @ CollectError::Late) => (State::Late, Some(error)),
            Err(error @ CollectError::Held { .. }) => (State::Held, Some(error)),
            Err(error) => (State::Failed, Some(error)),
        };
        let last = std::mem::replace(&mut self.state, state);
        if last == state {
            return;
        }
        match (state, error) {
            (State::Absent, Some(error)) => {
                info!(collector, error = %Chain(error), "collector has no data here");
            }
            (_, Some(error)) => {
                warn!(collector, error = %Chain(error), "collector failed");
            }
            (_, None) if last == State::Unknown => debug!(collector, "collector works"),
            (_, None) => info!(collector, "collector works again"),
        }
    }
}
