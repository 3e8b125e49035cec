//! Where records go: one task per output, each at its own pace.
//!
//! An output reads blocks from the buffer, delivers them, and commits: only
//! then may a segment go. It tries for ever, oldest first; what goes wrong is
//! state for reporters, never an end. It knows nothing of inputs.

mod forward;
mod json;
mod message;
mod stdout;
#[cfg(test)]
mod tests;
mod wire;

pub use stdout::Opener;

use crate::backoff::Backoff;
use crate::dns::Resolver;
use crate::logs::buffer::{Follow, Reader};
use crate::pulse::Beat;
use prometheus::{IntCounterVec, Opts, Registry};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Between tries of a delivery.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// JSON lines on stdout, the default when no output is configured.
    Stdout,
    Forward(Forward),
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Stdout => "stdout",
            Kind::Forward(_) => "forward",
        }
    }

    pub fn follow(&self) -> Follow {
        match self {
            Kind::Stdout => Follow::Tail,
            Kind::Forward(_) => Follow::Sealed,
        }
    }

    /// How long the output's loop may be silent: its longest awaited steps, doubled.
    pub fn allowance(&self) -> Duration {
        let steps = match self {
            Kind::Stdout => Duration::ZERO,
            Kind::Forward(forward) => forward.ack_timeout + forward.connect_timeout,
        };
        2 * steps + Duration::from_secs(60)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// `host:port`, tried in order.
    pub servers: Vec<Server>,
    pub require_ack: bool,
    /// How long to wait for an ack. Default 30 s.
    pub ack_timeout: Duration,
    pub connect_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub host: String,
    pub port: u16,
}

#[derive(Clone)]
pub struct Telemetry {
    records: IntCounterVec,
    errors: IntCounterVec,
    retries: IntCounterVec,
}

impl Telemetry {
    pub fn new(registry: &Registry) -> Result<Telemetry, prometheus::Error> {
        let counter = |name, help| {
            let family = IntCounterVec::new(Opts::new(name, help), &["output"])?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        Ok(Telemetry {
            records: counter(
                "agent_log_output_records_total",
                "Records delivered, by output.",
            )?,
            errors: counter(
                "agent_log_output_errors_total",
                "Failed deliveries and connects, by output.",
            )?,
            retries: counter(
                "agent_log_output_retries_total",
                "Waits before another try, by output.",
            )?,
        })
    }
}

/// What one output says of itself.
pub struct Progress {
    name: String,
    telemetry: Telemetry,
    last_error: Mutex<Option<String>>,
}

impl Progress {
    pub fn new(name: &str, telemetry: Telemetry) -> Progress {
        for family in [&telemetry.records, &telemetry.errors, &telemetry.retries] {
            family.with_label_values(&[name]);
        }
        Progress {
            name: name.into(),
            telemetry,
            last_error: Mutex::default(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn records(&self) -> u64 {
        self.telemetry
            .records
            .with_label_values(&[&self.name])
            .get()
    }

    /// The last failure, until a delivery succeeds.
    pub fn last_error(&self) -> Option<String> {
        self.lock().clone()
    }

    fn delivered(&self, n_records: u64) {
        self.telemetry
            .records
            .with_label_values(&[&self.name])
            .inc_by(n_records);
        if self.lock().take().is_some() {
            info!(output = self.name, "output delivers again");
        }
    }

    /// Logged when it is news; a failure that repeats is only counted.
    fn failed(&self, error: String) {
        self.telemetry.errors.with_label_values(&[&self.name]).inc();
        let mut last = self.lock();
        if last.as_ref() != Some(&error) {
            warn!(output = self.name, %error, "output cannot deliver; it will retry");
            *last = Some(error);
        }
    }

    fn retries(&self) {
        self.telemetry
            .retries
            .with_label_values(&[&self.name])
            .inc();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every output is given.
pub struct Link {
    pub reader: Reader,
    pub resolver: Resolver,
    pub progress: Arc<Progress>,
    pub beat: Beat,
    pub stop: CancellationToken,
}

/// Why an output's task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything is delivered and nothing will come.
    Done,
    /// It was told to stop; the rest waits in the buffer.
    Stopped,
    /// The buffer went away under it, or a file operation panicked.
    Broken,
}

pub async fn run(kind: Kind, link: Link) -> Ending {
    match kind {
        Kind::Stdout => stdout::run(link, stdout::own_stdout()).await,
        Kind::Forward(settings) => forward::run(settings, link).await,
    }
}

/// A reader, tried for until it opens. None: told to stop.
pub async fn opened(
    open: impl Fn() -> std::io::Result<Reader>,
    progress: &Progress,
    beat: &Beat,
    stop: &CancellationToken,
) -> Option<Reader> {
    let mut step = 0;
    loop {
        match open() {
            Ok(reader) => return Some(reader),
            Err(error) => progress.failed(format!("cannot open the checkpoint: {error}")),
        }
        if !pause(progress, beat, stop, step).await {
            return None;
        }
        step += 1;
    }
}

/// Waits before try number `step`. False: told to stop.
async fn pause(progress: &Progress, beat: &Beat, stop: &CancellationToken, step: u32) -> bool {
    progress.retries();
    beat.beat();
    let delay = BACKOFF.jittered(step, fastrand::f64());
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(delay) => true,
    }
}
