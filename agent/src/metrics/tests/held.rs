//! Collectors that the kernel holds: a FIFO that nobody writes stands for a file whose open
//! does not return.

use super::served::{get, serve};
use super::{Room, expect, host, parse_text};
use crate::metrics::collector::{CollectError, Collector, Selection};
use crate::metrics::exposition::{Kind, Page};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What a client says that it waits, and what it waits.
const HEADER: &str = "X-Prometheus-Scrape-Timeout-Seconds: 1\r\n";
const TIMEOUT: Duration = Duration::from_secs(1);
/// Long enough for anything on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);
const SUCCESS: &str = "node_scrape_collector_success";

fn make_fifo(path: &Path) {
    let _ = std::fs::remove_file(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
}

/// Opens of the FIFO return, those to come as well while the file lives.
fn open_fifo(path: &Path) -> rustix::fd::OwnedFd {
    rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).unwrap()
}

#[tokio::test]
async fn files_that_hold_their_readers_cost_their_collectors_only_and_heal() {
    let (dir, roots) = host(&[("proc/sys/fs/file-nr", "1 0 9\n")]);
    let (loadavg, vmstat) = (roots.proc.join("loadavg"), roots.proc.join("vmstat"));
    make_fifo(&loadavg);
    make_fifo(&vmstat);
    let names = ["filefd", "loadavg", "uname", "vmstat"];
    let (metrics, address, _tasks) = serve(roots, &names).await;
    for round in 0..10 {
        let start = Instant::now();
        let answer = get(address, "/metrics", HEADER).await;
        let took = start.elapsed();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(took < TIMEOUT, "round {round} took {took:?}");
        let page = parse_text(answer.text());
        for (name, success) in [
            ("filefd", 1.0),
            ("loadavg", 0.0),
            ("uname", 1.0),
            ("vmstat", 0.0),
        ] {
            expect(&page, SUCCESS, &[("collector", name)], success);
        }
        expect(&page, "node_filefd_allocated", &[], 1.0);
        assert!(page.contains_key("node_uname_info"));
        assert_eq!(metrics.status().collectors_failed, ["loadavg", "vmstat"]);
    }

    let opened = [open_fifo(&loadavg), open_fifo(&vmstat)];
    std::fs::remove_file(&loadavg).unwrap();
    std::fs::remove_file(&vmstat).unwrap();
    std::fs::write(&loadavg, "1 2 3 4/5 6\n").unwrap();
    std::fs::write(&vmstat, "pgpgin 5\n").unwrap();
    drop(opened);
    let give_up = Instant::now() + PATIENCE;
    loop {
        let page = parse_text(get(address, "/metrics", HEADER).await.text());
        if metrics.status().collectors_failed.is_empty() {
            expect(&page, "node_load15", &[], 3.0);
            expect(&page, "node_vmstat_pgpgin", &[], 5.0);
            break;
        }
        assert!(Instant::now() < give_up, "they do not heal");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(dir);
}

#[tokio::test]
async fn a_client_with_little_time_has_its_page_though_one_with_more_came_first() {
    let (dir, roots) = host(&[("proc/sys/fs/file-nr", "1 0 9\n")]);
    let loadavg = roots.proc.join("loadavg");
    make_fifo(&loadavg);
    let (_metrics, address, _tasks) = serve(roots, &["filefd", "loadavg", "uname"]).await;
    let mut patient = JoinSet::new();
    patient.spawn(async move { get(address, "/metrics", "").await });
    let start = Instant::now();
    let answer = get(address, "/metrics", HEADER).await;
    assert!(start.elapsed() < TIMEOUT, "{:?}", start.elapsed());
    for answer in [answer, patient.join_next().await.unwrap().unwrap()] {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = parse_text(answer.text());
        expect(&page, SUCCESS, &[("collector", "loadavg")], 0.0);
        expect(&page, SUCCESS, &[("collector", "uname")], 1.0);
    }
    drop(open_fifo(&loadavg));
    drop(dir);
}

/// While it is shut, those who come wait.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    turned: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        let shut = self.shut.lock().unwrap();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        drop(self.turned.wait_while(shut, |shut| *shut).unwrap());
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn turn(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.turned.notify_all();
    }
}

/// Counts its runs, as others keep what they must remember.
struct Remembers {
    gate: Arc<Gate>,
    runs: u64,
}

impl Collector for Remembers {
    fn name(&self) -> &'static str {
        "remembers"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        self.runs += 1;
        let runs = self.runs;
        let mut family = page.family("node_runs", Kind::Gauge, "Runs.");
        family.sample(&[("at", "begin")], runs);
        self.gate.pass();
        let mut family = page.family("node_runs", Kind::Gauge, "Runs.");
        family.sample(&[("at", "end")], runs);
        Ok(())
    }
}

struct Steady;

impl Collector for Steady {
    fn name(&self) -> &'static str {
        "steady"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        page.family("node_steady", Kind::Gauge, "Always.")
            .bare(1u64);
        Ok(())
    }
}

#[test]
fn a_held_collector_parks_one_thread_and_comes_back_with_what_it_knew() {
    let gate = Arc::new(Gate::default());
    let held = Remembers {
        gate: gate.clone(),
        runs: 0,
    };
    let room = Room::new(vec![Box::new(Steady), Box::new(held), Box::new(Steady)]);
    let page = |room: &Room| room.page(&Selection::All, TIMEOUT / 2);
    let end = [("at", "end")];
    expect(&page(&room), "node_runs", &end, 1.0);

    gate.turn(true);
    for _ in 0..50 {
        let page = page(&room);
        expect(&page, SUCCESS, &[("collector", "remembers")], 0.0);
        expect(&page, "node_steady", &[], 1.0);
        // Nothing of what it wrote before it was held.
        assert!(!page.contains_key("node_runs"));
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 1);
    }

    gate.turn(false);
    let give_up = Instant::now() + PATIENCE;
    loop {
        let page = page(&room);
        if room.status().collectors_failed.is_empty() {
            // Run 2 was held; this is the third.
            expect(&page, "node_runs", &[("at", "begin")], 3.0);
            expect(&page, "node_runs", &end, 3.0);
            break;
        }
        assert!(Instant::now() < give_up, "it does not heal");
    }
    assert_eq!(gate.waiting.load(Ordering::SeqCst), 0);
}
