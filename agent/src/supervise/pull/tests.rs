//! The puller with a Docker that says what a test wants said.

use super::{Credentials, Kind, Priority, Progress, PullError, Puller, Settings};
use crate::docker::{self, Docker};
use crate::supervise::PullPolicy::{self, Always, Missing, Never};
use crate::supervise::pull::ladder::Gate;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What Docker answers to a pull.
#[derive(Clone, Copy)]
enum Reply {
    /// The image is here now.
    Done,
    /// Says so, and it is not.
    Lies,
    Refused(u16, &'static str),
    /// In the middle of the stream.
    Breaks(&'static str),
    /// A first layer begins, then nothing.
    Hangs,
}

#[derive(Default)]
struct Seen {
    here: BTreeSet<String>,
    /// Heads of the requests to pull.
    asked: Vec<String>,
    /// Connections of pulls that the client closed before their end.
    n_dropped: usize,
}

struct Fake {
    seen: Arc<Mutex<Seen>>,
    puller: Puller,
    registry: prometheus::Registry,
    _dir: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Fake {
    /// The n-th pull is answered with the n-th reply, the last one for ever.
    fn new(replies: &'static [Reply]) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let mut tasks = JoinSet::new();
        let shared = seen.clone();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                serving.spawn(serve(stream, shared.clone(), replies));
            }
        });
        let registry = prometheus::Registry::new();
        let docker = docker::Settings {
            socket,
            timeout: Duration::from_secs(5),
        };
        let settings = Settings {
            stall_timeout: Duration::from_millis(300),
            docker_config: dir.path().join("config.json"),
            ..Settings::default()
        };
        let docker = Docker::new(docker, &prometheus::Registry::new());
        Fake {
            puller: Puller::new(docker, settings, Credentials::default(), &registry),
            seen,
            registry,
            _dir: dir,
            _tasks: tasks,
        }
    }

    fn asked(&self) -> usize {
        self.seen.lock().unwrap().asked.len()
    }

    fn has(&self, image: &str) {
        self.seen.lock().unwrap().here.insert(image.into());
    }

    async fn fetch(&self, image: &str, policy: PullPolicy) -> Result<super::Fetched, PullError> {
        let progress = watch::channel(Progress::default()).0;
        self.puller
            .fetch(image, policy, Priority::Other, &progress)
            .await
    }

    async fn fails(&self, image: &str) -> PullError {
        self.fetch(image, Missing).await.unwrap_err()
    }

    async fn until(&self, level: impl Fn(&Seen) -> bool) {
        let waits = async {
            while !level(&self.seen.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waits)
            .await
            .unwrap();
    }

    fn count(&self, result: &str) -> f64 {
        let families = self.registry.gather();
        let pulls = families
            .iter()
            .find(|f| f.name() == "agent_image_pulls_total")
            .unwrap();
        let of = |m: &&prometheus::proto::Metric| m.get_label()[0].value() == result;
        pulls
            .get_metric()
            .iter()
            .find(of)
            .unwrap()
            .get_counter()
            .get_value()
    }
}

async fn serve(mut stream: UnixStream, seen: Arc<Mutex<Seen>>, replies: &[Reply]) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let answer = |status: u16, body: &str| {
        format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let refuse = |status, text: &str| answer(status, &format!("{{\"message\":{text:?}}}"));
    let reply = if path.ends_with("/version") {
        answer(200, r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#)
    } else if let Some((_, query)) = path.split_once("/images/create?fromImage=") {
        let (name, tag) = query.split_once("&tag=").unwrap();
        let n = {
            let mut seen = seen.lock().unwrap();
            seen.asked.push(head.clone());
            seen.asked.len() - 1
        };
        let layer = "{\"status\":\"Downloading\",\"id\":\"a\",\"progressDetail\":{\"current\":5,\"total\":10}}\r\n";
        match replies[n.min(replies.len() - 1)] {
            Reply::Done => {
                let mark = if tag.contains(':') { '@' } else { ':' };
                seen.lock()
                    .unwrap()
                    .here
                    .insert(format!("{name}{mark}{tag}"));
                answer(200, layer)
            }
            Reply::Lies => answer(200, layer),
            Reply::Refused(status, text) => refuse(status, text),
            Reply::Breaks(text) => answer(
                200,
                &format!(
                    "{layer}{{\"errorDetail\":{{\"message\":{text:?}}},\"error\":{text:?}}}\r\n"
                ),
            ),
            Reply::Hangs => {
                let part = format!("HTTP/1.1 200 x\r\ncontent-length: 9999\r\n\r\n{layer}");
                stream.write_all(part.as_bytes()).await.unwrap();
                // Until the client goes.
                while stream.read_u8().await.is_ok() {}
                seen.lock().unwrap().n_dropped += 1;
                return;
            }
        }
    } else {
        let (_, rest) = path.split_once("/images/").unwrap();
        let image = rest.strip_suffix("/json").unwrap();
        let known = seen.lock().unwrap().here.contains(image);
        match known {
            true => answer(
                200,
                &format!(
                    "{{\"Id\":\"sha256:1\",\"RepoDigests\":[\"r.example/app@sha256:{}\"]}}",
                    "d".repeat(64)
                ),
            ),
            false => refuse(404, "No such image"),
        }
    };
    let _ = stream.write_all(reply.as_bytes()).await;
}

const APP: &str = "r.example/app:1";

#[tokio::test]
async fn an_image_that_is_here_is_not_asked_for_unless_always() {
    let fake = Fake::new(&[Reply::Done]);
    fake.has(APP);
    let here = fake.fetch(APP, Missing).await.unwrap();
    assert_eq!(here.image_id, "sha256:1");
    assert_eq!(here.digest, Some(format!("sha256:{}", "d".repeat(64))));
    fake.fetch(APP, Never).await.unwrap();
    assert_eq!(fake.asked(), 0);
    let never = fake.fetch("r.example/b:1", Never).await.unwrap_err();
    assert_eq!((never.kind, fake.asked()), (Kind::Never, 0));
    fake.fetch(APP, Always).await.unwrap();
    assert_eq!((fake.asked(), fake.count("ok")), (1, 1.0));
}

#[tokio::test]
async fn always_with_the_registry_away_uses_what_is_here_and_says_so() {
    let fake = Fake::new(&[Reply::Refused(500, "connection refused")]);
    fake.has(APP);
    let stale = fake.fetch(APP, Always).await.unwrap().stale.unwrap();
    assert!(stale.contains("connection refused"), "{stale}");
    fake.fetch("r.example/b:1", Always).await.unwrap_err();
}

#[tokio::test]
async fn all_who_wait_for_an_image_share_one_pull_and_the_last_to_go_ends_it() {
    let fake = Fake::new(&[Reply::Hangs]);
    let (first, second) = (fake.fetch(APP, Missing), fake.fetch(APP, Missing));
    {
        tokio::pin!(second);
        {
            tokio::pin!(first);
            tokio::select! {
                _ = &mut first => unreachable!(),
                _ = &mut second => unreachable!(),
                () = fake.until(|seen| seen.asked.len() == 1) => {}
            }
        }
        // One has gone, the other still waits: so does the pull.
        tokio::select! {
            _ = &mut second => unreachable!(),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        assert_eq!(fake.seen.lock().unwrap().n_dropped, 0);
    }
    fake.until(|seen| seen.n_dropped == 1).await;
    assert_eq!((fake.asked(), fake.count("cancelled")), (1, 1.0));
}

#[tokio::test]
async fn a_registry_that_asks_for_patience_is_left_alone_by_all_pulls() {
    let fake = Fake::new(&[
        Reply::Breaks("toomanyrequests: retry-after: 40s, allowed: 1/minute"),
        Reply::Done,
    ]);
    let limited = fake.fails(APP).await;
    assert_eq!(limited.kind, Kind::Limited);
    let patience = Duration::from_secs(39)..Duration::from_secs(45);
    assert!(patience.contains(&limited.again_in), "{limited:?}");
    let other = fake.fails("r.example/other:1").await;
    assert!(patience.contains(&other.again_in), "{other:?}");
    assert!(
        other.text.contains("r.example asked for patience"),
        "{other}"
    );
    // An operator's impatience is not the registry's.
    fake.puller.forgive(APP);
    fake.fails(APP).await;
    assert_eq!(fake.asked(), 1);
    fake.fetch("s.example/app:1", Missing).await.unwrap();
    assert_eq!(fake.asked(), 2);
}

#[tokio::test]
async fn what_failed_is_not_asked_for_before_its_time_unless_someone_wants_it_now() {
    let fake = Fake::new(&[Reply::Refused(
        404,
        "manifest for x not found: manifest unknown",
    )]);
    let first = fake.fails(APP).await;
    assert_eq!(first.kind, Kind::NotFound);
    assert!(first.again_in >= Duration::from_secs(45), "{first:?}");
    let second = fake.fails(APP).await;
    assert_eq!((second.text, fake.asked()), (first.text, 1));
    assert!(second.again_in <= first.again_in);
    fake.puller.forgive(APP);
    fake.fails(APP).await;
    assert_eq!(fake.asked(), 2);
    // New settings may be what it needs.
    fake.puller.configure(Settings::default());
    fake.fails(APP).await;
    assert_eq!(fake.asked(), 3);
}

#[tokio::test]
async fn a_refused_login_is_read_anew_once_and_never_told() {
    let fake = Fake::new(&[
        Reply::Refused(500, "unauthorized: bad word s3cr3t"),
        Reply::Done,
    ]);
    let config = fake._dir.path().join("config.json");
    // "me:s3cr3t"
    let auths = r#"{"auths":{"r.example":{"auth":"bWU6czNjcjN0"}}}"#;
    std::fs::write(&config, auths).unwrap();
    fake.fetch(APP, Missing).await.unwrap();
    assert_eq!(fake.asked(), 2);
    assert!(
        fake.seen.lock().unwrap().asked[0]
            .to_lowercase()
            .contains("x-registry-auth: ")
    );

    let fake = Fake::new(&[Reply::Refused(500, "unauthorized: bad word s3cr3t")]);
    let config = fake._dir.path().join("config.json");
    std::fs::write(&config, auths).unwrap();
    let denied = fake.fails(APP).await;
    assert_eq!((denied.kind, fake.asked()), (Kind::Denied, 2));
    assert!(
        denied
            .text
            .ends_with(&format!("bad word *** (credentials: {})", config.display()))
    );
    assert!(!format!("{denied:?}").contains("s3cr3t"));
}

#[tokio::test]
async fn a_pull_that_gets_no_byte_is_ended() {
    let fake = Fake::new(&[Reply::Hangs]);
    let stalled = fake.fails(APP).await;
    assert_eq!(stalled.kind, Kind::Stalled);
    assert_eq!(
        stalled.text,
        "cannot pull image r.example/app:1: no byte from the registry within 300ms"
    );
    fake.until(|seen| seen.n_dropped == 1).await;
    assert_eq!(fake.count("stalled"), 1.0);
}

#[tokio::test]
async fn what_is_here_after_a_pull_has_to_be_what_was_asked_for() {
    let fake = Fake::new(&[Reply::Lies]);
    assert_eq!(fake.fails(APP).await.kind, Kind::Corrupt);
    let fake = Fake::new(&[Reply::Done]);
    let right = format!("r.example/app@sha256:{}", "d".repeat(64));
    fake.fetch(&right, Missing).await.unwrap();
    let wrong = format!("r.example/app@sha256:{}", "e".repeat(64));
    let corrupt = fake.fails(&wrong).await;
    assert_eq!(corrupt.kind, Kind::Corrupt);
    assert!(
        corrupt.text.contains("does not have the digest"),
        "{corrupt}"
    );
}

#[tokio::test]
async fn progress_is_told_in_percent() {
    let fake = Fake::new(&[Reply::Hangs]);
    let (tell, mut told) = watch::channel(Progress::default());
    let fetch = fake.puller.fetch(APP, Missing, Priority::Essential, &tell);
    tokio::pin!(fetch);
    let text = async {
        let percent = told.wait_for(|now| now.text().is_some_and(|text| text.contains('%')));
        percent.await.unwrap().text().unwrap()
    };
    let text = tokio::select! {
        _ = &mut fetch => unreachable!(),
        text = text => text,
    };
    assert_eq!(text, "image pulled to 50 % (0 of 1 MiB)");
}

#[tokio::test(start_paused = true)]
async fn a_gate_opens_by_the_clock() {
    let fake = Fake::new(&[Reply::Done]);
    let gate = Gate::closed(None, Some(Duration::from_secs(30)), Instant::now(), 0.0);
    fake.puller.lock().gates.insert("r.example".into(), gate);
    let not_yet = || fake.puller.lock().not_yet(APP, Instant::now());
    assert_eq!(not_yet().unwrap_err().again_in, Duration::from_secs(30));
    tokio::time::advance(Duration::from_secs(29)).await;
    assert_eq!(not_yet().unwrap_err().again_in, Duration::from_secs(1));
    tokio::time::advance(Duration::from_secs(1)).await;
    not_yet().unwrap();
}
