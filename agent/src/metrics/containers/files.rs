//! Cgroup files with kept descriptors, all read into one buffer of the reader's thread.
//!
//! A kept descriptor of a cgroup that is gone answers ENODEV; the file is then
//! opened anew once, since the same container may have started again.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// No file that we read comes near this. Unit: bytes.
const LIMIT: usize = 4 << 20;
/// First buffer; memory.stat and most others fit. Unit: bytes.
const FIRST: usize = 8192;

/// One file of a cgroup.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    file: Option<File>,
    keep: bool,
}

impl Kept {
    /// Opens nothing yet. `keep` false: the descriptor is closed after each read.
    pub fn new(path: PathBuf, keep: bool) -> Kept {
        Kept {
            path,
            file: None,
            keep,
        }
    }

    /// The whole file as it is now; None where it cannot be read, which is how
    /// a controller that this kernel or container lacks shows.
    pub fn read<'a>(&mut self, buffer: &'a mut Vec<u8>) -> Option<Cow<'a, str>> {
        let kept = self.file.as_ref();
        let length = kept.and_then(|file| read_all(file, buffer).ok());
        let length = match length {
            Some(length) => length,
            None => {
                self.file = None;
                let file = File::open(&self.path).ok()?;
                let length = read_all(&file, buffer).ok()?;
                self.file = self.keep.then_some(file);
                length
            }
        };
        Some(String::from_utf8_lossy(&buffer[..length]))
    }
}

/// The whole of a file that must not stay open: a descriptor of
/// /proc/PID/net/dev would keep the container's network alive after its end.
pub fn once<'a>(path: &Path, buffer: &'a mut Vec<u8>) -> io::Result<Cow<'a, str>> {
    let length = read_all(&File::open(path)?, buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]))
}

fn read_all(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    if buffer.is_empty() {
        buffer.resize(FIRST, 0);
    }
    let mut length = 0;
    loop {
        if length == buffer.len() {
            if length >= LIMIT {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            buffer.resize(length * 2, 0);
        }
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(0) => return Ok(length),
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
