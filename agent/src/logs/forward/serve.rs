//! One listener: accepts senders, gives each a task, bounds how many.

use crate::chain::Chain;
use crate::listener::{Listener, Stream};
use crate::logs::buffer::Intake;
use crate::logs::enrich::Shaper;
use crate::logs::forward::Settings;
use crate::logs::forward::batch::Batcher;
use crate::logs::forward::connection::{Connection, Shared};
use crate::logs::forward::telemetry::Telemetry;
use crate::pulse::Beat;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// Senders served at once; further ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 1024;

/// Connections that may hold a frame over 1 MiB at once. With the default
/// frame limit they take 8 × 16 MiB at most, and while a compressed one is
/// unfolded four times that.
const LARGE_FRAMES: usize = 8;

/// How often the loop shows that it turns, with nothing to do.
const BEAT: Duration = Duration::from_secs(5);
/// How long it rests after a failed accept.
const REST: Duration = Duration::from_secs(1);

enum Event {
    Accepted(io::Result<Stream>),
    Ended(Result<(), JoinError>),
    Due,
    Stop,
}

/// Serves one listener until `stop`, one task per peer. Returns when every
/// connection has stored what it had, which takes at most some seconds.
pub async fn serve(
    listener: Listener,
    settings: Settings,
    shaper: watch::Receiver<Arc<Shaper>>,
    intake: Intake,
    telemetry: Telemetry,
    beat: Beat,
    stop: CancellationToken,
) {
    let address = listener.address();
    info!(input = %settings.name, %address, "log input listens");
    let shared = Arc::new(Shared {
        settings,
        telemetry,
        large: Semaphore::new(LARGE_FRAMES),
    });
    let mut connections = JoinSet::new();
    let mut rest_until: Option<Instant> = None;
    let mut n_connected = 0usize;
    loop {
        let due = rest_until.unwrap_or_else(|| Instant::now() + BEAT);
        let may_accept = rest_until.is_none() && connections.len() < MAX_CONNECTIONS;
        let event = tokio::select! {
            accepted = listener.accept(), if may_accept => Event::Accepted(accepted),
            Some(ended) = connections.join_next(), if !connections.is_empty() => Event::Ended(ended),
            () = sleep_until(due) => Event::Due,
            () = stop.cancelled() => Event::Stop,
        };
        beat.beat();
        match event {
            Event::Accepted(Ok(stream)) => {
                debug!(input = %shared.settings.name, peer = %stream.peer(), "log sender connected");
                let batcher = Batcher::new(
                    intake.clone(),
                    shared.telemetry.clone(),
                    shared.settings.max_frame,
                    stop.clone(),
                );
                let connection = Connection::new(
                    stream,
                    shared.clone(),
                    shaper.clone(),
                    batcher,
                    stop.clone(),
                );
                connections.spawn(connection.run());
            }
            Event::Accepted(Err(error)) => {
                // Out of descriptors, or the peer gave up: rest, do not spin.
                warn!(input = %shared.settings.name, error = %Chain(&error), "cannot accept a log sender");
                rest_until = Some(Instant::now() + REST);
            }
            Event::Ended(ended) => report(ended),
            Event::Due => rest_until = None,
            Event::Stop => break,
        }
        // The gauge is shared with other listeners: tell it the difference.
        let n = connections.len();
        shared
            .telemetry
            .connections
            .add(n as i64 - n_connected as i64);
        n_connected = n;
    }
    // No new sender while those here finish.
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
        beat.beat();
    }
    shared.telemetry.connections.sub(n_connected as i64);
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(error = %Chain(&error), "a log connection's task failed");
    }
}
