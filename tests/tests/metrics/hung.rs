//! What the kernel does not give back: mounts whose daemon is gone, files that hold their readers.

use std::fs;
use std::time::{Duration, Instant};
use tests::agent::{Agent, Place};
use tests::http::Reply;
use tests::namespace::{HungMount, in_own_namespaces};
use tests::program::{command, stdout};
use tests::{http, wait};

/// A page that waits for nobody in vain. The machine may be loaded: the best of a few counts.
const SOON: Duration = Duration::from_millis(300);
const TRIES: usize = 5;
/// What Prometheus would give it, and says so.
const TIMEOUT: Duration = Duration::from_secs(2);

fn scrape(place: &Place) -> (Reply, Duration) {
    let header = format!("X-Prometheus-Scrape-Timeout-Seconds: {}", TIMEOUT.as_secs());
    let start = Instant::now();
    let reply = http::get(place.metrics, "/metrics", &[&header]).unwrap();
    let took = start.elapsed();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(took < TIMEOUT, "{took:?}");
    (reply, took)
}

/// Threads of the agent by name, and in what call of the kernel they are.
fn threads(agent: &Agent<'_>, name: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.trim() == name).count()
}

fn line<'a>(page: &'a str, family: &str, label: &str) -> &'a str {
    let mut lines = page.lines();
    let found = lines.find(|line| line.starts_with(&format!("{family}{{")) && line.contains(label));
    found.unwrap_or_else(|| panic!("no {family} with {label} in\n{page}"))
}

#[test]
fn hung_mounts_have_an_error_and_a_thread_each_and_cost_the_page_no_time() {
    if !in_own_namespaces(
        "hung::hung_mounts_have_an_error_and_a_thread_each_and_cost_the_page_no_time",
    ) {
        return;
    }
    let place = Place::new();
    let paths = ["first", "second"].map(|name| place.path(name));
    let mut mounts = paths.each_ref().map(|path| HungMount::new(path));
    let agent = place.start("");
    let errors = |page: &str, error: &str| {
        for path in &paths {
            let label = format!("mountpoint=\"{}\"", path.display());
            let line = line(page, "node_filesystem_device_error", &label);
            assert!(line.contains(error) && line.ends_with(" 1"), "{line}");
        }
    };
    let mut times = Vec::new();
    for _ in 0..20 {
        let (reply, took) = scrape(&place);
        let page = reply.text();
        errors(&page, "device_error=\"mountpoint timeout\"");
        assert!(line(&page, "node_scrape_collector_success", "\"filesystem\"").ends_with(" 1"));
        let root = line(&page, "node_filesystem_device_error", "mountpoint=\"/\"");
        assert!(root.ends_with(" 0"), "{root}");
        assert!(threads(&agent, "statfs") <= paths.len() + 1);
        assert_eq!(threads(&agent, "metrics"), 1);
        times.push(took);
    }
    // Two that hang at once are met with twice the patience; after that nobody waits for them.
    assert!(times[1..].iter().min().unwrap() < &SOON, "{times:?}");

    for mount in &mut mounts {
        mount.end_daemon();
    }
    wait::until(
        "the threads are back and the kernel's error is shown",
        || {
            let page = scrape(&place).0.text();
            let errors = page.contains("device_error=\"transport endpoint is not connected\"");
            (errors && !page.contains("mountpoint timeout")).then_some(())
        },
    );
    let page = scrape(&place).0.text();
    errors(&page, "transport endpoint is not connected");
}

#[test]
fn the_first_page_that_meets_a_hung_mount_is_soon_there() {
    if !in_own_namespaces("hung::the_first_page_that_meets_a_hung_mount_is_soon_there") {
        return;
    }
    let mut times = Vec::new();
    for _ in 0..TRIES {
        let place = Place::new();
        let _mount = HungMount::new(&place.path("hung"));
        let _agent = place.start("");
        let (reply, took) = scrape(&place);
        assert!(reply.text().contains("device_error=\"mountpoint timeout\""));
        times.push(took);
        if took < SOON {
            return;
        }
    }
    panic!("{times:?}");
}

#[test]
fn a_file_that_holds_its_reader_costs_its_collector_and_one_thread() {
    let place = Place::new();
    let proc = place.path("proc");
    fs::create_dir_all(proc.join("sys/fs")).unwrap();
    fs::write(proc.join("sys/fs/file-nr"), "1 0 9\n").unwrap();
    let fifo = proc.join("loadavg");
    stdout(command("mkfifo").arg(&fifo), "mkfifo").unwrap();
    place.write("");
    let config = fs::read_to_string(place.config()).unwrap();
    let metrics = format!(
        "[metrics]\ncollectors.include = [\"filefd\", \"loadavg\", \"uname\"]\n\
         paths.procfs = {proc:?}\n"
    );
    fs::write(place.config(), config.replace("[metrics]\n", &metrics)).unwrap();
    let mut agent = place.spawn();
    agent.wait_ready();
    for _ in 0..20 {
        let page = scrape(&place).0.text();
        for (name, success) in [("filefd", 1), ("loadavg", 0), ("uname", 1)] {
            let label = format!("\"{name}\"");
            let line = line(&page, "node_scrape_collector_success", &label);
            assert!(line.ends_with(&format!(" {success}")), "{line}");
        }
        assert!(threads(&agent, "metrics") <= 2);
        let start = Instant::now();
        let alive = http::get(place.heartbeat, "/livez", &[]).unwrap();
        assert_eq!(alive.status, 200);
        assert!(start.elapsed() < TIMEOUT);
    }
    let said = agent.stderr();
    let held = said
        .lines()
        .filter(|line| line.contains("the kernel holds it"));
    assert_eq!(held.count(), 1, "said once, not per scrape:\n{said}");

    // It opens now, and the next open finds a file that can be read.
    let mut both = fs::OpenOptions::new();
    let opened = both.read(true).write(true).open(&fifo).unwrap();
    fs::remove_file(&fifo).unwrap();
    fs::write(&fifo, "1 2 3 4/5 6\n").unwrap();
    drop(opened);
    wait::until("the collector is back", || {
        let page = scrape(&place).0.text();
        page.contains("\nnode_load15 3\n").then_some(())
    });
    wait::until("its thread has ended", || {
        (threads(&agent, "metrics") == 1).then_some(())
    });
}
