//! Which segments live, and how far each output has come.
//!
//! Writer, readers and reporters share it behind one short lock; no file is
//! touched while it is held.

use super::telemetry::Telemetry;
use super::{Point, segment};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tracing::warn;

/// What reporters see of the buffer.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// All segment files. Unit: bytes. Source: their lengths at open, counted since.
    pub bytes: u64,
    pub limit: u64,
    /// False while the buffer is full under `block`, or its disk refuses writes.
    pub accepting: bool,
    /// The last failed file operation, until one succeeds.
    pub error: Option<String>,
    /// Age of the oldest record that some output still has to deliver.
    pub oldest: Option<Duration>,
    /// Records dropped or lost, summed over the outputs.
    pub dropped: u64,
    pub cursors: Vec<CursorStatus>,
}

#[derive(Debug, Clone, Default)]
pub struct CursorStatus {
    pub output: String,
    pub pending_bytes: u64,
    pub oldest: Option<Duration>,
}

pub(super) struct Ledger {
    pub dir: PathBuf,
    pub telemetry: Telemetry,
    limit: u64,
    state: Mutex<State>,
    /// Live bytes: the writer waits here for space.
    bytes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    segments: BTreeMap<u64, Segment>,
    /// The segment that the writer appends to.
    open: Option<u64>,
    cursors: BTreeMap<String, Cursor>,
    full: bool,
    failing: bool,
    error: Option<String>,
    dropped: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub bytes: u64,
    pub first_record: u64,
    pub first_ms: u64,
}

#[derive(Default)]
struct Cursor {
    /// Delivered up to here.
    at: Point,
    /// The part of `at` that survives power loss: nothing behind it is unlinked.
    synced: Point,
    /// Time of the record at `at`, or a little before; None where it is not known yet.
    next_ms: Option<u64>,
}

/// Where a reader finds the next frames.
pub(super) struct Place {
    pub segment: u64,
    pub offset: u64,
    pub limit: u64,
    /// The segment read before was dropped under the reader.
    pub was_dropped: bool,
}

impl Ledger {
    pub fn new(dir: PathBuf, limit: u64, telemetry: Telemetry) -> Ledger {
        Ledger {
            dir,
            telemetry,
            limit,
            state: Mutex::default(),
            bytes: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // === what the writer does ===

    pub fn add(&self, n: u64, segment: Segment, open: bool) {
        let mut state = self.lock();
        state.segments.insert(n, segment);
        if open {
            state.open = Some(n);
        }
        self.bytes.send_replace(state.total());
    }

    pub fn grow(&self, n: u64, bytes: u64) {
        let now = now_ms();
        let mut state = self.lock();
        let mut cursors = std::mem::take(&mut state.cursors);
        for cursor in cursors.values_mut() {
            // Idle until now: what comes is the oldest that it has to deliver.
            if state.pending(cursor.at).0 == 0 {
                cursor.next_ms = Some(now);
            }
        }
        state.cursors = cursors;
        if let Some(segment) = state.segments.get_mut(&n) {
            segment.bytes += bytes;
        }
        state.failing = false;
        state.full = false;
        self.bytes.send_replace(state.total());
    }

    /// No segment is appended to: each may go once it is read.
    pub fn close(&self) {
        self.lock().open = None;
        self.release();
    }

    /// Takes a segment out and unlinks it.
    pub fn remove(&self, n: u64) {
        self.lock().segments.remove(&n);
        self.unlink(&[n]);
    }

    /// Takes out the oldest segment, read or not. None: only the open one is left.
    pub fn drop_oldest(&self) -> Option<u64> {
        let oldest = {
            let mut state = self.lock();
            let (&oldest, _) = state.segments.first_key_value()?;
            if state.open == Some(oldest) {
                return None;
            }
            state.segments.remove(&oldest);
            oldest
        };
        self.unlink(&[oldest]);
        Some(oldest)
    }

    pub fn total(&self) -> u64 {
        self.lock().total()
    }

    pub fn space(&self) -> watch::Receiver<u64> {
        self.bytes.subscribe()
    }

    /// True when that is news.
    pub fn set_full(&self, full: bool) -> bool {
        std::mem::replace(&mut self.lock().full, full) != full
    }

    /// `accepting` says whether records are taken in spite of the error. True when it is news.
    pub fn set_error(&self, error: String, accepting: bool) -> bool {
        let mut state = self.lock();
        state.failing |= !accepting;
        let news = state.error.as_ref() != Some(&error);
        state.error = Some(error);
        news
    }

    pub fn clear_error(&self) {
        let mut state = self.lock();
        state.failing = false;
        state.error = None;
    }

    /// A sync came through: an error of writing stands until a write does too.
    pub fn clear_sync_error(&self) {
        let mut state = self.lock();
        if !state.failing {
            state.error = None;
        }
    }

    // === what readers do ===

    /// Enters an output at its checkpoint, or at the oldest record.
    pub fn enter(&self, output: &str, checkpoint: Option<Point>, tail: Point) -> Point {
        let mut state = self.lock();
        let known = state.cursors.get(output).map(|cursor| cursor.at);
        let at = checkpoint
            .or(known)
            .unwrap_or_else(|| match state.segments.first_key_value() {
                Some((&segment, first)) => Point {
                    segment,
                    offset: segment::HEAD,
                    record: first.first_record,
                },
                None => tail,
            });
        let cursor = Cursor {
            at,
            synced: at,
            next_ms: None,
        };
        state.cursors.insert(output.into(), cursor);
        at
    }

    /// The output is gone: it holds nothing back any more.
    pub fn leave(&self, output: &str) {
        self.lock().cursors.remove(output);
        self.telemetry.forget(output);
        self.release();
    }

    pub fn advance(&self, output: &str, at: Point, next_ms: Option<u64>) {
        if let Some(cursor) = self.lock().cursors.get_mut(output) {
            cursor.at = at;
            cursor.next_ms = next_ms;
        }
    }

    /// The output's checkpoint is durable up to `at`.
    pub fn synced(&self, output: &str, at: Point) {
        if let Some(cursor) = self.lock().cursors.get_mut(output) {
            cursor.synced = at;
        }
        self.release();
    }

    /// Next frames from `at` on, before `bound`. None: there are none.
    pub fn locate(&self, at: Point, bound: Point) -> Option<Place> {
        let state = self.lock();
        let limit = |n: u64, segment: &Segment| {
            if n < bound.segment {
                segment.bytes
            } else {
                bound.offset
            }
        };
        let current = state.segments.get(&at.segment);
        if let Some(current) = current
            && at.segment <= bound.segment
        {
            let limit = limit(at.segment, current);
            if at.offset < limit {
                return Some(Place {
                    segment: at.segment,
                    offset: at.offset,
                    limit,
                    was_dropped: false,
                });
            }
        }
        if at.segment >= bound.segment {
            return None;
        }
        let (&n, next) = state
            .segments
            .range(at.segment + 1..=bound.segment)
            .next()?;
        Some(Place {
            segment: n,
            offset: segment::HEAD,
            limit: limit(n, next),
            was_dropped: current.is_none(),
        })
    }

    pub fn is_live(&self, n: u64) -> bool {
        self.lock().segments.contains_key(&n)
    }

    pub fn count_dropped(&self, output: &str, reason: &str, n_records: u64) {
        self.lock().dropped += n_records;
        self.telemetry
            .dropped
            .with_label_values(&[output, reason])
            .inc_by(n_records);
    }

    pub fn count_lost(&self, output: &str, n_records: u64) {
        self.lock().dropped += n_records;
        self.telemetry
            .lost
            .with_label_values(&[output])
            .inc_by(n_records);
    }

    // === what both do ===

    /// Unlinks what every output has behind a synced checkpoint.
    pub fn release(&self) {
        let mut freed = Vec::new();
        {
            let mut state = self.lock();
            let State {
                segments,
                open,
                cursors,
                ..
            } = &mut *state;
            if cursors.is_empty() {
                return;
            }
            segments.retain(|&n, segment| {
                let read = cursors.values().all(|cursor| {
                    let at = cursor.synced;
                    at.segment > n || at.segment == n && at.offset >= segment.bytes
                });
                if read && *open != Some(n) {
                    freed.push(n);
                    return false;
                }
                true
            });
        }
        for &n in &freed {
            // An idle reader may still have the file open, which would keep its
            // space: on a full disk nothing would come to make that reader go on.
            let path = segment::path(&self.dir, n);
            let _ = OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|file| file.set_len(0));
        }
        self.unlink(&freed);
    }

    fn unlink(&self, numbers: &[u64]) {
        for &n in numbers {
            let path = segment::path(&self.dir, n);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!(path = %path.display(), %error, "cannot remove a segment; the next start tries again");
                }
                _ => {}
            }
        }
        if !numbers.is_empty() {
            self.bytes.send_replace(self.total());
        }
    }

    pub fn status(&self) -> Status {
        let now = now_ms();
        let state = self.lock();
        let cursors: Vec<CursorStatus> = state
            .cursors
            .iter()
            .map(|(output, cursor)| {
                let (pending_bytes, first_ms) = state.pending(cursor.at);
                let first_ms = cursor.next_ms.or(first_ms);
                CursorStatus {
                    output: output.clone(),
                    pending_bytes,
                    oldest: first_ms
                        .filter(|_| pending_bytes > 0)
                        .map(|first| Duration::from_millis(now.saturating_sub(first))),
                }
            })
            .collect();
        Status {
            bytes: state.total(),
            limit: self.limit,
            accepting: !state.full && !state.failing,
            error: state.error.clone(),
            oldest: cursors.iter().filter_map(|cursor| cursor.oldest).max(),
            dropped: state.dropped,
            cursors,
        }
    }
}

impl State {
    fn total(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// Bytes behind a point, and a time not after their first record's.
    fn pending(&self, at: Point) -> (u64, Option<u64>) {
        let mut bytes = 0;
        let mut first_ms = None;
        for (&n, segment) in self.segments.range(at.segment..) {
            let from = if n == at.segment {
                at.offset
            } else {
                segment::HEAD
            };
            let unread = segment.bytes.saturating_sub(from);
            if unread > 0 {
                bytes += unread;
                first_ms.get_or_insert(segment.first_ms);
            }
        }
        (bytes, first_ms)
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
