//! The readiness probe: an HTTP GET from the agent, over and over.
//!
//! The verdict is a level in a `watch`: [`Verdict::Unknown`] until enough
//! answers in a row agree, then ready or not. A slot that the agent itself
//! missed (starved, suspended) counts for nothing and flips nothing.

use super::{Check, Probe, Probes};
use crate::chain::Chain;
use crate::docker::Docker;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Until the first success a container is asked at least this often.
const STARTUP_PERIOD: Duration = Duration::from_secs(1);
/// Most that is read of an answer's body. Unit: bytes.
const BODY_LIMIT: usize = 64 << 10;
/// An answer this much later than its own deadline was missed by us, not by it.
const STALL: Duration = Duration::from_secs(1);

/// What the probes of one run of a container say; a level.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    pub startup: Verdict,
    pub readiness: Verdict,
    pub liveness: Verdict,
}

/// The run that is probed.
#[derive(Clone)]
pub struct Target {
    pub docker: Docker,
    pub id: String,
}

/// Probes one run until dropped.
pub async fn attend(probes: Probes, _target: Target, _passed: bool, tell: watch::Sender<Health>) {
    let Some(readiness) = probes.readiness else {
        return std::future::pending().await;
    };
    let (said, mut heard) = watch::channel(Verdict::Unknown);
    let relay = async {
        while heard.changed().await.is_ok() {
            let readiness = heard.borrow_and_update().clone();
            tell.send_replace(Health {
                readiness,
                startup: Verdict::Good,
                ..Health::default()
            });
        }
    };
    tokio::join!(run(readiness, said), relay);
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Verdict {
    #[default]
    Unknown,
    Good,
    /// With the last answer's fault.
    Bad(String),
}

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("probe host {0:?} is neither an IP address nor localhost")]
    Host(String),
    #[error("this kind of probe cannot ask")]
    Kind,
    #[error("probe path {0:?} is not a path")]
    Path(String),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("cannot connect to {0}")]
    Connect(String, #[source] std::io::Error),
    #[error("cannot read the answer of {0}")]
    Answer(String, #[source] hyper::Error),
    #[error("answered {0}")]
    Status(StatusCode),
}

/// Probes for ever, telling each change of mind.
pub async fn run(probe: Probe, verdict: watch::Sender<Verdict>) {
    let mut tally = Tally::default();
    let mut slots = interval(
        probe
            .period
            .min(STARTUP_PERIOD)
            .max(Duration::from_millis(10)),
    );
    slots.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_ready = false;
    loop {
        slots.tick().await;
        let begun = Instant::now();
        let answer = once(&probe).await;
        if begun.elapsed() > probe.timeout + STALL {
            continue;
        }
        let told = match tally.count(answer.is_ok(), &probe) {
            None => continue,
            Some(true) => Verdict::Good,
            Some(false) => match answer {
                Ok(()) => continue,
                Err(error) => Verdict::Bad(format!("readiness probe: {}", Chain(&error))),
            },
        };
        if told == Verdict::Good && !was_ready {
            was_ready = true;
            slots = interval(probe.period.max(Duration::from_millis(10)));
            slots.set_missed_tick_behavior(MissedTickBehavior::Delay);
            slots.reset();
        }
        verdict.send_if_modified(|now| {
            let changed = *now != told;
            *now = told;
            changed
        });
    }
}

/// Answers in a row.
#[derive(Default)]
struct Tally {
    good: u32,
    bad: u32,
}

impl Tally {
    /// Some(ready) once enough answers in a row say so.
    fn count(&mut self, is_good: bool, probe: &Probe) -> Option<bool> {
        if is_good {
            self.good = self.good.saturating_add(1);
            self.bad = 0;
            (self.good >= probe.successes.max(1)).then_some(true)
        } else {
            self.bad = self.bad.saturating_add(1);
            self.good = 0;
            (self.bad >= probe.failures.max(1)).then_some(false)
        }
    }
}

/// One GET; 200..=399 is success. The whole of it within the probe's timeout.
pub async fn once(probe: &Probe) -> Result<(), ProbeError> {
    match timeout(probe.timeout, get(probe)).await {
        Ok(answer) => answer,
        Err(_) => Err(ProbeError::Late(probe.timeout)),
    }
}

async fn get(probe: &Probe) -> Result<(), ProbeError> {
    let Check::Http { host, port, path } = &probe.check else {
        return Err(ProbeError::Kind);
    };
    let address = (address(host)?, *port);
    let place = format!("{}:{}", address.0, address.1);
    let uri: Uri = path.parse().map_err(|_| ProbeError::Path(path.clone()))?;
    let request = Request::get(uri)
        .header(header::HOST, &place)
        .header(
            header::USER_AGENT,
            concat!("agent/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| ProbeError::Path(path.clone()))?;
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| ProbeError::Connect(place.clone(), source))?;
    let failed = |source| ProbeError::Answer(place.clone(), source);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        // Read to the end, so that the container does not see a reset; a body
        // beyond the limit does not change what the status said.
        let _ = Limited::new(answer.into_body(), BODY_LIMIT).collect().await;
        Ok(status)
    };
    tokio::pin!(connection, exchange);
    let status = tokio::select! {
        status = &mut exchange => status,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(failed(error)),
        },
    }?;
    if (200..400).contains(&status.as_u16()) {
        return Ok(());
    }
    Err(ProbeError::Status(status))
}

/// Never asks a resolver: a probe is of this host.
fn address(host: &str) -> Result<IpAddr, ProbeError> {
    if host.is_empty() || host == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    host.trim_matches(['[', ']'])
        .parse()
        .map_err(|_| ProbeError::Host(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{ProbeError, Tally, Verdict, once, run};
    use crate::chain::Chain;
    use crate::supervise::{Check, Probe};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio::task::JoinSet;

    fn probe(port: u16) -> Probe {
        Probe {
            check: Check::Http {
                host: "localhost".into(),
                port,
                path: "/heartbeat".into(),
            },
            period: Duration::from_millis(20),
            timeout: Duration::from_secs(5),
            failures: 2,
            successes: 1,
        }
    }

    /// Answers with the status in the cell; 0 is silence.
    async fn app(status: Arc<AtomicU16>, tasks: &mut JoinSet<()>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tasks.spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 512];
                let n = stream.read(&mut request).await.unwrap_or(0);
                assert!(request[..n].starts_with(b"GET /heartbeat HTTP/1.1\r\n"));
                match status.load(Ordering::Relaxed) {
                    0 => silent.push(stream),
                    status => {
                        let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
                        let _ = stream.write_all(text.as_bytes()).await;
                    }
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn two_and_three_hundreds_are_success_and_the_rest_is_not() {
        let mut tasks = JoinSet::new();
        let status = Arc::new(AtomicU16::new(200));
        let probe = probe(app(status.clone(), &mut tasks).await);
        for (answer, good) in [(200, true), (302, true), (404, false), (503, false)] {
            status.store(answer, Ordering::Relaxed);
            assert_eq!(once(&probe).await.is_ok(), good, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_silent_app_costs_the_timeout_and_not_more() {
        let mut tasks = JoinSet::new();
        let mut probe = probe(app(Arc::new(AtomicU16::new(0)), &mut tasks).await);
        probe.timeout = Duration::from_millis(100);
        let error = once(&probe).await.unwrap_err();
        assert_eq!(Chain(&error).to_string(), "no answer within 100ms");
    }

    #[tokio::test]
    async fn a_name_is_refused_instead_of_resolved() {
        let mut named = probe(1);
        named.check = Check::Http {
            host: "app.example".into(),
            port: 1,
            path: "/".into(),
        };
        assert!(matches!(once(&named).await, Err(ProbeError::Host(_))));
    }

    #[test]
    fn one_failure_between_successes_flips_nothing() {
        let probe = probe(1);
        let mut tally = Tally::default();
        let said: Vec<_> = [true, false, true, false, false, true]
            .into_iter()
            .map(|good| tally.count(good, &probe))
            .collect();
        let expected = [Some(true), None, Some(true), None, Some(false), Some(true)];
        assert_eq!(said, expected);
    }

    #[tokio::test]
    async fn the_verdict_follows_the_app() {
        let mut tasks = JoinSet::new();
        let status = Arc::new(AtomicU16::new(503));
        let probe = probe(app(status.clone(), &mut tasks).await);
        let (tell, mut verdict) = watch::channel(Verdict::Unknown);
        tasks.spawn(run(probe, tell));
        let not_ready = |v: &Verdict| matches!(v, Verdict::Bad(text) if text.contains("503"));
        verdict.wait_for(not_ready).await.unwrap();
        status.store(200, Ordering::Relaxed);
        verdict.wait_for(|v| *v == Verdict::Good).await.unwrap();
        status.store(503, Ordering::Relaxed);
        verdict.wait_for(not_ready).await.unwrap();
    }
}
