//! The disk buffer. (helper buffer writes the story)

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    Block,
    DropOldest,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the buffer directory {path}")]
    Dir { path: PathBuf, source: io::Error },
}

/// Entries of one tag, as they go on the wire: concatenated msgpack `[time, record]`
/// (the body of a PackedForward frame).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    pub tag: Vec<u8>,
    pub entries: Vec<u8>,
    pub n_records: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the log buffer has stopped")]
    Stopped,
}

/// The bounded way in. Cloned for each connection.
#[derive(Clone)]
pub struct Intake {
    sender: mpsc::Sender<Append>,
}

/// Batches on their way to the writer, and whom to tell.
pub struct Append {
    pub batches: Vec<Batch>,
    pub stored: oneshot::Sender<()>,
}

/// The way in and its other end, with room for `capacity` appends in between.
pub fn intake(capacity: usize) -> (Intake, mpsc::Receiver<Append>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Intake { sender }, receiver)
}

impl Intake {
    /// Returns once the batches are stored (written to the segment file, so that
    /// kill -9 cannot lose them); waits while the buffer is full under `block`.
    pub async fn append(&self, batches: Vec<Batch>) -> Result<(), AppendError> {
        let (stored, done) = oneshot::channel();
        let append = Append { batches, stored };
        let sent = self.sender.send(append).await;
        sent.map_err(|_| AppendError::Stopped)?;
        done.await.map_err(|_| AppendError::Stopped)
    }
}
