//! Kept descriptors: a /proc or /sys file is opened once and read from its
//! start at each scrape, which costs a quarter of opening it each time. Where the kernel is
//! known to make a file in one piece, or of short lines, a read that leaves room is its last;
//! of others the end is read as well, which for some walks a whole table again.
//!
//! A read that fails drops the descriptor and tries once with a fresh one, so
//! that a device or process that came back is seen. So does a file of more
//! than one read that does not end with a line: it shrank between two of them,
//! and its last number may be half of one. A missing file is [`CollectError::Absent`],
//! everything else [`CollectError::Read`].

use crate::metrics::collector::CollectError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// First buffer. The kernel allocates as much as a sysctl reader asks for, so
/// it starts small and grows to what the file needs.
const FIRST_READ: usize = 4096;
/// No /proc or /sys text that we read comes near this; more is refused.
const MAX_SIZE: usize = 16 << 20;

/// The most that the kernel gives of a file of many records at one read.
const PAGE: usize = 4096;
/// Longer than any line of the files that are read as [`Source::of_short_lines`].
const SHORT_LINE: usize = 512;

/// One file, its descriptor and its buffer.
pub struct Source {
    path: PathBuf,
    made: Made,
    file: Option<File>,
    buffer: Vec<u8>,
}

/// How the kernel gives a file out: what tells that a read was the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// Whole records, as many as fit; any of them may be long.
    OfRecords,
    OfShortLines,
    InOnePiece,
}

/// What one read gave. Bytes that are not UTF-8 are replaced.
pub struct Text<'a> {
    path: &'a Path,
    text: Cow<'a, str>,
}

impl Source {
    /// Opens nothing yet.
    pub fn new(path: PathBuf) -> Source {
        Source::made(path, Made::OfRecords)
    }

    /// As [`Source::new`], of a file whose lines are short: of sockets, disks or counters.
    pub fn of_short_lines(path: PathBuf) -> Source {
        Source::made(path, Made::OfShortLines)
    }

    /// As [`Source::new`], of a sysctl, an attribute of sysfs, or a `seq_file` of a single record.
    pub fn of_one_piece(path: PathBuf) -> Source {
        Source::made(path, Made::InOnePiece)
    }

    fn made(path: PathBuf, made: Made) -> Source {
        Source {
            path,
            made,
            file: None,
            buffer: Vec::new(),
        }
    }

    /// The whole file as it is now.
    pub fn read(&mut self) -> Result<Text<'_>, CollectError> {
        let length = self
            .fill()
            .map_err(|error| CollectError::read(&self.path, error))?;
        Ok(Text {
            path: &self.path,
            text: lossy(&self.buffer[..length]),
        })
    }

    /// False only where the kernel tells by poll(2) of each change of this file, as of the tables of
    /// mounts below /proc, and has told of none since the last call.
    pub fn may_have_changed(&self) -> bool {
        let Some(file) = &self.file else {
            return true;
        };
        let tells =
            rustix::fs::fstatfs(file).is_ok_and(|fs| fs.f_type == rustix::fs::PROC_SUPER_MAGIC);
        let mut asked = [PollFd::new(file, PollFlags::PRI)];
        let told = poll(&mut asked, Some(&Timespec::default()));
        !tells || told != Ok(0)
    }

    fn fill(&mut self) -> io::Result<usize> {
        if let Some(file) = &self.file {
            if let Ok(length) = read_all(file, self.made, &mut self.buffer) {
                return Ok(length);
            }
            self.file = None;
        }
        let file = File::open(&self.path)?;
        let length = read_all(&file, self.made, &mut self.buffer)?;
        self.file = Some(file);
        Ok(length)
    }
}

impl Text<'_> {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A decimal word of this text, as of `split_ascii_whitespace().next()`.
    pub fn number<N: FromStr>(&self, word: Option<&str>) -> Result<N, CollectError> {
        let word = word.ok_or_else(|| self.malformed("a line ends early"))?;
        word.parse()
            .map_err(|_| self.malformed(format!("{word:?} is not a number")))
    }

    /// The error for content that is not what the kernel documents.
    pub fn malformed(&self, what: impl Into<String>) -> CollectError {
        CollectError::Parse {
            path: self.path.to_owned(),
            what: what.into(),
        }
    }
}

/// As [`String::from_utf8_lossy`], which looks at each character where this looks at words.
fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

impl Made {
    /// Whether a read of `read` bytes into room for `asked` was the last one.
    fn ends(self, read: usize, asked: usize) -> bool {
        let leaves_room = match self {
            Made::OfRecords => false,
            Made::OfShortLines => read + SHORT_LINE < asked.min(PAGE),
            Made::InOnePiece => read < asked,
        };
        read == 0 || leaves_room
    }
}

fn read_all(file: &File, made: Made, buffer: &mut Vec<u8>) -> io::Result<usize> {
    if buffer.is_empty() {
        buffer.resize(FIRST_READ, 0);
    }
    let mut length = 0;
    loop {
        if length == buffer.len() {
            if length >= MAX_SIZE {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            buffer.resize(length * 2, 0);
        }
        let asked = buffer.len() - length;
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(read) => {
                length += read;
                if !made.ends(read, asked) {
                    continue;
                }
                return match buffer[..length].last() {
                    Some(last) if length >= FIRST_READ && *last != b'\n' => {
                        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
                    }
                    _ => Ok(length),
                };
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Made, PAGE, SHORT_LINE, Source};
    use crate::metrics::collector::CollectError;

    #[test]
    fn a_file_is_read_whole_and_afresh_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        let long = "0123456789abcdef\n".repeat(2000);
        std::fs::write(&path, &long).unwrap();
        let mut source = Source::new(path.clone());
        assert_eq!(source.read().unwrap().as_str(), long);
        std::fs::write(&path, "short\n").unwrap();
        assert_eq!(source.read().unwrap().as_str(), "short\n");
    }

    #[test]
    fn a_file_of_any_making_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for lines in [0, 1, 100, 511, 512, 513, 5000] {
            let text = "1234567\n".repeat(lines);
            std::fs::write(&path, &text).unwrap();
            for made in [Made::OfRecords, Made::OfShortLines, Made::InOnePiece] {
                let mut source = Source::made(path.clone(), made);
                for _ in 0..2 {
                    assert_eq!(source.read().unwrap().as_str(), text, "{made:?} {lines}");
                }
            }
        }
    }

    #[test]
    fn only_a_read_that_leaves_room_for_a_line_ends_a_file_of_lines() {
        let all = Made::OfShortLines;
        assert!(all.ends(PAGE - SHORT_LINE - 1, PAGE));
        assert!(!all.ends(PAGE - SHORT_LINE, 4 * PAGE));
        assert!(all.ends(0, SHORT_LINE));
        assert!(Made::InOnePiece.ends(PAGE - 1, PAGE));
        assert!(!Made::InOnePiece.ends(PAGE, PAGE));
        assert!(!Made::OfRecords.ends(1, PAGE));
    }

    #[test]
    fn a_text_of_several_reads_that_ends_within_a_line_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("torn");
        std::fs::write(&path, "name 123456\n".repeat(1000) + "name 12").unwrap();
        let mut source = Source::new(path.clone());
        assert!(matches!(source.read(), Err(CollectError::Read { .. })));
        std::fs::write(&path, "whole\n").unwrap();
        assert_eq!(source.read().unwrap().as_str(), "whole\n");
        // One attribute of one read needs no line.
        std::fs::write(&path, "up").unwrap();
        assert_eq!(source.read().unwrap().as_str(), "up");
    }

    #[test]
    fn a_missing_file_is_absent_until_it_appears() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later");
        let mut source = Source::new(path.clone());
        assert!(matches!(source.read(), Err(CollectError::Absent { .. })));
        std::fs::write(&path, b"here \xff\n").unwrap();
        assert_eq!(source.read().unwrap().as_str(), "here \u{fffd}\n");
    }

    #[test]
    fn a_directory_is_a_read_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut source = Source::new(dir.path().to_owned());
        let Err(error @ CollectError::Read { .. }) = source.read() else {
            panic!("read a directory");
        };
        assert!(error.to_string().contains(dir.path().to_str().unwrap()));
    }
}
