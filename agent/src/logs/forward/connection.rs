//! One sender's connection: bytes in, acks out.
//!
//! Read, take every complete frame, append, ack, read again: nothing is read
//! while an append waits, so a full buffer slows the sender down instead of
//! filling memory. Acks leave in the order of their frames and only when the
//! records are stored.

use crate::chain::Chain;
use crate::listener::Stream;
use crate::logs::enrich::Shaper;
use crate::logs::forward::Settings;
use crate::logs::forward::batch::{Batcher, Fault, STOP_PATIENCE, after};
use crate::logs::forward::decode::Broken;
use crate::logs::forward::telemetry::Telemetry;
use crate::logs::msgpack::{Flaw, Scanner};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// What is read at once. Unit: bytes.
const READ: usize = 64 << 10;

/// A connection may keep this much of an unfinished frame by itself; for more
/// it needs one of the few permits for large frames. Unit: bytes.
const SMALL: usize = 1 << 20;

/// How long a stop goes on reading what the sender has written already.
const STOP_DRAIN: Duration = Duration::from_secs(1);

/// A sender silent for this long has nothing more under way when the agent stops.
const STOP_QUIET: Duration = Duration::from_millis(50);

/// What a connection shares with the others of its listener.
pub struct Shared {
    pub settings: Settings,
    pub telemetry: Telemetry,
    /// Permits for frames over [`SMALL`] bytes: they bound the memory of all connections together.
    pub large: Semaphore,
}

/// Why a connection ends before its sender ends it.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot read a frame")]
    Frame(#[source] Flaw),
    #[error("cannot take a frame")]
    Take(#[source] Fault),
    #[error("the sender was silent inside a frame for {0:?}")]
    Silent(Duration),
    #[error("other senders held all space for large frames for {0:?}")]
    Crowded(Duration),
    #[error("the sender closed the connection inside a frame")]
    CutOff,
    #[error("cannot read from the sender")]
    Read(#[source] io::Error),
    #[error("cannot send acks")]
    Write(#[source] io::Error),
}

impl Ended {
    /// The reason under which it counts as a bad frame.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Ended::Frame(Flaw::TooLarge { .. }) => Some("too_large"),
            Ended::Frame(_) => Some("malformed"),
            Ended::Take(Fault::Garbage) => Some("garbage"),
            Ended::Take(Fault::Broken(Broken::TooLarge { .. })) => Some("too_large"),
            Ended::Take(Fault::Broken(_)) => Some("compression"),
            Ended::Silent(_) | Ended::Crowded(_) => Some("timeout"),
            Ended::CutOff => Some("cut_off"),
            Ended::Take(_) | Ended::Read(_) | Ended::Write(_) => None,
        }
    }
}

enum Event {
    Read(io::Result<usize>),
    Due,
    Stop,
}

pub struct Connection {
    stream: Stream,
    shared: Arc<Shared>,
    shaper: watch::Receiver<Arc<Shaper>>,
    batcher: Batcher,
    stop: CancellationToken,
    /// Bytes from `start` on are not taken yet: at most one unfinished frame after each round.
    inbox: Vec<u8>,
    start: usize,
    scanner: Scanner,
    last_read: Instant,
}

impl Connection {
    pub fn new(
        stream: Stream,
        shared: Arc<Shared>,
        shaper: watch::Receiver<Arc<Shaper>>,
        batcher: Batcher,
        stop: CancellationToken,
    ) -> Connection {
        Connection {
            stream,
            shared,
            shaper,
            batcher,
            stop,
            inbox: Vec::new(),
            start: 0,
            scanner: Scanner::default(),
            last_read: Instant::now(),
        }
    }

    /// Serves the sender until it leaves, errs, or the agent stops.
    pub async fn run(mut self) {
        let ended = match self.converse().await {
            // What came in whole is stored and acked, whatever came behind it.
            Err(ended @ (Ended::Take(Fault::Append(_) | Fault::Stopping) | Ended::Write(_))) => {
                Err(ended)
            }
            ended => {
                let shaper = self.shaper.borrow().clone();
                let closed = self.batcher.close(&shaper).await.map_err(Ended::Take);
                let acked = match closed {
                    Ok(()) => self.acknowledge().await,
                    Err(error) => Err(error),
                };
                ended.and(acked)
            }
        };
        let Err(ended) = ended else {
            return;
        };
        let input = &self.shared.settings.name;
        let peer = self.stream.peer();
        match ended.reason() {
            Some(reason) => {
                let bad_frames = &self.shared.telemetry.bad_frames;
                bad_frames.with_label_values(&[reason]).inc();
                warn!(%input, %peer, error = %Chain(&ended), "closed a log connection");
            }
            None => debug!(%input, %peer, error = %Chain(&ended), "a log connection ended"),
        }
    }

    async fn converse(&mut self) -> Result<(), Ended> {
        let shared = self.shared.clone();
        let mut large: Option<SemaphorePermit<'_>> = None;
        let mut stopping: Option<Instant> = None;
        loop {
            self.take_frames().await?;
            if self.stop.is_cancelled() {
                let until = *stopping.get_or_insert_with(|| Instant::now() + STOP_DRAIN);
                if Instant::now() >= until {
                    return Ok(());
                }
            }
            self.make_room();
            if self.inbox.capacity() <= SMALL {
                large = None;
            } else if large.is_none() {
                large = Some(self.permit(&shared).await?);
            }
            match self.next_event().await {
                Event::Read(Ok(0)) if self.unread().is_empty() => return Ok(()),
                Event::Read(Ok(0)) => return Err(Ended::CutOff),
                Event::Read(Ok(n)) => {
                    self.last_read = Instant::now();
                    shared.telemetry.received_bytes.inc_by(n as u64);
                }
                Event::Read(Err(error)) => return Err(Ended::Read(error)),
                Event::Stop => return Ok(()),
                Event::Due => {
                    let shaper = self.shaper.borrow().clone();
                    let expired = self.batcher.expire(&shaper).await;
                    expired.map_err(Ended::Take)?;
                    let silent = self.shared.settings.frame_timeout;
                    if !self.unread().is_empty() && self.last_read.elapsed() >= silent {
                        return Err(Ended::Silent(silent));
                    }
                }
            }
        }
    }

    /// What the sender, the clock or the agent says next. All arms are cancel-safe.
    async fn next_event(&mut self) -> Event {
        let due = self.due();
        let stream = &mut self.stream;
        let inbox = &mut self.inbox;
        tokio::select! {
            read = stream.read_buf(inbox) => Event::Read(read),
            // What a sender has written already is taken before a stop.
            () = after(&self.stop, STOP_QUIET) => Event::Stop,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Due,
        }
    }

    fn unread(&self) -> &[u8] {
        &self.inbox[self.start..]
    }

    /// When silence inside a frame is too long, or held parts are overdue.
    fn due(&self) -> Option<Instant> {
        let silent = self.last_read + self.shared.settings.frame_timeout;
        let frame = (!self.unread().is_empty()).then_some(silent);
        frame.into_iter().chain(self.batcher.due()).min()
    }

    /// Takes the complete frames of the inbox, stores their records, sends their acks.
    async fn take_frames(&mut self) -> Result<(), Ended> {
        let shaper = self.shaper.borrow().clone();
        let limit = self.shared.settings.max_frame;
        self.batcher.expect(self.inbox.len() - self.start);
        let taken = loop {
            let rest = &self.inbox[self.start..];
            if rest.is_empty() {
                break Ok(());
            }
            let len = match self.scanner.scan(rest, limit) {
                Ok(Some(len)) => len,
                Ok(None) => break Ok(()),
                Err(flaw) => break Err(Ended::Frame(flaw)),
            };
            if let Err(fault) = self.batcher.take(&rest[..len], &shaper).await {
                break Err(Ended::Take(fault));
            }
            self.start += len;
        };
        // Good frames before a bad one are stored and acked all the same.
        if let Err(Ended::Take(Fault::Append(_) | Fault::Stopping)) = taken {
            return taken;
        }
        self.batcher.store().await.map_err(Ended::Take)?;
        self.acknowledge().await?;
        taken
    }

    /// Sends the acks that are due. A sender that does not read them is left.
    async fn acknowledge(&mut self) -> Result<(), Ended> {
        let acks = self.batcher.acks();
        if acks.is_empty() {
            return Ok(());
        }
        let silent = self.shared.settings.frame_timeout;
        let sent = tokio::select! {
            sent = self.stream.write_all(acks) => sent,
            () = sleep(silent) => Err(io::ErrorKind::TimedOut.into()),
            () = after(&self.stop, STOP_PATIENCE) => Err(io::ErrorKind::TimedOut.into()),
        };
        acks.clear();
        sent.map_err(Ended::Write)
    }

    /// Makes room for a read: moves the unfinished frame to the front, grows
    /// for it by doubling, and gives back the space of a large one.
    fn make_room(&mut self) {
        let unread = self.inbox.len() - self.start;
        if unread == 0 && self.inbox.capacity() > SMALL {
            self.inbox = Vec::new();
        }
        if self.start > 0 && (unread == 0 || self.inbox.capacity() - self.inbox.len() < READ / 2) {
            self.inbox.drain(..self.start.min(self.inbox.len()));
            self.start = 0;
        }
        if self.inbox.capacity() - self.inbox.len() < READ / 2 {
            self.inbox.reserve(READ);
        }
    }

    /// Waits for the right to hold a large frame; not longer than a frame may be silent.
    async fn permit<'s>(&self, shared: &'s Shared) -> Result<SemaphorePermit<'s>, Ended> {
        let silent = shared.settings.frame_timeout;
        tokio::select! {
            // The semaphore is never closed: an error would be a stop.
            permit = shared.large.acquire() => permit.map_err(|_| Ended::Take(Fault::Stopping)),
            () = sleep(silent) => Err(Ended::Crowded(silent)),
            () = after(&self.stop, STOP_PATIENCE) => Err(Ended::Take(Fault::Stopping)),
        }
    }
}

#[cfg(test)]
mod tests;
