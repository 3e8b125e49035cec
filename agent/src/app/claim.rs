//! One agent per directory: a lock that ends with the process, however it ends.
//!
//! Two agents over one state directory would write each other's supervision
//! memory, even where their log buffers, which have a lock of their own, are
//! apart. The lock is flock(2) on the directory itself, so nothing stale can be
//! left behind, and /proc/locks tells who holds it.

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directory is ours as long as this lives.
#[derive(Debug)]
pub struct Claim {
    _directory: File,
}

#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// `holder` is what /proc told: "agent, pid 812".
    #[error("the directory {path} is in use by {}: is another agent running?", holder.as_deref().unwrap_or("another process"))]
    Held {
        path: PathBuf,
        holder: Option<String>,
    },
    #[error("cannot lock the directory {path}")]
    Lock { path: PathBuf, source: io::Error },
}

/// Takes the directory, which must exist. Never waits.
pub fn claim(path: &Path) -> Result<Claim, ClaimError> {
    let failed = |source| ClaimError::Lock {
        path: path.into(),
        source,
    };
    let directory = File::open(path).map_err(failed)?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Claim {
            _directory: directory,
        }),
        Err(Errno::WOULDBLOCK) => Err(ClaimError::Held {
            path: path.into(),
            holder: holder(&directory),
        }),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// By the inode in /proc/locks: `1: FLOCK  ADVISORY  WRITE 812 08:01:4242 0 EOF`.
fn holder(directory: &File) -> Option<String> {
    let inode = format!(":{}", directory.metadata().ok()?.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, "WRITE", pid, file, ..] if file.ends_with(&inode) => Some(pid),
            _ => None,
        }
    })?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("{}, pid {pid}", name.trim()))
}

#[cfg(test)]
mod tests {
    use super::{ClaimError, claim};

    #[test]
    fn a_directory_is_claimed_once_and_free_again_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let first = claim(dir.path()).unwrap();
        let ClaimError::Held { holder, .. } = claim(dir.path()).unwrap_err() else {
            panic!("not held");
        };
        let holder = holder.unwrap();
        let pid = format!(", pid {}", std::process::id());
        assert!(holder.ends_with(&pid), "{holder}");
        drop(first);
        claim(dir.path()).unwrap();
    }
}
