//! Opening the buffer: what the last run left is taken over, damage and all.
//!
//! Only the newest segment can have a torn tail, so only that one is read
//! whole (and those before it, as long as they hold no record: the last record
//! tells the next number); the others are checked when they are read. A new segment is begun
//! after each start, so a checkpoint never points into rewritten bytes.

use super::ledger::{Ledger, Segment, Status};
use super::segment::{self, Found, Scan};
use super::telemetry::{Gauges, Telemetry};
use super::writer::Writer;
use super::{Follow, OpenError, Point, Position, Reader, Settings, checkpoint};
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{info, warn};

/// The open buffer: makes readers, answers reporters, holds the directory's lock.
pub struct Buffer {
    ledger: Arc<Ledger>,
    position: watch::Receiver<Position>,
    give_up: watch::Sender<bool>,
    /// flock(2): freed by the kernel when the process ends, however it ends.
    _lock: File,
}

/// Opens the buffer for these outputs; the checkpoints of others are removed.
/// Errors: the directory cannot be used, or another agent uses it. Never for damaged data.
pub fn open(
    settings: &Settings,
    outputs: &[&str],
    registry: &prometheus::Registry,
) -> Result<(Buffer, Writer), OpenError> {
    let dir = &settings.dir;
    let unusable = |source| OpenError::Dir {
        path: dir.clone(),
        source,
    };
    fs::create_dir_all(dir).map_err(unusable)?;
    let mut lock = self::lock(dir)?;
    if set_aside_newer(dir).map_err(unusable)? {
        fs::create_dir_all(dir).map_err(unusable)?;
        lock = self::lock(dir)?;
    }
    let telemetry = Telemetry::new(registry).map_err(OpenError::Metrics)?;
    let ledger = Arc::new(Ledger::new(dir.clone(), settings.limit(), telemetry));
    let gauges = Gauges::new(ledger.clone()).map_err(OpenError::Metrics)?;
    registry
        .register(Box::new(gauges))
        .map_err(OpenError::Metrics)?;

    let segments = segment::list(dir).map_err(unusable)?;
    let mut end = Point::default();
    if let Some(&(newest, _)) = segments.last() {
        end.segment = newest;
        end.offset = segment::HEAD;
    }
    let mut end_is_known = false;
    for (n, len) in segments.into_iter().rev() {
        let taken = if end_is_known {
            take_older(&ledger, n, len)
        } else {
            take_newest(&ledger, n, len).map(|taken| {
                if let Some((offset, record)) = taken {
                    end_is_known = true;
                    end.record = record;
                    if n == end.segment {
                        end.offset = offset;
                    }
                }
            })
        };
        if let Err(error) = taken {
            // Kept: the readers try again, and step over it if it stays so.
            warn!(path = %segment::path(dir, n).display(), %error, "cannot read a segment of the log buffer");
            let unknown = Segment {
                bytes: len,
                first_record: 0,
                first_ms: super::ledger::now_ms(),
            };
            ledger.add(n, unknown, false);
            if n == end.segment {
                end.offset = len;
            }
        }
    }
    for output in outputs {
        if let Some(point) = checkpoint::peek(&checkpoint::path(dir, output)) {
            // Numbers are never used twice, even if files are gone.
            end.record = end.record.max(point.record);
            if point.segment > end.segment {
                end.segment = point.segment;
                end.offset = point.offset;
            }
        }
    }
    for output in outputs {
        let point = checkpoint::peek(&checkpoint::path(dir, output));
        ledger.enter(output, point, end);
    }
    remove_strange_checkpoints(dir, outputs).map_err(unusable)?;
    ledger.release();

    let (position_tx, position) = watch::channel(Position {
        sealed: end,
        tail: end,
        closed: false,
    });
    let (give_up, given_up) = watch::channel(false);
    let writer = Writer::new(settings.clone(), ledger.clone(), position_tx, given_up);
    let buffer = Buffer {
        ledger,
        position,
        give_up,
        _lock: lock,
    };
    Ok((buffer, writer))
}

impl Buffer {
    /// The output's place, at its checkpoint; a new output starts at the oldest record.
    /// One reader per output at a time.
    pub fn reader(&self, output: &str, follow: Follow) -> io::Result<Reader> {
        Reader::open(self.ledger.clone(), self.position.clone(), output, follow)
    }

    /// The output is gone for good: its checkpoint is removed and pins no segment.
    pub fn forget(&self, output: &str) {
        self.ledger.leave(output);
        let path = checkpoint::path(&self.ledger.dir, output);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(path = %path.display(), %error, "cannot remove a checkpoint");
        }
    }

    /// Ends the writer where it stands; appends not stored stay unanswered.
    pub fn give_up(&self) {
        self.give_up.send_replace(true);
    }

    pub fn status(&self) -> Status {
        self.ledger.status()
    }

    /// Closed without `closed` being set: the writer ended unasked.
    pub fn position(&self) -> watch::Receiver<Position> {
        self.position.clone()
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let unusable = |source| OpenError::Dir {
        path: dir.into(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join("lock"))
        .map_err(unusable)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked { path: dir.into() }),
        Err(error) => Err(unusable(error.into())),
    }
}

/// A buffer that a newer agent wrote to is kept for it, as `<dir>.v<format>`:
/// read by this one it would be nothing but damage, and be cut. One such at
/// most is kept for each format, so the disk stays bounded. True: moved.
fn set_aside_newer(dir: &Path) -> io::Result<bool> {
    let mut format = 0;
    let mut bytes = 0;
    for (n, len) in segment::list(dir)? {
        bytes += len;
        // One that cannot be read is the readers' to give up.
        format = format.max(segment::format(dir, n).unwrap_or_default());
    }
    if format <= segment::FORMAT {
        return Ok(false);
    }
    let mut aside = dir.as_os_str().to_owned();
    aside.push(format!(".v{format}"));
    let aside = Path::new(&aside);
    match fs::remove_dir_all(aside) {
        Ok(()) => {
            warn!(path = %aside.display(), "an earlier log buffer of a newer agent gives way");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::rename(dir, aside)?;
    warn!(
        path = %dir.display(), format, known = segment::FORMAT, aside = %aside.display(), bytes,
        "the log buffer was written by a newer agent and is kept aside for it, undelivered records and \
         all: with that agent, move it back; this one begins an empty one"
    );
    Ok(true)
}

/// Enters a segment by its first sound frame.
fn take_older(ledger: &Ledger, n: u64, len: u64) -> io::Result<()> {
    let mut scan = Scan::open(&ledger.dir, n, segment::HEAD)?;
    let mut segment = Segment {
        bytes: len,
        first_record: 0,
        first_ms: super::ledger::now_ms(),
    };
    loop {
        match scan.peek(len)? {
            Found::Damage { to } => scan.at = to,
            Found::End => break,
            Found::Frame(header) => {
                segment.first_record = header.first_record;
                segment.first_ms = header.time_ms;
                break;
            }
        }
    }
    ledger.add(n, segment, false);
    Ok(())
}

/// Reads the newest segment whole and cuts what lies behind its last sound
/// frame. Answers where that frame ends, and the number of the record after it.
/// None: it held no record and is removed; the one before tells the number.
fn take_newest(ledger: &Ledger, n: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
    let mut scan = Scan::open(&ledger.dir, n, segment::HEAD)?;
    let mut first = None;
    let mut offset = segment::HEAD;
    let mut record = 0;
    loop {
        match scan.peek(len)? {
            Found::End => break,
            Found::Damage { to } => scan.at = to,
            Found::Frame(header) => {
                first.get_or_insert((header.first_record, header.time_ms));
                scan.at += header.frame_len();
                offset = scan.at;
                record = header.first_record + u64::from(header.n_records);
            }
        }
    }
    let path = segment::path(&ledger.dir, n);
    if offset < len {
        let cut = len - offset;
        warn!(path = %path.display(), offset, bytes = cut, "cut a torn tail off the log buffer");
        ledger.telemetry.damaged_bytes.inc_by(cut);
        OpenOptions::new()
            .write(true)
            .open(&path)?
            .set_len(offset)?;
    }
    let Some((first_record, first_ms)) = first else {
        fs::remove_file(&path)?;
        return Ok(None);
    };
    let segment = Segment {
        bytes: offset,
        first_record,
        first_ms,
    };
    ledger.add(n, segment, false);
    Ok(Some((offset, record)))
}

fn remove_strange_checkpoints(dir: &Path, outputs: &[&str]) -> io::Result<()> {
    let known: Vec<_> = outputs
        .iter()
        .map(|output| checkpoint::path(dir, output))
        .collect();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_checkpoint = path.extension() == Some(OsStr::new("cursor"));
        if is_checkpoint && !known.contains(&path) && checkpoint::peek(&path).is_some() {
            info!(path = %path.display(), "output is no longer configured: its checkpoint is removed");
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
