//! One segment file, `<n>.seg`: 16 bytes of head, then frames.
//!
//! The head is `aLG1`, the CRC32C of the mark, and the mark (8 bytes), which
//! each frame repeats. With a damaged head the first frame tells the mark. The
//! fourth byte is the format; the rest of the head is the same in every format.

use super::frame::{HEADER, Header};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where the first frame starts. Unit: bytes.
pub(super) const HEAD: u64 = 16;
const MAGIC: [u8; 4] = *b"aLG1";
/// The digit in [`MAGIC`].
pub(super) const FORMAT: u32 = 1;
/// Bytes read at once while scanning.
const WINDOW: u64 = 256 << 10;

pub(super) fn path(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("{n:016}.seg"))
}

/// All segments by number with their lengths in bytes. Other files are not ours.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".seg"))
            .filter(|stem| stem.len() == 16 && stem.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|stem| stem.parse().ok());
        if let Some(number) = number {
            segments.push((number, entry.metadata()?.len()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// A new segment with its space set aside where the file system can do that.
pub(super) fn create(dir: &Path, n: u64, mark: u64, size: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path(dir, n))?;
    let mark = mark.to_le_bytes();
    let mut head = [0; HEAD as usize];
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&crc32c::crc32c(&mark).to_le_bytes());
    head[8..].copy_from_slice(&mark);
    file.write_all_at(&head, 0)?;
    // Only a saving (one allocation instead of thousands): without it writes still work.
    let _ = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size);
    Ok(file)
}

/// The format that a sound head names; 0 where it is damaged or none.
pub(super) fn format(dir: &Path, n: u64) -> io::Result<u32> {
    let mut head = [0; HEAD as usize];
    let read = read_some(&File::open(path(dir, n))?, &mut head, 0)?;
    let sound = read == head.len() && head[4..8] == crc32c::crc32c(&head[8..]).to_le_bytes();
    let digit = char::from(head[3]).to_digit(10);
    Ok(digit
        .filter(|_| sound && head[..3] == MAGIC[..3])
        .unwrap_or_default())
}

/// Makes a directory's entries durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What lies at the scan's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Frame(Header),
    /// Bytes up to this offset hold no whole frame.
    Damage {
        to: u64,
    },
    /// The limit is reached.
    End,
}

/// Walks the frames of one segment. Memory: one window, or one frame if larger.
pub(super) struct Scan {
    file: File,
    mark: u64,
    /// Offset of the next frame. Unit: bytes.
    pub at: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl Scan {
    pub fn open(dir: &Path, n: u64, at: u64) -> io::Result<Scan> {
        let file = File::open(path(dir, n))?;
        let mut head = [0; HEAD as usize + 8];
        let read = read_some(&file, &mut head, 0)?;
        let mark_at = |at: usize| {
            let mut mark = [0; 8];
            mark.copy_from_slice(&head[at..at + 8]);
            mark
        };
        let mark = mark_at(8);
        let sound = read >= HEAD as usize
            && head[..4] == MAGIC
            && head[4..8] == crc32c::crc32c(&mark).to_le_bytes();
        let mark = if sound { mark } else { mark_at(16) };
        Ok(Scan {
            file,
            mark: u64::from_le_bytes(mark),
            at: at.max(HEAD),
            window: Vec::new(),
            window_at: 0,
        })
    }

    /// Looks at the frame at [`Scan::at`] without going on.
    pub fn peek(&mut self, limit: u64) -> io::Result<Found> {
        if self.at >= limit {
            return Ok(Found::End);
        }
        if limit - self.at >= HEADER as u64 {
            self.fill(HEADER as u64, limit)?;
            if let Some(header) = Header::decode(self.mark, self.here()) {
                let len = header.frame_len();
                if len <= limit - self.at {
                    self.fill(len, limit)?;
                    let body = &self.here()[HEADER..len as usize];
                    return Ok(if crc32c::crc32c(body) == header.body_crc {
                        Found::Frame(header)
                    } else {
                        Found::Damage { to: self.at + len }
                    });
                }
            }
        }
        let to = self.resync(limit)?;
        Ok(Found::Damage { to })
    }

    /// Tag and payload of the frame that [`Scan::peek`] has just found.
    pub fn body(&self, header: &Header) -> (&[u8], &[u8]) {
        let body = &self.here()[HEADER..];
        let (tag, rest) = body.split_at(header.tag_len.into());
        (tag, &rest[..header.payload_len as usize])
    }

    fn here(&self) -> &[u8] {
        &self.window[(self.at - self.window_at) as usize..]
    }

    /// Offset of the next header behind this place, or the limit.
    fn resync(&mut self, limit: u64) -> io::Result<u64> {
        let start = self.at;
        let mark = self.mark.to_le_bytes();
        self.at += 1;
        while limit.saturating_sub(self.at) >= HEADER as u64 {
            self.fill(HEADER as u64, limit)?;
            let here = self.here();
            match here.windows(8).position(|bytes| bytes == mark) {
                Some(0) if Header::decode(self.mark, here).is_some() => {
                    let found = self.at;
                    self.at = start;
                    return Ok(found);
                }
                Some(0) => self.at += 1,
                Some(skip) => self.at += skip as u64,
                None => self.at += here.len() as u64 - 7,
            }
        }
        self.at = start;
        Ok(limit)
    }

    /// Has at least `need` bytes from this place in the window. The file must hold them.
    fn fill(&mut self, need: u64, limit: u64) -> io::Result<()> {
        let window_end = self.window_at + self.window.len() as u64;
        if self.at >= self.window_at && self.at + need <= window_end {
            return Ok(());
        }
        let want = need.max(WINDOW).min(limit - self.at);
        if self.window.capacity() > 4 * WINDOW as usize && want <= WINDOW {
            self.window = Vec::new();
        }
        self.window.resize(want as usize, 0);
        self.window_at = self.at;
        let read = read_some(&self.file, &mut self.window, self.at)?;
        self.window.truncate(read);
        if (read as u64) < need {
            self.window.clear();
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// Reads until the buffer is full or the file ends.
fn read_some(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], at + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
