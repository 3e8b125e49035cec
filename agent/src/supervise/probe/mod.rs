//! The probes of one run of a container.
//!
//! [`attend`] asks, over and over, and tells a level in a `watch`. The three
//! probes run side by side and never wait for each other; of each at most one
//! question is on its way. A slot that the agent or Docker missed counts for
//! nothing ([`tally`]).
//!
//! What it does not know: what follows from a verdict.

pub mod exec;
pub mod http;
pub mod leftovers;
pub mod native;
pub mod tally;
pub mod tcp;
pub mod text;

pub use tally::Verdict;

use super::{Check, Probe, Probes};
use crate::chain::Chain;
use crate::docker::Docker;
use exec::Exec;
use futures_util::future::join;
use native::Native;
use prometheus::{IntCounter, IntCounterVec};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tally::{Answer, Slot, Tally};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Until its first success a container is asked at least this often whether it
/// is ready, where asking is cheap.
const EAGER_PERIOD: Duration = Duration::from_secs(1);
const LEAST_PERIOD: Duration = Duration::from_millis(10);

/// What the probes of one run of a container say; a level.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Health {
    pub startup: Verdict,
    pub readiness: Verdict,
    pub liveness: Verdict,
    /// Of startup, readiness, liveness: why the last slot counted for nothing.
    doubts: [Option<String>; 3],
}

impl Health {
    /// Whether it takes work: by its readiness probe, and until its startup
    /// probe has passed by that.
    pub fn ready(&self, probes: &Probes) -> &Verdict {
        if probes.readiness.is_none() || (probes.startup.is_some() && self.startup != Verdict::Good)
        {
            return &self.startup;
        }
        &self.readiness
    }

    /// Why a probe cannot tell at present, if one cannot.
    pub fn doubt(&self) -> Option<&str> {
        self.doubts.iter().flatten().map(String::as_str).next()
    }

    fn verdict(&mut self, kind: Kind) -> &mut Verdict {
        match kind {
            Kind::Startup => &mut self.startup,
            Kind::Readiness => &mut self.readiness,
            Kind::Liveness => &mut self.liveness,
        }
    }
}

/// The very run that is probed.
#[derive(Clone)]
pub struct Target {
    pub docker: Docker,
    /// The container's name, for logs.
    pub name: String,
    /// Docker's id in full, 64 digits.
    pub id: String,
    /// When the run began; None: long ago. A liveness probe leaves it one
    /// period from then.
    pub started: Option<Instant>,
    /// Bad answers, by container and probe.
    pub failures: IntCounterVec,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Startup => "startup",
            Kind::Readiness => "readiness",
            Kind::Liveness => "liveness",
        }
    }
}

/// Probes one run until dropped. Startup first; the other two begin when it
/// has passed once: at once where there is none, or when `passed` says that it
/// had passed before (under an earlier agent).
pub async fn attend(probes: Probes, target: Target, passed: bool, tell: watch::Sender<Health>) {
    if let Some(startup) = &probes.startup {
        let mut asked = Asked::new(Kind::Startup, startup, &target, &tell);
        if passed {
            asked.tell(Verdict::Good);
        } else {
            asked.until_good().await;
        }
    }
    let readiness = keep_asking(Kind::Readiness, probes.readiness.as_ref(), &target, &tell);
    let liveness = keep_asking(Kind::Liveness, probes.liveness.as_ref(), &target, &tell);
    // Boxed: they are long-lived and large, and whoever spawns this copies it.
    join(Box::pin(readiness), Box::pin(liveness)).await;
}

async fn keep_asking(
    kind: Kind,
    probe: Option<&Probe>,
    target: &Target,
    tell: &watch::Sender<Health>,
) {
    let Some(probe) = probe else { return };
    let mut asked = Asked::new(kind, probe, target, tell);
    asked.until_good().await;
    loop {
        asked.once().await;
    }
}

/// One probe of one run.
struct Asked<'a> {
    kind: Kind,
    probe: &'a Probe,
    /// The container's name.
    name: &'a str,
    failures: IntCounter,
    tell: &'a watch::Sender<Health>,
    asker: Asker,
    tally: Tally,
    due: Instant,
    was_good: bool,
}

enum Asker {
    Http,
    Tcp,
    Exec(Exec),
    Native(Native),
}

impl<'a> Asked<'a> {
    fn new(
        kind: Kind,
        probe: &'a Probe,
        target: &'a Target,
        tell: &'a watch::Sender<Health>,
    ) -> Asked<'a> {
        let (docker, id) = (target.docker.clone(), target.id.clone());
        let now = Instant::now();
        let due = match (kind, target.started) {
            (Kind::Liveness, Some(started)) => now.max(started + probe.period),
            _ => now,
        };
        Asked {
            kind,
            probe,
            name: &target.name,
            failures: (target.failures).with_label_values(&[&*target.name, kind.word()]),
            tell,
            asker: match &probe.check {
                Check::Http { .. } => Asker::Http,
                Check::Tcp { .. } => Asker::Tcp,
                Check::Exec { .. } => Asker::Exec(Exec::new(docker, id, kind.word())),
                Check::Docker => Asker::Native(Native::new(docker, id)),
            },
            tally: Tally::default(),
            due,
            was_good: false,
        }
    }

    async fn until_good(&mut self) {
        while !self.was_good {
            self.once().await;
        }
    }

    /// One slot, waited for.
    async fn once(&mut self) {
        sleep_until(self.due).await;
        let begun = Instant::now();
        let late = begun - self.due;
        let (answer, took) = self.ask().await;
        let answer = answer.in_slot(Slot { late, took }, self.probe);
        self.heed(answer);
        // After the verdict: a process that resists must not hold it up.
        if let Asker::Exec(exec) = &mut self.asker {
            exec.clean_up().await;
        }
        self.due = (begun + self.period()).max(Instant::now());
    }

    fn period(&self) -> Duration {
        let is_cheap = matches!(self.asker, Asker::Http | Asker::Tcp);
        let eager = is_cheap && self.kind == Kind::Readiness && !self.was_good;
        let period = self.probe.period.max(LEAST_PERIOD);
        if eager {
            period.min(EAGER_PERIOD)
        } else {
            period
        }
    }

    /// An answer, and what counts against the probe's timeout.
    async fn ask(&mut self) -> (Answer, Duration) {
        let begun = Instant::now();
        let limit = self.probe.timeout;
        let answer = match (&mut self.asker, &self.probe.check) {
            (_, Check::Http { host, port, path }) => {
                answer(http::once(host, *port, path, limit).await)
            }
            (_, Check::Tcp { host, port }) => answer(tcp::once(host, *port, limit).await),
            (Asker::Exec(exec), Check::Exec { command }) => return exec.ask(command, limit).await,
            (Asker::Native(native), _) => native.ask().await,
            (Asker::Http | Asker::Tcp | Asker::Exec(_), _) => {
                Answer::Unknown("cannot be asked".into())
            }
        };
        (answer, begun.elapsed())
    }

    fn heed(&mut self, answer: Answer) {
        let doubt = match &answer {
            Answer::Unknown(why) => Some(self.say(why)),
            Answer::Good | Answer::Bad(_) | Answer::Pending => None,
        };
        self.doubt(doubt);
        if matches!(answer, Answer::Bad(_)) {
            self.failures.inc();
        }
        match self.tally.count(answer, self.probe) {
            None => {}
            Some(Verdict::Bad(why)) => {
                let text = self.say(&why);
                self.tell(Verdict::Bad(text));
            }
            Some(verdict) => {
                self.was_good |= verdict == Verdict::Good;
                self.tell(verdict);
            }
        }
    }

    fn say(&self, what: &str) -> String {
        let kind = self.kind.word();
        format!("{kind} probe {}: {what}", Question(&self.probe.check))
    }

    fn tell(&self, verdict: Verdict) {
        self.tell.send_if_modified(|health| {
            let now = health.verdict(self.kind);
            let flips = std::mem::discriminant(now) != std::mem::discriminant(&verdict);
            let changed = *now != verdict;
            let probe = self.kind.word();
            match &verdict {
                Verdict::Bad(error) if flips => {
                    tracing::warn!(container = self.name, probe, error, "probe says no");
                }
                Verdict::Good if flips => {
                    tracing::info!(container = self.name, probe, "probe says yes");
                }
                _ => {}
            }
            *now = verdict;
            changed
        });
    }

    fn doubt(&self, doubt: Option<String>) {
        self.tell.send_if_modified(|health| {
            let now = &mut health.doubts[self.kind as usize];
            let changed = *now != doubt;
            if let (None, Some(error)) = (&now, &doubt) {
                let probe = self.kind.word();
                tracing::warn!(container = self.name, probe, error, "probe cannot tell");
            }
            *now = doubt;
            changed
        });
    }
}

fn answer<E: std::error::Error + 'static>(result: Result<(), E>) -> Answer {
    match result {
        Ok(()) => Answer::Good,
        Err(error) => Answer::Bad(Chain(&error).to_string()),
    }
}

/// What is asked, in a few words. Of a command only the first: others may be secret.
struct Question<'a>(&'a Check);

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Check::Http { host, port, path } => {
                // A query may hold a token.
                let path = path.split('?').next().unwrap_or_default();
                write!(f, "http {}{path}", Place(host, *port))
            }
            Check::Tcp { host, port } => write!(f, "tcp {}", Place(host, *port)),
            Check::Exec { command } => {
                let program = command.first().map_or("", String::as_str);
                write!(f, "exec {}", text::escaped(program.as_bytes()))
            }
            Check::Docker => write!(f, "docker"),
        }
    }
}

struct Place<'a>(&'a str, u16);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match address(self.0) {
            Some(ip) => write!(f, "{}", std::net::SocketAddr::from((ip, self.1))),
            None => write!(f, "{}:{}", self.0, self.1),
        }
    }
}

/// Never asks a resolver: a probe is of this host.
fn address(host: &str) -> Option<IpAddr> {
    if host.is_empty() || host == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    host.trim_matches(['[', ']']).parse().ok()
}

#[cfg(test)]
mod tests;
