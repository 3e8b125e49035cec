//! What the files say, kept for as long as they stay as they are.
//!
//! A file is read again when its device, inode, size or mtime differ from those
//! of the last read, or when it was so young then that a later change could
//! bear the same time.

use crate::metrics::prom::{self, Family};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// More is refused: a page of this size cannot be scraped in time. Octets.
pub const MAX_SIZE: u64 = 1 << 20;
/// Steps of a file system's clock are shorter by far.
const SETTLED: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Kept {
    files: BTreeMap<PathBuf, Entry>,
    /// Files read so far; for the test.
    pub reads: usize,
}

struct Entry {
    stamp: Stamp,
    is_settled: bool,
    outcome: Result<Content, String>,
    /// Asked for at this scrape.
    is_wanted: bool,
}

/// A file that is in order.
pub struct Content {
    pub families: Vec<Family>,
    /// Whole seconds since 1970.
    pub mtime: i64,
    /// Samples, and octets that they take on the page, as far as labels go.
    pub samples: usize,
    pub octets: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Kept {
    /// Forgets what was not looked at since the last call.
    pub fn sweep(&mut self) {
        self.files
            .retain(|_, entry| std::mem::take(&mut entry.is_wanted));
    }

    /// Looks at the file, and reads it if that is needed.
    pub fn look(&mut self, path: &Path, now: SystemTime) {
        let stamp = match stamp(path) {
            Ok(stamp) => stamp,
            Err(error) => return self.put(path, NOTHING, true, Err(error.to_string())),
        };
        if let Some(entry) = self.files.get_mut(path)
            && entry.is_settled
            && entry.stamp == stamp
        {
            entry.is_wanted = true;
            return;
        }
        self.reads += 1;
        let outcome = read(path).and_then(|(text, mtime)| content(text, mtime));
        let age = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(stamp.mtime.0.try_into().unwrap_or(0)))
            .and_then(|mtime| now.duration_since(mtime).ok());
        let is_settled = age.is_some_and(|age| age >= SETTLED);
        self.put(path, stamp, is_settled, outcome);
    }

    fn put(
        &mut self,
        path: &Path,
        stamp: Stamp,
        is_settled: bool,
        outcome: Result<Content, String>,
    ) {
        let entry = Entry {
            stamp,
            is_settled,
            outcome,
            is_wanted: true,
        };
        self.files.insert(path.to_owned(), entry);
    }

    /// What was last found at that path, or what is wrong with it.
    pub fn get(&self, path: &Path) -> Result<&Content, &str> {
        match self.files.get(path).map(|entry| &entry.outcome) {
            Some(Ok(content)) => Ok(content),
            Some(Err(what)) => Err(what),
            None => Err("was not read"),
        }
    }
}

/// Equals no file's: such have a device.
const NOTHING: Stamp = Stamp {
    device: 0,
    inode: 0,
    size: 0,
    mtime: (0, 0),
};

/// Opens nothing: that alone can wait for ever on a FIFO, or do something on a device.
fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    check(&metadata)?;
    Ok(Stamp::of(&metadata))
}

fn check(metadata: &Metadata) -> io::Result<()> {
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.size() > MAX_SIZE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(())
}

fn read(path: &Path) -> Result<(Vec<u8>, i64), String> {
    read_bytes(path).map_err(|error| error.to_string())
}

fn read_bytes(path: &Path) -> io::Result<(Vec<u8>, i64)> {
    // It may be another file than a moment ago: opening must not wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    check(&file.metadata()?)?;
    let mut bytes = Vec::new();
    (&file).take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // After reading: what was written meanwhile must not look like what was read.
    Ok((bytes, file.metadata()?.mtime()))
}

fn content(text: Vec<u8>, mtime: i64) -> Result<Content, String> {
    let text = String::from_utf8(text).map_err(|_| "not UTF-8".to_owned())?;
    let families = prom::parse(&text)?;
    let series = families.iter().flat_map(|family| &family.series);
    Ok(Content {
        mtime,
        samples: series.map(|series| series.lines()).sum(),
        octets: families.iter().map(octets).sum(),
        families,
    })
}

/// `name{label="value",…}`: what hostile label sets can blow up.
fn octets(family: &Family) -> usize {
    let labels: usize = family.labels.iter().map(|label| label.len() + 4).sum();
    let line = family.name.len() + labels;
    let series = family.series.iter().map(|series| {
        let values: usize = series.values.iter().map(|value| value.len()).sum();
        series.lines() * (line + values)
    });
    series.sum()
}
