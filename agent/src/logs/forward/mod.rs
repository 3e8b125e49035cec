//! The forward protocol input: what Docker's fluentd driver, fluentd and
//! Fluent Bit send.
//!
//! One task per sender reads frames ([`connection`]), takes them apart as
//! slices ([`decode`]), shapes their records into batches ([`batch`]) and acks
//! each frame when the buffer has stored it. Servers need no shared key here:
//! the input listens on loopback and a unix socket.
//!
//! Bounds: 1024 senders; a frame of `max_frame` bytes; eight frames over 1 MiB
//! at once; 4 MiB of unfinished lines per sender. A sender that does not speak
//! the protocol is closed with one warning and counted, the others never notice.
//!
//! It does not know segments, outputs, or where facts come from.

pub mod batch;
pub mod connection;
pub mod decode;
pub mod serve;
pub mod telemetry;

use crate::listener::Address;
use std::time::Duration;

pub use serve::serve;
pub use telemetry::Telemetry;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `docker` in `[logs.inputs.docker]`.
    pub name: String,
    pub listen: Vec<Address>,
    /// Largest frame. Default 16 MiB. Unit: bytes.
    pub max_frame: usize,
    /// A connection silent inside a frame for this long is closed. Default 60 s.
    pub frame_timeout: Duration,
}
