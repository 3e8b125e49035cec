//! The disk buffer: a log of segments that every output reads at its own pace.
//!
//! One thread, the [`Writer`], takes [`Append`]s from a bounded channel, puts
//! them as frames (`frame`) at the end of the newest segment file (`segment`) in
//! one write, and only then answers `stored`: what was answered survives kill -9
//! at once and power loss after at most `sync_interval`. Each output owns a
//! [`Reader`] and a checkpoint file (`checkpoint`). The `ledger` knows which
//! segments live and how far each output has come; nothing else is shared.
//!
//! Invariants:
//! - a record's number, given once in arrival order, never comes back, not even
//!   after a restart; a gap in the numbers is exactly what was lost;
//! - a chunk is the run of frames with one random 128-bit id; it never spans two
//!   segments and never changes once it is sealed. Sealing means: synced, and
//!   published in [`Position`]. So what is sent and sent again is the same;
//! - a segment is unlinked only after each output's checkpoint beyond it is synced;
//! - live bytes stay within `chunk_size × max_chunks`, or one append when that alone is larger;
//! - damage is stepped over, counted and named; it never keeps the agent from starting.
//!
//! The buffer knows nothing of msgpack, of fluentd or of the rest of the agent.

mod checkpoint;
mod frame;
mod ledger;
mod reader;
mod recovery;
mod segment;
mod telemetry;
#[cfg(test)]
mod tests;
mod writer;

pub use frame::ChunkId;
pub use ledger::{CursorStatus, Status};
pub use reader::{Block, Follow, Piece, Reader, Ready};
pub use recovery::{Buffer, open};
pub use writer::Writer;

use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `<state>/buffer`
    pub dir: PathBuf,
    /// A segment's size and the largest chunk that is sent. Default 16 MiB. Unit: bytes.
    pub chunk_size: u64,
    /// chunk_size × max_chunks bounds the disk. Default 64.
    pub max_chunks: u32,
    /// A chunk is sealed after this time even if small. Default 5 s.
    pub flush_interval: Duration,
    /// fdatasync at least this often while there is something to sync. Default 100 ms.
    pub sync_interval: Duration,
    pub when_full: WhenFull,
}

impl Settings {
    /// Most bytes on disk, segment files only. Unit: bytes.
    pub fn limit(&self) -> u64 {
        self.chunk_size.saturating_mul(self.max_chunks.into())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Take nothing more: senders get no ack and wait.
    Block,
    /// Drop the oldest segment and count what no output had read of it.
    DropOldest,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the buffer directory {path}")]
    Dir { path: PathBuf, source: io::Error },
    #[error(
        "the buffer directory {path} is in use by another agent: stop it, or give this one its own state directory"
    )]
    Locked { path: PathBuf },
    #[error("cannot register the buffer's metrics")]
    Metrics(#[source] prometheus::Error),
}

/// Entries of one tag, as they go on the wire: concatenated msgpack `[time, record]`
/// (the body of a PackedForward frame). To the buffer they are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    pub tag: Vec<u8>,
    pub entries: Vec<u8>,
    pub n_records: u32,
}

/// Batches that are stored together, and whom to tell.
#[derive(Debug)]
pub struct Append {
    pub batches: Vec<Batch>,
    /// Answered once all batches are written to the segment file. Dropped
    /// unanswered when the buffer stops first: the sender must not ack.
    pub stored: oneshot::Sender<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the log buffer has stopped")]
    Stopped,
}

/// The bounded way in. Cloned for each connection.
#[derive(Debug, Clone)]
pub struct Intake {
    pub sender: mpsc::Sender<Append>,
}

/// The channel between connections and the writer, `capacity` appends long.
pub fn intake(capacity: usize) -> (Intake, mpsc::Receiver<Append>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Intake { sender }, receiver)
}

impl Intake {
    /// Returns once the batches are stored (written to the segment file, so that
    /// kill -9 cannot lose them); waits while the buffer is full under `block`.
    pub async fn append(&self, batches: Vec<Batch>) -> Result<(), AppendError> {
        let (stored, answer) = oneshot::channel();
        let append = Append { batches, stored };
        self.sender
            .send(append)
            .await
            .map_err(|_| AppendError::Stopped)?;
        answer.await.map_err(|_| AppendError::Stopped)
    }
}

/// A place between two frames. Ordered by segment and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    pub segment: u64,
    /// Offset in the segment file. Unit: bytes.
    pub offset: u64,
    /// Number of the first record behind this place.
    pub record: u64,
}

impl Point {
    fn is_before(&self, other: &Point) -> bool {
        (self.segment, self.offset) < (other.segment, other.offset)
    }
}

/// How far the writer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// End of the last sealed chunk: behind it boundaries are still open.
    pub sealed: Point,
    /// End of the last frame written.
    pub tail: Point,
    /// The writer has ended in order: nothing comes any more.
    pub closed: bool,
}
