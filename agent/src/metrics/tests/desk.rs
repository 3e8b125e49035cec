//! What one collector's fate costs the others and the page.

use super::{Room, expect};
use crate::metrics::collector::{CollectError, Collector, Selection};
use crate::metrics::desk::{HOLD, limit};
use crate::metrics::exposition::{Kind, MAX_TEXT, Page};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

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

fn three() -> Room {
    Room::new(vec![
        Box::new(Fake("good", || Ok(()))),
        Box::new(Fake("bad", || {
            Err(CollectError::read("/x".as_ref(), io::Error::other("bang")))
        })),
        Box::new(Fake("absent", || {
            let error = io::ErrorKind::NotFound.into();
            Err(CollectError::read("/x".as_ref(), error))
        })),
    ])
}

#[test]
fn a_failing_collector_costs_only_its_own_success() {
    let room = three();
    let page = room.page(&Selection::All, LONG);
    for (name, success) in [("good", 1.0), ("bad", 0.0), ("absent", 0.0)] {
        let labels = [("collector", name)];
        expect(&page, "node_scrape_collector_success", &labels, success);
        expect(&page, &format!("node_{name}"), &[], 1.0);
    }
    let status = room.status();
    assert_eq!(status.collectors_ok, 1);
    assert_eq!(status.collectors_failed, ["bad"]);
}

#[test]
fn a_selection_runs_and_reports_only_the_chosen() {
    for selection in [
        Selection::Only(vec!["good".into()]),
        Selection::Except(vec!["bad".into(), "absent".into(), "unheard_of".into()]),
    ] {
        let page = three().page(&selection, LONG);
        assert_eq!(page["node_scrape_collector_success"].series.len(), 1);
        assert!(page.contains_key("node_good") && !page.contains_key("node_bad"));
    }
}

#[test]
fn a_collector_whose_source_is_absent_or_empty_is_not_asked_again_at_once() {
    struct Counting(Arc<AtomicUsize>, bool);
    impl Collector for Counting {
        fn name(&self) -> &'static str {
            "counting"
        }

        fn shows_what_few_have(&self) -> bool {
            true
        }

        fn update(&mut self, _: &mut Page) -> Result<(), CollectError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if self.1 {
                return Ok(());
            }
            let error = io::ErrorKind::NotFound.into();
            Err(CollectError::read("/x".as_ref(), error))
        }
    }
    for (empty, success) in [(true, 1.0), (false, 0.0)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let room = Room::new(vec![Box::new(Counting(asked.clone(), empty))]);
        for _ in 0..3 {
            let page = room.page(&Selection::All, LONG);
            let labels = [("collector", "counting")];
            expect(&page, "node_scrape_collector_success", &labels, success);
            let status = room.status();
            assert!(status.collectors_failed.is_empty());
            assert_eq!(status.collectors_ok, usize::from(empty));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn after_the_deadline_nothing_more_is_started() {
    let room = three();
    let page = room.page(&Selection::All, Duration::ZERO);
    assert_eq!(room.status().collectors_failed, ["good", "bad", "absent"]);
    assert!(!page.contains_key("node_good"));
    let labels = [("collector", "good")];
    expect(&page, "node_scrape_collector_success", &labels, 0.0);
}

#[test]
fn a_page_beyond_all_bounds_loses_the_collector_that_would_write_it() {
    struct Endless;
    impl Collector for Endless {
        fn name(&self) -> &'static str {
            "endless"
        }

        fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
            let mut family = page.family("node_endless", Kind::Gauge, "Too much.");
            let value = "x".repeat(1 << 20);
            for n in 0..2 * (MAX_TEXT >> 20) {
                family.sample(&[("n", &n.to_string()), ("value", &value)], 1u64);
            }
            Ok(())
        }
    }
    let last = Fake("last", || Ok(()));
    let room = Room::new(vec![Box::new(Endless), Box::new(last)]);
    let page = room.page(&Selection::All, LONG);
    assert!(!page.contains_key("node_endless"));
    expect(&page, "node_last", &[], 1.0);
    assert_eq!(room.status().collectors_failed, ["endless"]);
}

#[test]
fn a_series_of_two_collectors_is_on_the_page_once() {
    let twice = || -> Box<dyn Collector> { Box::new(Fake("twin", || Ok(()))) };
    let page = Room::new(vec![twice(), twice()]).page(&Selection::All, LONG);
    expect(&page, "node_twin", &[], 1.0);
    let labels = [("cause", "gathering")];
    let errors = "promhttp_metric_handler_errors_total";
    expect(&page, errors, &labels, 1.0);
}

#[test]
fn patience_with_one_collector_leaves_time_for_the_others() {
    let now = Instant::now();
    let (second, ms) = (Duration::from_secs(1), Duration::from_millis(1));
    // Much time: as long as one collector may take.
    assert_eq!(limit(now, now, now + 10 * second), now + HOLD);
    // Little time: half of it, counted from when the asker or the collector came.
    assert_eq!(limit(now, now, now + second), now + 500 * ms);
    let (asked, deadline) = (now + 200 * ms, now + 800 * ms);
    assert_eq!(limit(now, asked, deadline), now + 500 * ms);
    assert_eq!(limit(asked, now, deadline), now + 500 * ms);
    // None left: still not at once.
    assert_eq!(limit(now, now, now), now + 100 * ms);
}
