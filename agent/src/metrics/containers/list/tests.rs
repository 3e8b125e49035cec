//! The lister before a daemon of the test: it answers, errs or is silent.

use super::{List, Lister};
use crate::docker::{self, Docker};
use crate::http::{self, Handler, ReplyFuture, Request};
use crate::listener::Listener;
use crate::pulse::Pulse;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const WELL: u8 = 0;
/// Inspects of the container `bad` fail.
const RUDE: u8 = 1;
const SILENT: u8 = 2;

/// Two containers, `bad` before `web`.
#[derive(Default)]
struct Daemon {
    mood: AtomicU8,
    /// Of web: another one after each restart.
    pid: AtomicU8,
    inspected: Mutex<Vec<String>>,
}

impl Handler for Daemon {
    fn handle(&self, request: Request) -> ReplyFuture {
        let mood = self.mood.load(Ordering::Relaxed);
        let path = request.uri().path();
        let last = |n: usize| path.rsplit('/').nth(n).unwrap_or_default().to_owned();
        let answer = match last(0).as_str() {
            "version" => json!({"ApiVersion": "1.41", "Version": "20.10"}),
            _ if mood == SILENT => return Box::pin(std::future::pending()),
            "events" => return Box::pin(std::future::pending()),
            "json" if last(1) == "containers" => {
                let one = |name: &str| json!({"Id": name, "Names": [format!("/{name}")], "State": "running"});
                json!([one("bad"), one("web")])
            }
            "json" => {
                let name = last(1);
                self.inspected.lock().unwrap().push(name.clone());
                if mood == RUDE && name == "bad" {
                    return Box::pin(std::future::ready(http::text(500, "{\"message\":\"no\"}")));
                }
                let pid = match name.as_str() {
                    "bad" => 5,
                    _ => self.pid.load(Ordering::Relaxed),
                };
                json!({
                    "Id": name, "Name": format!("/{name}"), "RestartCount": 2, "Image": "sha256:0",
                    "Config": {"Image": "app:1", "Labels": {"a": "b"}},
                    "HostConfig": {"NetworkMode": "container:x"},
                    "State": {"Status": "running", "Running": true, "Pid": pid,
                              "StartedAt": "2026-11-21T05:00:00Z"},
                })
            }
            _ => json!({}),
        };
        let reply = http::reply(200, "application/json", answer.to_string());
        Box::pin(std::future::ready(reply))
    }
}

/// The daemon behind a socket, a /proc, and the lister between; ends with the set.
struct Place {
    dir: tempfile::TempDir,
    daemon: Arc<Daemon>,
    list: List,
    lister: Lister,
    _server: JoinSet<()>,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let listener = Listener::Unix(UnixListener::bind(&socket).unwrap());
    let daemon = Arc::new(Daemon::default());
    daemon.pid.store(7, Ordering::Relaxed);
    let beat = Pulse::default().register("daemon", Duration::from_secs(60));
    let mut server = JoinSet::new();
    let stop = CancellationToken::new();
    server.spawn(http::serve(listener, None, daemon.clone(), beat, stop));
    let settings = docker::Settings {
        socket,
        timeout: Duration::from_millis(200),
    };
    let docker = Docker::new(settings, &prometheus::Registry::new());
    let list = List::new();
    let lister = Lister::new(docker, list.clone(), dir.path());
    process(dir.path(), 5, "bad");
    process(dir.path(), 7, "web");
    Place {
        dir,
        daemon,
        list,
        lister,
        _server: server,
    }
}

fn process(proc: &Path, pid: u32, id: &str) {
    let directory = proc.join(pid.to_string());
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("cgroup"), format!("0::/docker/{id}\n")).unwrap();
}

impl Place {
    fn running(&self) -> Vec<(String, i64)> {
        let found = self.list.now().found;
        found.iter().map(|f| (f.name.clone(), f.pid)).collect()
    }

    fn inspected(&self) -> Vec<String> {
        std::mem::take(&mut *self.daemon.inspected.lock().unwrap())
    }
}

#[tokio::test]
async fn each_run_is_inspected_once() {
    let mut place = place();
    place.lister.refresh().await;
    assert_eq!(place.running(), [("bad".into(), 5), ("web".into(), 7)]);
    assert_eq!(place.inspected(), ["bad", "web"]);
    let web = place.list.now().found[1].clone();
    assert_eq!((web.image.as_str(), web.restarts), ("app:1", 2));
    assert!(web.borrows_network && web.started_at.is_some());
    place.lister.refresh().await;
    assert_eq!(place.inspected(), [""; 0]);

    // it was started again; its old pid is another process's
    process(place.dir.path(), 7, "stranger");
    process(place.dir.path(), 8, "web");
    place.daemon.pid.store(8, Ordering::Relaxed);
    assert_eq!(web.ooms.total(Some(1)), 1);
    place.lister.refresh().await;
    assert_eq!(place.inspected(), ["web"]);
    assert_eq!(place.running(), [("bad".into(), 5), ("web".into(), 8)]);
    assert_eq!(place.list.now().found[1].ooms.total(Some(0)), 1);
}

#[tokio::test]
async fn a_container_that_cannot_be_inspected_costs_no_other() {
    let mut place = place();
    place.daemon.mood.store(RUDE, Ordering::Relaxed);
    for _ in 0..2 {
        place.lister.refresh().await;
        assert_eq!(place.running(), [("web".into(), 7)]);
        assert!(!place.list.now().ok);
    }
    place.daemon.mood.store(WELL, Ordering::Relaxed);
    place.lister.refresh().await;
    assert_eq!(place.running().len(), 2);
    assert!(place.list.now().ok);
}

#[tokio::test]
async fn a_silent_docker_leaves_the_last_list_with_its_age() {
    let mut place = place();
    place.lister.refresh().await;
    let before = place.list.now();
    assert!(before.seen <= SystemTime::now());
    place.daemon.mood.store(SILENT, Ordering::Relaxed);
    place.lister.refresh().await;
    let after = place.list.now();
    assert_eq!(after.seen, before.seen);
    assert!(!after.ok);
    assert_eq!(place.running().len(), 2);
}

#[tokio::test]
async fn the_lister_ends_when_told_even_before_a_silent_docker() {
    let place = place();
    place.daemon.mood.store(SILENT, Ordering::Relaxed);
    let stop = CancellationToken::new();
    let beat = Pulse::default().register("list", Duration::from_secs(60));
    let running = Box::pin(place.lister.run(beat, stop.clone()));
    let ending = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
    };
    let both = async { tokio::join!(running, ending) };
    let ended = tokio::time::timeout(Duration::from_secs(5), both).await;
    assert!(ended.is_ok());
}
