//! Whether files are still those that were read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The kernel stamps files by its tick: a file that changed as recently as this
/// before it was looked at may change again under the same stamp.
const COARSE: Duration = Duration::from_millis(100);

/// Paths with what stat(2) said of them before they were read.
#[derive(Default)]
pub struct Stamps(Vec<(PathBuf, Stamp)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// Device, inode, size, and time of change in seconds and nanoseconds.
    /// None: there was no such file.
    identity: Option<(u64, u64, u64, i64, i64)>,
    is_settled: bool,
}

impl Stamp {
    fn of(path: &Path) -> Stamp {
        let Ok(found) = fs::metadata(path) else {
            return Stamp {
                identity: None,
                is_settled: true,
            };
        };
        let identity = (
            found.dev(),
            found.ino(),
            found.size(),
            found.ctime(),
            found.ctime_nsec(),
        );
        let changed = Duration::from_secs(found.ctime().max(0).unsigned_abs())
            + Duration::from_nanos(found.ctime_nsec().max(0).unsigned_abs());
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + changed);
        Stamp {
            identity: Some(identity),
            is_settled: age.is_ok_and(|age| age > COARSE),
        }
    }
}

impl Stamps {
    pub fn add(&mut self, path: &Path) {
        self.0.push((path.to_owned(), Stamp::of(path)));
    }

    /// Nothing can have changed since.
    pub fn still_hold(&self) -> bool {
        self.0
            .iter()
            .all(|(path, stamp)| stamp.is_settled && Stamp::of(path).identity == stamp.identity)
    }

    /// The same files with the same stamps, settled or not.
    pub fn are_equal(&self, other: &Stamps) -> bool {
        let list = |stamps: &Stamps| -> Vec<_> {
            let each = stamps.0.iter();
            each.map(|(path, stamp)| (path.clone(), stamp.identity))
                .collect()
        };
        list(self) == list(other)
    }
}
