//! Probes against apps and daemons that are well, rude, slow or hung.

use super::http::{self, HttpError};
use super::tcp::{self, TcpError};
use super::{Health, Target, Verdict, attend};
use crate::chain::Chain;
use crate::docker::{self, Docker};
use crate::supervise::{Check, Probe, Probes};
use prometheus::{IntCounterVec, Opts};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);

/// Serves each connection with `serve`; the port.
async fn app<F>(tasks: &mut JoinSet<()>, serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        let mut served = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            served.spawn(serve(stream));
        }
    });
    port
}

/// The path of a request, read to the end of its head.
async fn path_of(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        // A probe that only connects leaves without a word.
        let Ok(byte) = stream.read_u8().await else {
            break;
        };
        request.push(byte);
        assert!(request.len() < 4096);
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    text.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Writes this for every request and then stays silent, with the line open.
async fn says(tasks: &mut JoinSet<()>, head: &'static str, more: &'static str, pause: u64) -> u16 {
    app(tasks, move |mut stream| async move {
        path_of(&mut stream).await;
        let mut well = stream.write_all(head.as_bytes()).await;
        while well.is_ok() && !more.is_empty() {
            if pause > 0 {
                sleep(Duration::from_millis(pause)).await;
            }
            well = stream.write_all(more.as_bytes()).await;
        }
        let _ = stream.read_u8().await;
    })
    .await
}

async fn asked(port: u16, limit: u64) -> Result<(), HttpError> {
    http::once("localhost", port, "/x", Duration::from_millis(limit)).await
}

#[tokio::test]
async fn two_and_three_hundreds_are_success_and_the_rest_is_not() {
    let mut tasks = JoinSet::new();
    for (status, expected) in [
        ("200", None),
        ("204", None),
        ("302", None),
        ("399", None),
        ("199", Some("cannot read the answer")),
        ("400", Some("answered 400")),
        ("404", Some("answered 404")),
        ("503", Some("answered 503")),
    ] {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").leak();
        let port = says(&mut tasks, head, "", 0).await;
        let said = asked(port, 5000)
            .await
            .map_err(|error| Chain(&error).to_string());
        match expected {
            None => assert_eq!(said, Ok(()), "{status}"),
            // An interim answer without a final one is no answer.
            Some(_) if status == "199" => assert!(asked(port, 100).await.is_err()),
            Some(text) => assert_eq!(said, Err(text.into()), "{status}"),
        }
    }
}

#[tokio::test]
async fn hostile_answers_cost_bounded_time_and_are_named() {
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    // an endless body that comes fast says what its status says
    let fast = says(
        &mut tasks,
        "HTTP/1.1 200 X\r\n\r\n",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        0,
    );
    let fast = fast.await;
    asked(fast, 10_000).await.unwrap();
    // one that trickles does not end
    let slow = says(&mut tasks, "HTTP/1.1 200 X\r\n\r\n", "x", 20).await;
    let error = asked(slow, 200).await.unwrap_err();
    assert_eq!(
        Chain(&error).to_string(),
        "answered 200, but its body did not end within 200ms"
    );
    // an endless header
    let head = says(&mut tasks, "HTTP/1.1 200 X\r\na: ", "xxxxxxxxxxxxxxxx", 0).await;
    let error = asked(head, 10_000).await.unwrap_err();
    assert!(matches!(error, HttpError::Answer(_)), "{error:?}");
    let many = says(&mut tasks, "HTTP/1.1 200 X\r\n", "a: b\r\n", 0).await;
    assert!(matches!(
        asked(many, 10_000).await,
        Err(HttpError::Answer(_))
    ));
    // a head that trickles, and silence
    let loris = says(&mut tasks, "HTTP/1.1 200 X\r\n", "a: b\r\n", 20).await;
    assert!(matches!(asked(loris, 200).await, Err(HttpError::Late(_))));
    let silent = says(&mut tasks, "", "", 0).await;
    let error = asked(silent, 100).await.unwrap_err();
    assert_eq!(Chain(&error).to_string(), "no answer within 100ms");
    // no HTTP at all, and an end without an answer
    let other = says(&mut tasks, "SSH-2.0-OpenSSH\r\n", "", 0).await;
    assert!(matches!(
        asked(other, 5000).await,
        Err(HttpError::Answer(_))
    ));
    let reset = app(&mut tasks, |stream| async move {
        stream.set_zero_linger().unwrap();
        drop(stream);
    });
    let reset = reset.await;
    assert!(asked(reset, 5000).await.is_err());
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test]
async fn nobody_there_and_a_name_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = asked(port, 1000).await.unwrap_err();
    let text = Chain(&error).to_string();
    assert!(
        text.starts_with("cannot connect: Connection refused"),
        "{text}"
    );
    let named = http::once("app.example", 80, "/", PATIENCE).await;
    assert!(matches!(named, Err(HttpError::Host(_))));
    let named = tcp::once("app.example", 80, PATIENCE).await;
    assert!(matches!(named, Err(TcpError::Host(_))));
}

#[tokio::test]
async fn a_connection_counts_only_when_it_is_kept() {
    let mut tasks = JoinSet::new();
    let once = |port| tcp::once("", port, Duration::from_secs(5));
    let quiet = says(&mut tasks, "", "", 0).await;
    once(quiet).await.unwrap();
    let greets = app(&mut tasks, |mut stream| async move {
        let _ = stream.write_all(b"220 hello\r\n").await;
    });
    once(greets.await).await.unwrap();
    // as Docker's proxy does when nobody listens in the container
    let proxy = app(&mut tasks, |stream| async move { drop(stream) }).await;
    let reset = app(&mut tasks, |stream| async move {
        stream.set_zero_linger().unwrap();
    });
    let reset = reset.await;
    let begun = Instant::now();
    let (mut closed, mut broken) = (false, false);
    // An app that was given no CPU for 100 ms has not closed it yet.
    while !(closed && broken) {
        closed |= matches!(once(proxy).await, Err(TcpError::Closed));
        let answer = once(reset).await;
        broken |= matches!(answer, Err(TcpError::Broken(_) | TcpError::Connect(_)));
        assert!(begun.elapsed() < PATIENCE, "{closed} {broken}");
    }
}

fn http_probe(port: u16, path: &str, period: u64) -> Probe {
    Probe {
        check: Check::Http {
            host: "127.0.0.1".into(),
            port,
            path: path.into(),
        },
        period: Duration::from_millis(period),
        timeout: Duration::from_secs(5),
        failures: 2,
        successes: 1,
    }
}

fn failures() -> IntCounterVec {
    IntCounterVec::new(
        Opts::new("failures", "Bad answers."),
        &["container", "probe"],
    )
    .unwrap()
}

fn target(socket: &Path) -> Target {
    let settings = docker::Settings {
        socket: socket.into(),
        timeout: Duration::from_millis(200),
    };
    Target {
        docker: Docker::new(settings, &prometheus::Registry::new()),
        name: "app".into(),
        id: "f".repeat(64),
        started: None,
        failures: failures(),
    }
}

/// The level, once it is as wanted.
async fn level(health: &mut watch::Receiver<Health>, wanted: impl Fn(&Health) -> bool) -> Health {
    let waited = timeout(PATIENCE, health.wait_for(|health| wanted(health))).await;
    let waited = waited.map(|level| level.unwrap().clone());
    waited.unwrap_or_else(|_| panic!("waited in vain, {:?}", health.borrow()))
}

/// What an app with three pages was asked, and says.
#[derive(Default)]
struct Pages {
    /// Of `/startup`, `/readiness`, `/liveness`; 0: silence.
    status: [AtomicU16; 3],
    n_asked: [AtomicUsize; 3],
    n_open: [AtomicUsize; 3],
    most_open: AtomicUsize,
}

impl Pages {
    fn set(&self, status: [u16; 3]) {
        for (cell, status) in self.status.iter().zip(status) {
            cell.store(status, Ordering::SeqCst);
        }
    }

    fn n_asked(&self) -> [usize; 3] {
        [0, 1, 2].map(|page| self.n_asked[page].load(Ordering::SeqCst))
    }
}

async fn pages(tasks: &mut JoinSet<()>, status: [u16; 3]) -> (Arc<Pages>, Probes) {
    let pages = Arc::new(Pages::default());
    pages.set(status);
    let shown = pages.clone();
    let port = app(tasks, move |mut stream| {
        let pages = shown.clone();
        async move {
            let path = path_of(&mut stream).await;
            let page = ["/startup", "/readiness", "/liveness"];
            let Some(page) = page.iter().position(|page| *page == path) else {
                return;
            };
            pages.n_asked[page].fetch_add(1, Ordering::SeqCst);
            let open = pages.n_open[page].fetch_add(1, Ordering::SeqCst) + 1;
            pages.most_open.fetch_max(open, Ordering::SeqCst);
            match pages.status[page].load(Ordering::SeqCst) {
                0 => drop(stream.read_u8().await),
                status => {
                    sleep(Duration::from_millis(15)).await;
                    let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                    pages.n_open[page].fetch_sub(1, Ordering::SeqCst);
                    let _ = stream.write_all(text.as_bytes()).await;
                    return;
                }
            }
            pages.n_open[page].fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let probes = Probes {
        startup: Some(http_probe(port, "/startup", 10)),
        readiness: Some(http_probe(port, "/readiness", 10)),
        liveness: Some(http_probe(port, "/liveness", 10)),
    };
    (pages, probes)
}

#[tokio::test]
async fn the_other_two_begin_when_startup_has_passed_and_startup_then_ends() {
    let mut tasks = JoinSet::new();
    let (pages, probes) = pages(&mut tasks, [503, 200, 200]).await;
    let (tell, mut health) = watch::channel(Health::default());
    tasks.spawn(attend(
        probes.clone(),
        target(Path::new("/none")),
        false,
        tell,
    ));
    let given_up = level(&mut health, |h| h.startup != Verdict::Unknown).await;
    let Verdict::Bad(text) = &given_up.startup else {
        panic!("{given_up:?}");
    };
    assert!(text.starts_with("startup probe http 127.0.0.1:"), "{text}");
    assert!(text.ends_with("/startup: answered 503"), "{text}");
    assert_eq!(given_up.ready(&probes), &given_up.startup);
    assert_eq!(pages.n_asked()[1..], [0, 0]);
    pages.set([200, 200, 503]);
    let passed = level(&mut health, |h| h.readiness == Verdict::Good).await;
    assert_eq!(passed.startup, Verdict::Good);
    assert_eq!(passed.ready(&probes), &Verdict::Good);
    level(&mut health, |h| matches!(h.liveness, Verdict::Bad(_))).await;
    let n_startup = pages.n_asked()[0];
    let n_readiness = pages.n_asked()[1];
    pages.set([503, 503, 200]);
    level(&mut health, |h| h.liveness == Verdict::Good).await;
    let no = level(&mut health, |h| matches!(h.readiness, Verdict::Bad(_))).await;
    assert_eq!(no.startup, Verdict::Good);
    assert!(matches!(no.ready(&probes), Verdict::Bad(text) if text.contains("readiness")));
    assert!(pages.n_asked()[1] > n_readiness);
    assert_eq!(pages.n_asked()[0], n_startup, "it is over");
}

#[tokio::test]
async fn what_had_passed_under_an_earlier_agent_is_not_asked_again() {
    let mut tasks = JoinSet::new();
    let (pages, probes) = pages(&mut tasks, [503, 200, 200]).await;
    let (tell, mut health) = watch::channel(Health::default());
    tasks.spawn(attend(probes, target(Path::new("/none")), true, tell));
    level(&mut health, |h| {
        h.startup == Verdict::Good && h.readiness == Verdict::Good && h.liveness == Verdict::Good
    })
    .await;
    assert_eq!(pages.n_asked()[0], 0);
}

#[tokio::test]
async fn a_silent_page_holds_up_its_own_probe_alone_and_is_asked_once_at_a_time() {
    let mut tasks = JoinSet::new();
    let (pages, probes) = pages(&mut tasks, [200, 0, 200]).await;
    let (tell, mut health) = watch::channel(Health::default());
    tasks.spawn(attend(probes, target(Path::new("/none")), false, tell));
    level(&mut health, |h| h.liveness == Verdict::Good).await;
    pages.set([200, 0, 503]);
    let dead = level(&mut health, |h| matches!(h.liveness, Verdict::Bad(_))).await;
    assert_eq!(dead.readiness, Verdict::Unknown, "not even late yet");
    assert_eq!(pages.n_asked()[1], 1);
    assert!(pages.n_asked()[2] >= 3, "{:?}", pages.n_asked());
    assert_eq!(pages.most_open.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn liveness_leaves_a_fresh_run_one_period() {
    let mut tasks = JoinSet::new();
    let (pages, mut probes) = pages(&mut tasks, [200, 200, 200]).await;
    probes.startup = None;
    probes.liveness.as_mut().unwrap().period = Duration::from_secs(3600);
    let (tell, mut health) = watch::channel(Health::default());
    let mut target = target(Path::new("/none"));
    target.started = Some(tokio::time::Instant::now());
    tasks.spawn(attend(probes, target, false, tell));
    level(&mut health, |h| h.readiness == Verdict::Good).await;
    assert_eq!(pages.n_asked()[2], 0);
    assert_eq!(health.borrow().liveness, Verdict::Unknown);
}

fn asks_docker(check: Check) -> Probes {
    Probes {
        liveness: Some(Probe {
            check,
            period: Duration::from_millis(20),
            timeout: Duration::from_millis(100),
            failures: 1,
            successes: 1,
        }),
        ..Probes::default()
    }
}

#[tokio::test]
async fn a_docker_that_hangs_or_is_away_is_no_failure_of_the_container() {
    let directory = tempfile::tempdir().unwrap();
    let hung = directory.path().join("hung.sock");
    let _listener = UnixListener::bind(&hung).unwrap();
    let away = directory.path().join("away.sock");
    let exec = Check::Exec {
        command: vec!["/check".into(), "--password=geheim".into()],
    };
    for (socket, text) in [(&hung, "no answer from docker"), (&away, "not reachable")] {
        for check in [exec.clone(), Check::Docker] {
            let mut tasks = JoinSet::new();
            let (tell, mut health) = watch::channel(Health::default());
            tasks.spawn(attend(asks_docker(check), target(socket), false, tell));
            let level = level(&mut health, |h| h.doubt().is_some()).await;
            let doubt = level.doubt().unwrap();
            assert!(doubt.contains(text), "{doubt}");
            assert!(!doubt.contains("geheim"), "{doubt}");
            assert_eq!(level.liveness, Verdict::Unknown);
        }
    }
}
