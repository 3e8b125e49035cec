//! Docker's API over its socket: typed calls with deadlines, no policy.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub socket: PathBuf,
    /// Deadline of an inspect; longer calls take multiples of it.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            socket: "/run/docker.sock".into(),
            timeout: Duration::from_secs(5),
        }
    }
}
