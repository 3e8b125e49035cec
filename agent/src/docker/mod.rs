//! Docker's API over its socket: typed calls with deadlines, no policy.
//!
//! A [`Docker`] is a cheap, cloneable client. It connects on the first call,
//! agrees on the API version at each new connection, and never waits longer
//! than a call's deadline: [`Settings::timeout`] for small questions, twice
//! that for a list, 60 s to create or start, 120 s to remove a container or an image, and for a pull as
//! long without a byte as its caller says. A socket that is absent, hung or replaced costs the caller
//! one error; the next call connects anew.
//!
//! What it does not know: which containers are wanted, what a failure means
//! for them, when to try again.

pub mod client;
pub mod container;
pub mod error;
pub mod events;
pub mod exec;
pub mod health;
pub mod image;
pub mod image_pull;
pub mod since;
pub mod storage;

pub use client::Docker;
pub use error::Error;

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

#[cfg(test)]
mod tests;
