//! The one thread that appends.
//!
//! All that waits in the channel goes out in one write. A write that fails is
//! tried again for ever with the records in hand, so the channel fills and
//! senders wait: nothing is lost and nothing grows. fdatasync comes at most
//! `sync_interval` after a write and before a chunk is published as sealed; a
//! sync that fails is reported and holds nothing back.

use super::frame::{ChunkId, Encoder, HEADER};
use super::ledger::{Ledger, Segment, now_ms};
use super::{Append, Position, Settings, WhenFull, segment};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

/// Most appends taken from the channel at once.
const MANY: usize = 256;
/// About how much goes into one write. Unit: bytes.
const GROUP: u64 = 1 << 20;
/// The loop turns at least this often, with nothing to do.
const TURN: Duration = Duration::from_secs(5);
/// Waits between tries of a write: doubled from first to last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

pub struct Writer {
    settings: Settings,
    ledger: Arc<Ledger>,
    position: watch::Sender<Position>,
    given_up: watch::Receiver<bool>,
    open: Option<Open>,
    next_segment: u64,
    next_record: u64,
    chunk: Option<(ChunkId, Instant)>,
    /// Since when there is something to sync.
    dirty: Option<Instant>,
    dir_dirty: bool,
    slab: Vec<u8>,
}

/// The segment that is appended to.
struct Open {
    n: u64,
    file: File,
    mark: u64,
    size: u64,
}

/// The buffer was told to stop where it stands.
struct GivenUp;

enum Event {
    Appends,
    Closed,
    GivenUp,
    Due,
}

impl Writer {
    pub(super) fn new(
        settings: Settings,
        ledger: Arc<Ledger>,
        position: watch::Sender<Position>,
        given_up: watch::Receiver<bool>,
    ) -> Writer {
        let tail = position.borrow().tail;
        Writer {
            settings,
            ledger,
            position,
            given_up,
            open: None,
            next_segment: tail.segment + 1,
            next_record: tail.record,
            chunk: None,
            dirty: None,
            dir_dirty: false,
            slab: Vec::new(),
        }
    }

    /// Appends until every `Intake` is gone, then seals; or until the buffer
    /// gives up. Blocks: for a thread of its own. Calls `turned` every five seconds
    /// at least, unless a file operation hangs.
    pub fn run(mut self, mut appends: mpsc::Receiver<Append>, turned: &dyn Fn()) {
        let clock = match Builder::new_current_thread().enable_time().build() {
            Ok(clock) => clock,
            Err(error) => {
                error!(%error, "cannot start the log writer");
                return;
            }
        };
        let mut taken = Vec::new();
        loop {
            turned();
            match self.wait(&clock, &mut appends, &mut taken) {
                Event::Closed => break,
                Event::GivenUp => return,
                Event::Due => {}
                Event::Appends => {
                    if let Err(GivenUp) = self.store(&clock, &mut taken, turned) {
                        warn!("log writer stops with records not stored; their senders got no ack");
                        return;
                    }
                }
            }
            self.tick();
        }
        self.rotate();
        self.position.send_modify(|position| position.closed = true);
    }

    fn wait(
        &mut self,
        clock: &Runtime,
        appends: &mut mpsc::Receiver<Append>,
        taken: &mut Vec<Append>,
    ) -> Event {
        let due = self.due().min(TURN);
        let given_up = &mut self.given_up;
        clock.block_on(async {
            tokio::select! {
                biased;
                _ = given_up.changed() => Event::GivenUp,
                n = appends.recv_many(taken, MANY) => match n {
                    0 => Event::Closed,
                    _ => Event::Appends,
                },
                () = tokio::time::sleep(due) => Event::Due,
            }
        })
    }

    /// Until something has to be synced or sealed.
    fn due(&self) -> Duration {
        let sync = self
            .dirty
            .map(|since| self.settings.sync_interval.saturating_sub(since.elapsed()));
        let seal = self
            .chunk
            .map(|(_, since)| self.settings.flush_interval.saturating_sub(since.elapsed()));
        [sync, seal].into_iter().flatten().min().unwrap_or(TURN)
    }

    fn tick(&mut self) {
        let over = |since: Instant, interval| since.elapsed() >= interval;
        if self
            .chunk
            .is_some_and(|(_, since)| over(since, self.settings.flush_interval))
        {
            self.seal();
        }
        if self
            .dirty
            .is_some_and(|since| over(since, self.settings.sync_interval))
        {
            self.sync();
        }
    }

    /// Writes what was taken, in groups, and answers.
    fn store(
        &mut self,
        clock: &Runtime,
        taken: &mut Vec<Append>,
        turned: &dyn Fn(),
    ) -> Result<(), GivenUp> {
        let most = GROUP.min(self.settings.chunk_size);
        let mut group = Vec::new();
        let mut need = 0;
        let mut rest = taken.drain(..).peekable();
        while let Some(append) = rest.next() {
            need += framed(&append);
            group.push(append);
            let next = rest.peek().map(framed);
            if next.is_none_or(|next| need + next > most) {
                if need > 0 {
                    self.write(clock, &group, need, turned)?;
                }
                for append in group.drain(..) {
                    // A connection that is gone does not wait for its answer.
                    let _ = append.stored.send(());
                }
                need = 0;
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        clock: &Runtime,
        group: &[Append],
        need: u64,
        turned: &dyn Fn(),
    ) -> Result<(), GivenUp> {
        let mut pause = FIRST_PAUSE;
        let mut failed = false;
        loop {
            self.make_room(clock, need, turned)?;
            let Err(fault) = self.attempt(group, need) else {
                if failed {
                    self.ledger.clear_error();
                    info!("log buffer takes records again");
                }
                return Ok(());
            };
            failed = true;
            self.ledger.telemetry.error("write");
            let text = format!("cannot write to {}: {fault}", self.settings.dir.display());
            if self.ledger.set_error(text, false) {
                error!(path = %self.settings.dir.display(), error = %fault, "log buffer cannot write; senders wait");
            }
            // On a full disk the segment must end so that it can go once it is
            // delivered; any other error may be this file's alone.
            let holds_records = self
                .open
                .as_ref()
                .is_some_and(|open| open.size > segment::HEAD);
            if holds_records || fault.kind() != io::ErrorKind::StorageFull {
                self.rotate();
            }
            self.pause(clock, pause, turned)?;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn pause(
        &mut self,
        clock: &Runtime,
        pause: Duration,
        turned: &dyn Fn(),
    ) -> Result<(), GivenUp> {
        let until = Instant::now() + pause;
        loop {
            turned();
            self.tick();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let given_up = &mut self.given_up;
            let stop = clock.block_on(async {
                tokio::select! {
                    biased;
                    _ = given_up.changed() => true,
                    () = tokio::time::sleep(left.min(TURN)) => false,
                }
            });
            if stop {
                return Err(GivenUp);
            }
        }
    }

    /// One try: nothing is published, counted or answered if it fails.
    fn attempt(&mut self, group: &[Append], need: u64) -> io::Result<()> {
        let size = self.open.as_ref().map_or(0, |open| open.size);
        if size > segment::HEAD && size + need > self.settings.chunk_size {
            self.rotate();
        }
        if self.open.is_none() {
            self.open = Some(self.begin()?);
        }
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let (chunk, since) = self
            .chunk
            .unwrap_or_else(|| (ChunkId::random(), Instant::now()));
        self.slab.clear();
        let mut encoder = Encoder::new(&mut self.slab, open.mark, chunk, self.next_record);
        for batch in group.iter().flat_map(|append| &append.batches) {
            if batch.n_records > 0 {
                encoder.push(&batch.tag, &batch.entries, batch.n_records);
            }
        }
        let next_record = encoder.finish();
        // At a fixed offset: what a failed try left behind is overwritten by the next.
        open.file.write_all_at(&self.slab, open.size)?;
        open.size += self.slab.len() as u64;
        self.chunk = Some((chunk, since));
        self.next_record = next_record;
        self.dirty.get_or_insert_with(Instant::now);
        self.ledger.grow(open.n, self.slab.len() as u64);
        let (segment, offset) = (open.n, open.size);
        self.position.send_modify(|position| {
            position.tail.segment = segment;
            position.tail.offset = offset;
            position.tail.record = next_record;
        });
        if self.slab.capacity() as u64 > 2 * GROUP {
            self.slab = Vec::new();
        }
        if offset >= self.settings.chunk_size {
            self.rotate();
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<Open> {
        let n = self.next_segment;
        let mark = fastrand::u64(..);
        let file = segment::create(&self.settings.dir, n, mark, self.settings.chunk_size)?;
        self.next_segment += 1;
        self.dir_dirty = true;
        let entry = Segment {
            bytes: segment::HEAD,
            first_record: self.next_record,
            first_ms: now_ms(),
        };
        self.ledger.add(n, entry, true);
        Ok(Open {
            n,
            file,
            mark,
            size: segment::HEAD,
        })
    }

    /// Waits, or drops, until `need` bytes fit. An empty buffer takes any append.
    fn make_room(&mut self, clock: &Runtime, need: u64, turned: &dyn Fn()) -> Result<(), GivenUp> {
        let mut space = self.ledger.space();
        loop {
            turned();
            let total = *space.borrow_and_update();
            if total == 0 || total + need <= self.settings.limit() {
                return Ok(());
            }
            // The open segment could be neither freed nor dropped.
            if self.open.is_some() {
                self.rotate();
                continue;
            }
            if self.settings.when_full == WhenFull::DropOldest {
                match self.ledger.drop_oldest() {
                    Some(n) => error!(segment = n, "log buffer full: dropped its oldest segment"),
                    None => return Ok(()),
                }
                continue;
            }
            if self.ledger.set_full(true) {
                warn!(
                    bytes = total,
                    limit = self.settings.limit(),
                    "log buffer full: senders wait"
                );
            }
            let given_up = &mut self.given_up;
            let stop = clock.block_on(async {
                tokio::select! {
                    biased;
                    _ = given_up.changed() => true,
                    _ = space.changed() => false,
                    () = tokio::time::sleep(TURN) => false,
                }
            });
            if stop {
                return Err(GivenUp);
            }
        }
    }

    /// Seals the chunk and ends the segment.
    fn rotate(&mut self) {
        self.seal();
        let Some(open) = self.open.take() else {
            return;
        };
        if open.size == segment::HEAD {
            self.ledger.remove(open.n);
        } else if let Err(error) = open.file.set_len(open.size) {
            // Gives back what was set aside; a torn rest is stepped over when read.
            warn!(segment = open.n, %error, "cannot trim a segment");
        }
        self.dirty = None;
        self.ledger.close();
    }

    /// Ends the chunk: durable, then visible to outputs that read sealed chunks.
    fn seal(&mut self) {
        if self.chunk.take().is_some() {
            self.sync();
            self.position
                .send_modify(|position| position.sealed = position.tail);
        }
    }

    fn sync(&mut self) {
        let (Some(open), Some(_)) = (&self.open, self.dirty) else {
            return;
        };
        let synced = open.file.sync_data().and_then(|()| {
            if self.dir_dirty {
                segment::sync_dir(&self.settings.dir)?;
            }
            Ok(())
        });
        match synced {
            Ok(()) => {
                self.dirty = None;
                self.dir_dirty = false;
                self.ledger.clear_sync_error();
            }
            Err(fault) => {
                self.dirty = Some(Instant::now());
                self.ledger.telemetry.error("sync");
                let path = segment::path(&self.settings.dir, open.n);
                let text = format!("cannot sync {}: {fault}", path.display());
                if self.ledger.set_error(text, true) {
                    error!(path = %path.display(), error = %fault, "log buffer cannot sync; a power loss now would lose records");
                }
            }
        }
    }
}

/// Most bytes that an append takes in a segment.
fn framed(append: &Append) -> u64 {
    let frames = append.batches.iter().filter(|batch| batch.n_records > 0);
    frames
        .map(|batch| (HEADER + batch.tag.len() + batch.entries.len()) as u64)
        .sum()
}
