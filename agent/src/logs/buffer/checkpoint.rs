//! How far one output has come, kept in `<output>.cursor`.
//!
//! The file holds two slots of 512 bytes, written in turn, each with a
//! generation and a checksum: a torn write spoils at most the newer one.
//! With both spoilt the output starts at the oldest record: sent twice, not lost;
//! so it does with those of a newer agent.

use super::Point;
use std::fmt::Write;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tracing::warn;

const MAGIC: [u8; 4] = *b"aLC1";
const SLOT: u64 = 512;
const USED: usize = 40;

pub(super) struct Checkpoint {
    file: File,
    generation: u64,
}

/// The file of an output. Bytes that a file name should not have become `%xx`.
pub(super) fn path(dir: &Path, output: &str) -> PathBuf {
    let mut name = String::new();
    for byte in output.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            name.push(byte.into());
        } else {
            let _ = write!(name, "%{byte:02x}");
        }
    }
    dir.join(name + ".cursor")
}

impl Checkpoint {
    /// Opens or makes the file. None: it holds no valid slot.
    pub fn open(dir: &Path, output: &str) -> io::Result<(Checkpoint, Option<Point>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path(dir, output))?;
        let newest = read(&file);
        if newest.is_none() && is_newer(&file) {
            warn!(
                output,
                "checkpoint was written by a newer agent: records may be sent twice"
            );
            // Or its slot would win over ours when that agent is back.
            file.set_len(0)?;
        }
        let generation = newest.map_or(0, |(generation, _)| generation);
        let checkpoint = Checkpoint { file, generation };
        Ok((checkpoint, newest.map(|(_, point)| point)))
    }

    /// Survives kill -9 from here on.
    pub fn write(&mut self, point: Point) -> io::Result<()> {
        let generation = self.generation + 1;
        let mut slot = [0; SLOT as usize];
        slot[..4].copy_from_slice(&MAGIC);
        slot[8..16].copy_from_slice(&generation.to_le_bytes());
        slot[16..24].copy_from_slice(&point.segment.to_le_bytes());
        slot[24..32].copy_from_slice(&point.offset.to_le_bytes());
        slot[32..40].copy_from_slice(&point.record.to_le_bytes());
        let crc = crc32c::crc32c(&slot[8..USED]);
        slot[4..8].copy_from_slice(&crc.to_le_bytes());
        self.file
            .write_all_at(&slot, generation % 2 * SLOT)
            .inspect(|()| self.generation = generation)
    }

    /// Survives power loss from here on.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The point in a checkpoint file, if it is one; durable from here on.
pub(super) fn peek(path: &Path) -> Option<Point> {
    let file = File::open(path).ok()?;
    let _ = file.sync_data();
    read(&file).map(|(_, point)| point)
}

/// A slot of the same name and a format of its own.
fn is_newer(file: &File) -> bool {
    [0, SLOT].into_iter().any(|at| {
        let mut magic = [0; 4];
        file.read_exact_at(&mut magic, at).is_ok()
            && magic[..3] == MAGIC[..3]
            && magic[3].is_ascii_digit()
            && magic[3] > MAGIC[3]
    })
}

fn read(file: &File) -> Option<(u64, Point)> {
    let slots = [0, SLOT].map(|at| {
        let mut slot = [0; USED];
        file.read_exact_at(&mut slot, at).ok()?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&slot[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let sound = slot[..4] == MAGIC && slot[4..8] == crc32c::crc32c(&slot[8..]).to_le_bytes();
        let point = Point {
            segment: number(16),
            offset: number(24),
            record: number(32),
        };
        sound.then_some((number(8), point))
    });
    slots
        .into_iter()
        .flatten()
        .max_by_key(|(generation, _)| *generation)
}

#[cfg(test)]
mod tests {
    use super::{Checkpoint, Point, path};
    use std::fs;

    fn point(segment: u64) -> Point {
        Point {
            segment,
            offset: 16,
            record: 5,
        }
    }

    #[test]
    fn a_newer_agents_checkpoint_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path(), "o");
        let mut slots = [0; 1024];
        slots[512..516].copy_from_slice(b"aLC2");
        fs::write(&file, slots).unwrap();
        let (mut checkpoint, none) = Checkpoint::open(dir.path(), "o").unwrap();
        assert_eq!(none, None);
        checkpoint.write(point(7)).unwrap();
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(4).any(|four| four == b"aLC2"));
        assert_eq!(Checkpoint::open(dir.path(), "o").unwrap().1, Some(point(7)));
    }

    #[test]
    fn a_torn_newer_slot_leaves_the_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let (mut checkpoint, none) = Checkpoint::open(dir.path(), "out/put").unwrap();
        assert_eq!(none, None);
        checkpoint.write(point(1)).unwrap();
        checkpoint.write(point(2)).unwrap();
        let file = path(dir.path(), "out/put");
        assert!(file.ends_with("out%2fput.cursor"));
        assert_eq!(
            Checkpoint::open(dir.path(), "out/put").unwrap().1,
            Some(point(2))
        );
        // Generation 2 lies in the first slot.
        let mut bytes = fs::read(&file).unwrap();
        bytes[20] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert_eq!(
            Checkpoint::open(dir.path(), "out/put").unwrap().1,
            Some(point(1))
        );
        bytes[512 + 20] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert_eq!(Checkpoint::open(dir.path(), "out/put").unwrap().1, None);
    }
}
