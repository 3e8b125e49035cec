//! What a collector is, and running all of them for one page.
//!
//! Collectors run one after the other in one thread and never sample between
//! scrapes. One that fails costs its own `node_scrape_collector_success` 0,
//! keeps the samples that it wrote before, and is logged when its state
//! changes, not per scrape; one whose source is absent is asked once a minute.
//! After the deadline the rest is not started and
//! reports 0 as well: a page that is late is worth nothing to the scraper.

use crate::chain::Chain;
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::left_out::LEFT_OUT;
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
    fn takes(&self, name: &str) -> bool {
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

/// The collectors that are on, with what was last said about each.
pub struct Collectors {
    slots: Vec<Slot>,
}

struct Slot {
    collector: Box<dyn Collector>,
    state: State,
    /// Not asked before, as its source was absent.
    rests_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Ok,
    Absent,
    Failed,
    Late,
}

impl Collectors {
    pub fn new(collectors: Vec<Box<dyn Collector>>) -> Collectors {
        let slots = collectors
            .into_iter()
            .map(|collector| Slot {
                collector,
                state: State::Unknown,
                rests_until: None,
            })
            .collect();
        Collectors { slots }
    }

    /// Runs the chosen ones and adds `node_scrape_collector_*` for them.
    pub fn run_all(
        &mut self,
        page: &mut Page,
        selection: &Selection,
        deadline: Instant,
    ) -> Summary {
        let mut summary = Summary::default();
        let mut results: Vec<(&'static str, Duration, bool)> = Vec::with_capacity(self.slots.len());
        for slot in &mut self.slots {
            let name = slot.collector.name();
            if !selection.takes(name) {
                continue;
            }
            let start = Instant::now();
            if slot.rests_until.is_some_and(|until| start < until) {
                results.push((name, Duration::ZERO, false));
                continue;
            }
            let before = page.series();
            let result = if start < deadline {
                slot.collector.update(page)
            } else {
                Err(CollectError::Late)
            };
            let state = slot.note(&result);
            let absent = state == State::Absent && page.series() == before;
            slot.rests_until = absent.then(|| start + ABSENT_FOR);
            match state {
                State::Ok => summary.ok += 1,
                State::Failed | State::Late => summary.failed.push(name),
                State::Absent | State::Unknown => {}
            }
            results.push((name, start.elapsed(), result.is_ok()));
        }
        if let Selection::Only(names) = selection {
            // Asked for by name, they answer as there on a host that lacks their source.
            for one in LEFT_OUT.iter().filter(|one| one.is_on_there) {
                if names.iter().any(|name| name == one.name) {
                    results.push((one.name, Duration::ZERO, false));
                }
            }
        }
        let mut family = page.family(
            "node_scrape_collector_duration_seconds",
            Kind::Gauge,
            "node_exporter: Duration of a collector scrape.",
        );
        for (name, duration, _) in &results {
            family.sample(&[("collector", name)], duration.as_secs_f64());
        }
        let mut family = page.family(
            "node_scrape_collector_success",
            Kind::Gauge,
            "node_exporter: Whether a collector succeeded.",
        );
        for (name, _, success) in &results {
            family.sample(&[("collector", name)], *success);
        }
        summary
    }
}

impl Slot {
    /// Keeps the new state and logs it if it differs from the last one.
    fn note(&mut self, result: &Result<(), CollectError>) -> State {
        let collector = self.collector.name();
        let (state, error) = match result {
            Ok(()) => (State::Ok, None),
            Err(error @ CollectError::Absent { .. }) => (State::Absent, Some(error)),
            Err(error @ CollectError::Late) => (State::Late, Some(error)),
            Err(error) => (State::Failed, Some(error)),
        };
        let last = std::mem::replace(&mut self.state, state);
        if last == state {
            return state;
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
        state
    }
}

#[cfg(test)]
mod tests {
    use super::{CollectError, Collector, Collectors, Kind, Page, Selection, Summary};
    use crate::metrics::tests::{expect, parse};
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    struct Fake(&'static str, fn() -> Result<(), CollectError>);

    impl Collector for Fake {
        fn name(&self) -> &'static str {
            self.0
        }

        fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
            page.family(&format!("node_{}", self.0), Kind::Gauge, "Fake.")
                .bare(1u64);
            (self.1)()
        }
    }

    fn three() -> Collectors {
        Collectors::new(vec![
            Box::new(Fake("good", || Ok(()))),
            Box::new(Fake("bad", || {
                Err(CollectError::read("/x".as_ref(), io::Error::other("bang")))
            })),
            Box::new(Fake("absent", || {
                Err(CollectError::read(
                    "/x".as_ref(),
                    io::ErrorKind::NotFound.into(),
                ))
            })),
        ])
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_failing_collector_costs_only_its_own_success() {
        let mut page = Page::default();
        let summary = three().run_all(&mut page, &Selection::All, soon());
        assert_eq!(
            summary,
            Summary {
                ok: 1,
                failed: vec!["bad"]
            }
        );
        let parsed = parse(&page);
        for (name, success) in [("good", 1.0), ("bad", 0.0), ("absent", 0.0)] {
            let labels = [("collector", name)];
            expect(&parsed, "node_scrape_collector_success", &labels, success);
            expect(&parsed, &format!("node_{name}"), &[], 1.0);
        }
    }

    #[test]
    fn a_selection_runs_and_reports_only_the_chosen() {
        for selection in [
            Selection::Only(vec!["good".into()]),
            Selection::Except(vec!["bad".into(), "absent".into(), "unheard_of".into()]),
        ] {
            let mut page = Page::default();
            three().run_all(&mut page, &selection, soon());
            let parsed = parse(&page);
            assert_eq!(parsed["node_scrape_collector_success"].series.len(), 1);
            assert!(parsed.contains_key("node_good") && !parsed.contains_key("node_bad"));
        }
    }

    #[test]
    fn a_collector_whose_source_is_absent_is_not_asked_again_at_once() {
        struct Counting(Arc<AtomicUsize>);
        impl Collector for Counting {
            fn name(&self) -> &'static str {
                "counting"
            }

            fn update(&mut self, _: &mut Page) -> Result<(), CollectError> {
                self.0.fetch_add(1, Ordering::Relaxed);
                let error = io::ErrorKind::NotFound.into();
                Err(CollectError::read("/x".as_ref(), error))
            }
        }
        let asked = Arc::new(AtomicUsize::new(0));
        let mut collectors = Collectors::new(vec![Box::new(Counting(asked.clone()))]);
        for _ in 0..3 {
            let mut page = Page::default();
            let summary = collectors.run_all(&mut page, &Selection::All, soon());
            assert_eq!(summary, Summary::default());
            let labels = [("collector", "counting")];
            let parsed = parse(&page);
            expect(&parsed, "node_scrape_collector_success", &labels, 0.0);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        // A minute later.
        collectors.slots[0].rests_until = Some(Instant::now());
        collectors.run_all(&mut Page::default(), &Selection::All, soon());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn after_the_deadline_nothing_more_is_started() {
        let mut page = Page::default();
        let summary = three().run_all(&mut page, &Selection::All, Instant::now());
        assert_eq!(summary.failed, ["good", "bad", "absent"]);
        let parsed = parse(&page);
        assert!(!parsed.contains_key("node_good"));
        let labels = [("collector", "good")];
        expect(&parsed, "node_scrape_collector_success", &labels, 0.0);
    }
}
