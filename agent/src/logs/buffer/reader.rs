//! One output's way through the segments.
//!
//! A reader hands out [`Block`]s: frames of one chunk, up to a size. For a
//! reader of sealed chunks the blocks behind a committed point are always the
//! same, over retries and restarts. File work blocks: call it off the reactor.

use super::checkpoint::Checkpoint;
use super::frame::ChunkId;
use super::ledger::{Ledger, Place};
use super::segment::{Found, Scan};
use super::{Point, Position, segment, telemetry};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{error, warn};

/// Failed reads of one place until the rest of its segment is given up.
const TRIES: u32 = 8;

/// How far behind the writer an output stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Sealed chunks only: their boundaries and ids are final.
    Sealed,
    /// Every record at once.
    Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// There is something to read.
    More,
    /// All is read and the writer has ended in order.
    End,
}

/// Frames of one chunk, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub chunk: ChunkId,
    pub pieces: Vec<Piece>,
    /// Commit this once all records are delivered.
    pub end: Point,
    /// Tags and payloads, cut up by the pieces.
    pub data: Vec<u8>,
    /// Time of the first append. Unit: ms since 1970.
    pub time_ms: u64,
}

/// One frame of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub first_record: u64,
    pub n_records: u32,
    tag: Range<usize>,
    entries: Range<usize>,
}

impl Block {
    pub fn tag(&self, piece: &Piece) -> &[u8] {
        &self.data[piece.tag.clone()]
    }

    pub fn entries(&self, piece: &Piece) -> &[u8] {
        &self.data[piece.entries.clone()]
    }

    pub fn n_records(&self) -> u64 {
        let counts = self.pieces.iter().map(|piece| u64::from(piece.n_records));
        counts.sum()
    }
}

pub struct Reader {
    ledger: Arc<Ledger>,
    position: watch::Receiver<Position>,
    output: String,
    follow: Follow,
    checkpoint: Checkpoint,
    committed: Point,
    /// The next frame to read.
    at: Point,
    scan: Option<(u64, Scan)>,
    failures: u32,
    /// Blocks read and not committed: end, time of the first append.
    ahead: VecDeque<(Point, u64)>,
}

impl Reader {
    pub(super) fn open(
        ledger: Arc<Ledger>,
        position: watch::Receiver<Position>,
        output: &str,
        follow: Follow,
    ) -> io::Result<Reader> {
        let (mut checkpoint, point) = Checkpoint::open(&ledger.dir, output)?;
        let is_new = point.is_none();
        // The ledger may free what lies before the point.
        checkpoint.sync()?;
        let tail = position.borrow().tail;
        let at = ledger.enter(output, point, tail);
        if is_new {
            checkpoint.write(at)?;
            checkpoint.sync()?;
            segment::sync_dir(&ledger.dir)?;
        }
        ledger.telemetry.introduce(output);
        Ok(Reader {
            ledger,
            position,
            output: output.into(),
            follow,
            checkpoint,
            committed: at,
            at,
            scan: None,
            failures: 0,
            ahead: VecDeque::new(),
        })
    }

    /// Waits until there is something to read. Err: the writer is gone without
    /// having ended in order. Cancel-safe.
    pub async fn ready(&mut self) -> Result<Ready, watch::error::RecvError> {
        loop {
            let position = *self.position.borrow_and_update();
            if self.at.is_before(&self.bound(&position)) {
                return Ok(Ready::More);
            }
            if position.closed {
                return Ok(Ready::End);
            }
            self.position.changed().await?;
        }
    }

    fn bound(&self, position: &Position) -> Point {
        match self.follow {
            Follow::Sealed => position.sealed,
            Follow::Tail => position.tail,
        }
    }

    /// The next frames of one chunk: up to `most` bytes of tags and entries, or
    /// one frame when that alone is larger. None: nothing to read now.
    /// Errors: the file cannot be read; the same place is tried again by the
    /// next call, [`TRIES`] times, then stepped over.
    pub fn read(&mut self, most: usize) -> io::Result<Option<Block>> {
        match self.gather(most) {
            Ok(block) => {
                self.failures = 0;
                Ok(block)
            }
            Err(fault) => {
                self.scan = None;
                self.failures += 1;
                self.ledger.telemetry.error("read");
                if self.failures >= TRIES {
                    self.failures = 0;
                    self.give_up_segment(&fault);
                }
                Err(fault)
            }
        }
    }

    /// Counts records that the output leaves out because they are too large for its server.
    pub fn count_too_large(&self, n_records: u64) {
        self.ledger
            .count_dropped(&self.output, telemetry::TOO_LARGE, n_records);
    }

    /// Back to the last committed point: what was not delivered is read again.
    pub fn rewind(&mut self) {
        self.at = self.committed;
        self.scan = None;
        self.ahead.clear();
    }

    /// All records before `to` are delivered; survives kill -9 from here on.
    /// With `durable` it survives power loss as well and segments are freed.
    pub fn commit(&mut self, to: Point, durable: bool) -> io::Result<()> {
        self.committed = to;
        let mut next_ms = None;
        while let Some((_, time_ms)) = self.ahead.pop_front_if(|(end, _)| !to.is_before(end)) {
            next_ms = Some(time_ms);
        }
        let next_ms = self.ahead.front().map(|(_, time_ms)| *time_ms).or(next_ms);
        self.ledger.advance(&self.output, to, next_ms);
        let written = self.checkpoint.write(to).and_then(|()| {
            if durable {
                self.checkpoint.sync()?;
                self.ledger.synced(&self.output, to);
            }
            Ok(())
        });
        written.inspect_err(|_| self.ledger.telemetry.error("checkpoint"))
    }

    fn gather(&mut self, most: usize) -> io::Result<Option<Block>> {
        let bound = self.bound(&self.position.borrow());
        let mut block: Option<Block> = None;
        while self.at.is_before(&bound) {
            let Some(place) = self.ledger.locate(self.at, bound) else {
                self.note_gap(bound.record, !self.ledger.is_live(self.at.segment));
                self.at = bound;
                break;
            };
            if block.is_some() && place.segment != self.at.segment {
                break;
            }
            let limit = place.limit;
            let was_dropped = place.was_dropped;
            let scan = match self.enter(place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Dropped between the look and the open.
                    if block.is_some() || self.ledger.is_live(self.at.segment) {
                        return block.map_or(Err(error), |block| Ok(Some(block)));
                    }
                    continue;
                }
                other => other?,
            };
            match scan.peek(limit)? {
                Found::End => self.at.offset = limit,
                Found::Damage { to } => {
                    let from = scan.at;
                    scan.at = to;
                    self.at.offset = to;
                    self.ledger.telemetry.damaged_bytes.inc_by(to - from);
                    warn!(
                        path = %segment::path(&self.ledger.dir, self.at.segment).display(),
                        offset = from, bytes = to - from, output = self.output,
                        "stepped over damage in the log buffer"
                    );
                }
                Found::Frame(header) => {
                    let len = usize::from(header.tag_len) + header.payload_len as usize;
                    let fits = block.as_ref().is_none_or(|block| {
                        block.chunk == header.chunk && block.data.len() + len <= most
                    });
                    if !fits {
                        break;
                    }
                    let block = block.get_or_insert_with(|| Block {
                        chunk: header.chunk,
                        pieces: Vec::new(),
                        end: Point::default(),
                        data: Vec::new(),
                        time_ms: header.time_ms,
                    });
                    let (tag, entries) = scan.body(&header);
                    let start = block.data.len();
                    block.data.extend_from_slice(tag);
                    let middle = block.data.len();
                    block.data.extend_from_slice(entries);
                    block.pieces.push(Piece {
                        first_record: header.first_record,
                        n_records: header.n_records,
                        tag: start..middle,
                        entries: middle..block.data.len(),
                    });
                    scan.at += header.frame_len();
                    self.at.offset = scan.at;
                    self.note_gap(header.first_record, was_dropped);
                    self.at.record = header.first_record + u64::from(header.n_records);
                    block.end = self.at;
                }
            }
        }
        if let Some(block) = &block {
            self.ahead.push_back((block.end, block.time_ms));
            let oldest = self.ahead.front().map(|(_, time_ms)| *time_ms);
            self.ledger.advance(&self.output, self.committed, oldest);
        }
        Ok(block)
    }

    /// The scan at a place, going on where it can.
    fn enter(&mut self, place: Place) -> io::Result<&mut Scan> {
        let scan = match self.scan.take() {
            Some((n, scan)) if n == place.segment && scan.at == place.offset => scan,
            _ => Scan::open(&self.ledger.dir, place.segment, place.offset)?,
        };
        self.at.segment = place.segment;
        self.at.offset = place.offset;
        Ok(&mut self.scan.insert((place.segment, scan)).1)
    }

    /// Counts the records between the last one read and `next`.
    fn note_gap(&mut self, next: u64, was_dropped: bool) {
        let missing = next.saturating_sub(self.at.record);
        if missing == 0 {
            return;
        }
        self.at.record = next;
        if was_dropped {
            self.ledger
                .count_dropped(&self.output, telemetry::BUFFER_FULL, missing);
            error!(
                records = missing,
                output = self.output,
                "records were dropped before this output had them"
            );
        } else {
            self.ledger.count_lost(&self.output, missing);
            error!(
                records = missing,
                output = self.output,
                "records of the log buffer are lost to damage"
            );
        }
    }

    fn give_up_segment(&mut self, fault: &io::Error) {
        let bound = self.bound(&self.position.borrow());
        if let Some(place) = self.ledger.locate(self.at, bound) {
            self.at.segment = place.segment;
            self.at.offset = place.limit;
            error!(
                path = %segment::path(&self.ledger.dir, place.segment).display(),
                offset = place.offset, bytes = place.limit - place.offset, error = %fault,
                output = self.output, "cannot read a segment: its rest is given up"
            );
        }
    }
}
