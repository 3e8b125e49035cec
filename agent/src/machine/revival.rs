//! Docker's units, started again where systemd has given them up.
//!
//! systemd stops trying after a few crashes (`StartLimitBurst=`: three in a minute on Flatcar);
//! then docker.service has failed, docker.socket with it, and nothing brings them back. While
//! Docker does not answer its units are looked at, and what has failed is reset and started: at
//! once, then after 10, 20 … 300 s. A unit that somebody stopped or masked is left alone.

use super::counts::Counts;
use super::{Handle, Parts};
use crate::backoff::Backoff;
use crate::chain::Chain;
use crate::host::bus::BusError;
use crate::host::bus::systemd1::{Session, Systemd1};
use crate::pulse::Beat;
use crate::supervise;
use crate::supervise::audit::{Actor, Record};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub const SERVICE: &str = "docker.service";
pub const SOCKET: &str = "docker.socket";
/// Between tries.
const LADDER: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
/// As long as this Docker must have answered before the ladder begins at its foot again.
const GOOD: Duration = Duration::from_secs(600);
/// Between looks while Docker does not answer.
const LOOK: Duration = Duration::from_secs(2);
/// Between signs of life while all is well.
const BEAT: Duration = Duration::from_secs(30);
/// For one look and what follows from it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The loop's promise to the watchdog.
pub const ALLOWANCE: Duration = Duration::from_secs(90);

/// A unit of Docker's, in systemd's words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `failed`, …
    pub active: String,
    /// `start-limit-hit`, `exit-code`, …
    pub result: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Reset(&'static str),
    Start(&'static str),
}

/// What brings them back, in order; nothing where nothing has failed.
pub fn decide(service: &Unit, socket: &Unit) -> Vec<Act> {
    let has_failed = |unit: &Unit| unit.load == "loaded" && unit.active == "failed";
    // A socket refuses to start beside its running service.
    let socket_too = has_failed(socket) && service.active != "active";
    let failed = [(has_failed(service), SERVICE), (socket_too, SOCKET)];
    let failed = failed.iter().filter_map(|(has, unit)| has.then_some(*unit));
    let reset = failed.clone().map(Act::Reset);
    // The socket first: its service wants it.
    reset.chain(failed.rev().map(Act::Start)).collect()
}

/// When the next try may be made.
#[derive(Debug, Clone, Copy)]
pub struct Ladder {
    n_tries: u32,
    not_before: Instant,
    well_since: Option<Instant>,
}

impl Ladder {
    pub fn new(at: Instant) -> Ladder {
        Ladder {
            n_tries: 0,
            not_before: at,
            well_since: None,
        }
    }

    /// Whether Docker answers now.
    pub fn note(&mut self, answers: bool, at: Instant) {
        if !answers {
            self.well_since = None;
            return;
        }
        let since = *self.well_since.get_or_insert(at);
        if at.saturating_duration_since(since) >= GOOD {
            self.n_tries = 0;
        }
    }

    pub fn is_due(&self, at: Instant) -> bool {
        self.not_before <= at
    }

    /// A try is made; its number, from 1.
    pub fn climb(&mut self, at: Instant, spread: f64) -> u32 {
        self.not_before = at + LADDER.jittered(self.n_tries, spread);
        self.n_tries = self.n_tries.saturating_add(1);
        self.n_tries
    }
}

/// The room's second loop.
pub struct Revival {
    /// None: it is not ours to do.
    systemd: Option<Systemd1>,
    supervise: supervise::Handle,
    machine: Handle,
    counts: Counts,
    ladder: Ladder,
    /// The last failure to ask, already told.
    told: Option<String>,
}

impl Revival {
    pub(super) fn new(parts: &Parts, machine: Handle, counts: Counts) -> Revival {
        let is_ours = parts.settings.revive && is_systemds(&parts.docker_socket);
        Revival {
            systemd: is_ours.then(|| Systemd1::new(parts.bus.clone())),
            supervise: parts.supervise.clone(),
            machine,
            counts,
            ladder: Ladder::new(Instant::now()),
            told: None,
        }
    }

    /// Watches over Docker until `stop`.
    pub async fn run(mut self, beat: Beat, stop: CancellationToken) {
        let Some(systemd) = self.systemd.take() else {
            drop(beat);
            return stop.cancelled().await;
        };
        loop {
            beat.beat();
            let status = self.supervise.status();
            let is_away = status.docker.reachable == Some(false);
            self.ladder.note(!is_away, Instant::now());
            if is_away && self.ladder.is_due(Instant::now()) && !self.machine.status().leaving {
                let revive = self.revive(&systemd);
                if stop.run_until_cancelled(revive).await.is_none() {
                    return;
                }
            }
            let pause = if is_away { LOOK } else { BEAT };
            let supervise = self.supervise.clone();
            let away = supervise.wait_for(|status| status.docker.reachable == Some(false));
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
                _ = away, if !is_away => {}
            }
        }
    }

    async fn revive(&mut self, systemd: &Systemd1) {
        let by = Instant::now() + PATIENCE;
        match self.look(systemd, by).await {
            Ok(()) => self.told = None,
            Err(error) => {
                let text = Chain(&error).to_string();
                if self.told.as_ref() != Some(&text) {
                    tracing::debug!(error = text, "docker's units cannot be looked at");
                    self.told = Some(text);
                }
            }
        }
    }

    async fn look(&mut self, systemd: &Systemd1, by: Instant) -> Result<(), BusError> {
        let session = systemd.open(by).await?;
        let [service, socket] = units(&session).await?;
        let acts = decide(&service, &socket);
        if acts.is_empty() {
            return Ok(());
        }
        let number = self.ladder.climb(Instant::now(), fastrand::f64());
        for act in acts {
            let (done, unit) = match act {
                Act::Reset(unit) => (session.reset_failed(unit).await, unit),
                Act::Start(unit) => (session.start(unit).await, unit),
            };
            let of = if unit == SERVICE { &service } else { &socket };
            match (act, done) {
                (Act::Reset(_), Ok(())) => {}
                (Act::Start(_), Ok(())) => {
                    self.counts
                        .revivals
                        .with_label_values(&[unit, "started"])
                        .inc();
                    self.record(unit, of, &format!("reset and started, try {number}"));
                }
                (_, Err(error)) => {
                    self.counts
                        .revivals
                        .with_label_values(&[unit, "refused"])
                        .inc();
                    let why = format!("cannot be started, try {number}: {}", Chain(&error));
                    self.record(unit, of, &why);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn record(&self, unit: &str, was: &Unit, what: &str) {
        self.supervise.record(Record {
            container: unit.into(),
            from: "failed",
            to: "starting",
            reason: format!("systemd had given it up ({}): {what}", was.result),
            actor: Actor::Agent,
        });
    }
}

/// docker.service and docker.socket, as systemd has them.
async fn units(session: &Session) -> Result<[Unit; 2], BusError> {
    let listed = session.units_like(&[SERVICE, SOCKET]).await?;
    let mut found = [Unit::default(), Unit::default()];
    for one in listed {
        let (unit, interface) = match one.name.as_str() {
            SERVICE => (&mut found[0], "org.freedesktop.systemd1.Service"),
            SOCKET => (&mut found[1], "org.freedesktop.systemd1.Socket"),
            _ => continue,
        };
        unit.load = one.load_state;
        unit.active = one.active_state;
        if unit.active == "failed" {
            unit.result = session.text(&one.path, (interface, "Result")).await?;
        }
    }
    Ok(found)
}

/// Whether it is the socket that docker.socket listens on.
fn is_systemds(socket: &Path) -> bool {
    [
        Path::new("/run/docker.sock"),
        Path::new("/var/run/docker.sock"),
    ]
    .contains(&socket)
}

#[cfg(test)]
mod tests {
    use super::{Act, GOOD, Ladder, SERVICE, SOCKET, Unit, decide, is_systemds};
    use std::path::Path;
    use std::time::Duration;
    use tokio::time::Instant;

    fn unit(load: &str, active: &str) -> Unit {
        Unit {
            load: load.into(),
            active: active.into(),
            result: "start-limit-hit".into(),
        }
    }

    #[test]
    fn what_has_failed_is_started_and_nothing_else() {
        let failed = || unit("loaded", "failed");
        let (reset, start) = (Act::Reset, Act::Start);
        for (service, socket, expected) in [
            (
                failed(),
                failed(),
                vec![reset(SERVICE), reset(SOCKET), start(SOCKET), start(SERVICE)],
            ),
            (
                failed(),
                unit("loaded", "active"),
                vec![reset(SERVICE), start(SERVICE)],
            ),
            (
                unit("loaded", "inactive"),
                failed(),
                vec![reset(SOCKET), start(SOCKET)],
            ),
            (unit("loaded", "active"), failed(), vec![]),
            // Stopped by somebody, on its way by itself, masked, not there.
            (
                unit("loaded", "inactive"),
                unit("loaded", "inactive"),
                vec![],
            ),
            (
                unit("loaded", "activating"),
                unit("loaded", "active"),
                vec![],
            ),
            (unit("masked", "failed"), unit("masked", "failed"), vec![]),
            (unit("not-found", "inactive"), Unit::default(), vec![]),
        ] {
            assert_eq!(
                decide(&service, &socket),
                expected,
                "{service:?} {socket:?}"
            );
        }
    }

    #[test]
    fn tries_are_rarer_and_rarer_until_docker_has_been_well_for_long() {
        let mut at = Instant::now();
        let mut ladder = Ladder::new(at);
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            assert!(ladder.is_due(at));
            ladder.climb(at, 0.5);
            at += Duration::from_secs(seconds);
            assert!(!ladder.is_due(at - Duration::from_millis(1)));
        }
        // A Docker that lives for a moment between crashes begins no new ladder.
        ladder.note(true, at);
        ladder.note(false, at + GOOD);
        assert_eq!(ladder.climb(at, 0.5), 8);
        ladder.note(true, at);
        ladder.note(true, at + GOOD);
        assert_eq!(ladder.climb(at + GOOD, 0.5), 1);
    }

    #[test]
    fn only_the_docker_that_systemd_runs_is_meant() {
        assert!(is_systemds(Path::new("/run/docker.sock")));
        assert!(is_systemds(Path::new("/var/run/docker.sock")));
        assert!(!is_systemds(Path::new("/tmp/docker.sock")));
    }
}
