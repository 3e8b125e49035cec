//! From frames to what is appended: entries walked, parts joined, records
//! shaped, batches and acks gathered.
//!
//! One [`Batcher`] per connection. Many frames that came in one read become
//! one append, and their acks one write behind it; a large frame becomes
//! several appends of some [`FLUSH`] bytes, so memory is bounded by the frame
//! limit and not by what frames unfold to.

use crate::chain::Chain;
use crate::logs::buffer::{AppendError, Batch, Intake};
use crate::logs::enrich::{Scratch, Shaped, Shaper, Time};
use crate::logs::forward::decode::{self, Body, Broken, Decoded, Entries, Entry, Refusal, Stamp};
use crate::logs::forward::telemetry::Telemetry;
use crate::logs::partial::{Joiner, Line, Part};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Shaped entries are appended when there are this many. Unit: bytes.
const FLUSH: usize = 1 << 20;

/// A frame may unfold to this many times the frame limit. Logs compress by 5
/// to 9; a sender whose chunks unfold further should send smaller ones.
const UNFOLD: usize = 4;

/// How long a stop waits for an append that the buffer does not take (full,
/// under `block`), or for a sender that does not read its acks.
pub const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Tags of recent frames that are looked through for one to go on with.
const RECENT_TAGS: usize = 8;

/// Space for decompression is kept up to this size. Unit: bytes.
const KEPT: usize = 1 << 20;

/// Why frames cannot be taken on.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("the sender does not speak the forward protocol")]
    Garbage,
    #[error("cannot unpack a frame")]
    Broken(#[source] Broken),
    #[error("cannot store records")]
    Append(#[source] AppendError),
    #[error("the agent stops and the log buffer takes no records")]
    Stopping,
}

pub struct Batcher {
    intake: Intake,
    telemetry: Telemetry,
    stop: CancellationToken,
    max_frame: usize,
    scratch: Scratch,
    joiner: Joiner,
    ready: Vec<Line>,
    unfolded: Vec<u8>,
    batches: Vec<Batch>,
    n_bytes: usize,
    n_unparsed: u64,
    acks: Vec<u8>,
    expected: usize,
}

impl Batcher {
    pub fn new(
        intake: Intake,
        telemetry: Telemetry,
        max_frame: usize,
        stop: CancellationToken,
    ) -> Batcher {
        Batcher {
            intake,
            telemetry,
            stop,
            max_frame,
            scratch: Scratch::default(),
            joiner: Joiner::default(),
            ready: Vec::new(),
            unfolded: Vec::new(),
            batches: Vec::new(),
            n_bytes: 0,
            n_unparsed: 0,
            acks: Vec::new(),
            expected: 0,
        }
    }

    /// Tells how many bytes of frames are at hand, so that a batch gets its
    /// space at once. Only a hint.
    pub fn expect(&mut self, n_bytes: usize) {
        self.expected = n_bytes.saturating_add(n_bytes / 4).min(FLUSH + FLUSH / 4);
    }

    /// Takes one complete value from the sender. Its ack, if it asks for one,
    /// is due when [`Batcher::store`] has returned.
    #[inline]
    pub async fn take(&mut self, value: &[u8], shaper: &Shaper) -> Result<(), Fault> {
        let frame = match decode::decode(value) {
            Decoded::Frame(frame) => frame,
            Decoded::KeepAlive => return Ok(()),
            Decoded::Refused(refusal, chunk) => {
                let reason = match refusal {
                    Refusal::Tag => "tag",
                    Refusal::Shape => "shape",
                    Refusal::Signal => "signal",
                };
                self.telemetry.bad_frames.with_label_values(&[reason]).inc();
                self.acknowledge(chunk);
                return Ok(());
            }
            Decoded::Garbage => return Err(Fault::Garbage),
        };
        match frame.body {
            Body::One(time, record) => self.entry(frame.tag, time, record, shaper),
            Body::Entries(entries) => self.entries(frame.tag, entries, shaper).await?,
            Body::Gzip(body) => {
                let limit = self.max_frame.saturating_mul(UNFOLD);
                let mut unfolded = std::mem::take(&mut self.unfolded);
                decode::gunzip(body, limit, &mut unfolded).map_err(Fault::Broken)?;
                self.entries(frame.tag, &unfolded, shaper).await?;
                if unfolded.capacity() <= KEPT {
                    self.unfolded = unfolded;
                }
            }
            Body::Zstd => return Err(Fault::Broken(Broken::Zstd)),
        }
        self.acknowledge(frame.chunk);
        match self.is_full() {
            true => self.store().await,
            false => Ok(()),
        }
    }

    async fn entries(&mut self, tag: &[u8], entries: &[u8], shaper: &Shaper) -> Result<(), Fault> {
        for entry in Entries::new(entries) {
            match entry {
                Entry::Good(time, record) => self.entry(tag, time, record, shaper),
                Entry::Bad => self.bad_record("not_an_entry"),
                Entry::Truncated => self.bad_record("truncated"),
            }
            if self.is_full() {
                self.store().await?;
            }
        }
        Ok(())
    }

    #[inline]
    fn entry(&mut self, tag: &[u8], time: &[u8], record: &[u8], shaper: &Shaper) {
        let time = match decode::stamp(time) {
            Some(Stamp::At(time)) => time,
            Some(Stamp::Now) => now(),
            Some(Stamp::Odd(time)) => {
                self.telemetry.corrected_times.inc();
                time
            }
            None => {
                self.telemetry.corrected_times.inc();
                now()
            }
        };
        let Ok(record) = self.scratch.read(record) else {
            return self.bad_record("not_a_map");
        };
        if let Some(part) = Part::of(&record) {
            let now = Instant::now();
            self.joiner
                .take(tag, time, (part, &record), now, &mut self.ready);
            return self.take_ready(shaper);
        }
        let batch = batch_for(&mut self.batches, tag, self.expected);
        let before = batch.entries.len();
        let shaped = shaper.shape(time, record, &mut batch.entries);
        batch.n_records += 1;
        self.n_bytes += batch.entries.len() - before;
        self.n_unparsed += u64::from(shaped == Shaped::Unparsed);
    }

    /// Shapes the lines that became whole, or are given up waiting for.
    fn take_ready(&mut self, shaper: &Shaper) {
        for line in std::mem::take(&mut self.ready) {
            if let Some(cause) = line.incomplete {
                self.telemetry
                    .incomplete
                    .with_label_values(&[cause.as_str()])
                    .inc();
            }
            let Ok(record) = self.scratch.read(&line.record) else {
                continue;
            };
            let batch = batch_for(&mut self.batches, &line.tag, self.expected);
            let before = batch.entries.len();
            let shaped = shaper.shape(line.time, record, &mut batch.entries);
            batch.n_records += 1;
            self.n_bytes += batch.entries.len() - before;
            self.n_unparsed += u64::from(shaped == Shaped::Unparsed);
        }
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.n_bytes >= FLUSH
    }

    /// Appends what was gathered; then the acks gathered so far are true.
    pub async fn store(&mut self) -> Result<(), Fault> {
        if self.batches.is_empty() {
            return Ok(());
        }
        let batches = std::mem::take(&mut self.batches);
        let n_records: u64 = batches.iter().map(|batch| u64::from(batch.n_records)).sum();
        let n_unparsed = std::mem::take(&mut self.n_unparsed);
        self.n_bytes = 0;
        // Cancel-safe in this sense: an append given up is never acked.
        let stored = tokio::select! {
            stored = self.intake.append(batches) => stored.map_err(Fault::Append),
            () = after(&self.stop, STOP_PATIENCE) => Err(Fault::Stopping),
        };
        match &stored {
            Ok(()) => {
                self.telemetry.records.inc_by(n_records);
                self.telemetry.unparsed.inc_by(n_unparsed);
            }
            // Not acked: a sender that asks for acks sends them again.
            Err(fault) => {
                warn!(records = n_records, error = %Chain(fault), "log records were not stored");
            }
        }
        stored
    }

    /// The acks to send now. Call only when [`Batcher::store`] has returned.
    pub fn acks(&mut self) -> &mut Vec<u8> {
        &mut self.acks
    }

    /// When [`Batcher::expire`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.joiner.due()
    }

    /// Gives up waiting for parts that are overdue.
    pub async fn expire(&mut self, shaper: &Shaper) -> Result<(), Fault> {
        self.joiner.expire(Instant::now(), &mut self.ready);
        self.take_ready(shaper);
        self.store().await
    }

    /// Emits the parts still held, at the connection's end.
    pub async fn close(&mut self, shaper: &Shaper) -> Result<(), Fault> {
        self.joiner.close(&mut self.ready);
        self.take_ready(shaper);
        self.store().await
    }

    /// `{"ack": chunk}`, the chunk in the very bytes it came in.
    #[inline]
    fn acknowledge(&mut self, chunk: Option<&[u8]>) {
        if let Some(chunk) = chunk {
            self.acks.extend_from_slice(b"\x81\xa3ack");
            self.acks.extend_from_slice(chunk);
        }
    }

    #[cold]
    fn bad_record(&self, reason: &str) {
        self.telemetry
            .bad_records
            .with_label_values(&[reason])
            .inc();
    }
}

/// The batch that entries of `tag` go on in.
#[inline]
fn batch_for<'a>(batches: &'a mut Vec<Batch>, tag: &[u8], capacity: usize) -> &'a mut Batch {
    let recent = batches.len().saturating_sub(RECENT_TAGS);
    let found = batches[recent..]
        .iter()
        .rposition(|batch| batch.tag == tag)
        .map(|at| recent + at);
    let at = found.unwrap_or_else(|| {
        batches.push(Batch {
            tag: tag.to_vec(),
            entries: Vec::with_capacity(capacity),
            n_records: 0,
        });
        batches.len() - 1
    });
    &mut batches[at]
}

/// Ends when `stop` was cancelled so long ago.
pub async fn after(stop: &CancellationToken, wait: Duration) {
    stop.cancelled().await;
    sleep(wait).await;
}

/// The time of arrival, for records without their own.
fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time {
        seconds: u32::try_from(since.as_secs()).unwrap_or(u32::MAX),
        nanoseconds: since.subsec_nanos(),
    }
}
