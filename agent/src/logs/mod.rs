//! The log path: inputs → parse, join, enrich → disk buffer → outputs.
//!
//! A record crosses two queues and the second is the disk: the bounded channel
//! into the buffer's writer thread, whose answer is what an input's ack waits
//! for, and the segments, from which each output reads at its own pace. When
//! the disk bound is reached the first queue fills and senders wait.
//!
//! Stopping: inputs first, then the buffer is sealed, then outputs go on until
//! all is delivered or the drain deadline; what is left waits on disk. A task
//! that ends unasked ends [`Logs::run`].

pub mod forward;
pub mod partial;

pub mod enrich;
pub mod fields;
pub mod json;
pub mod msgpack;

pub mod buffer;
pub mod output;

mod run;

pub use run::{Handle, Logs, open};

use crate::dns::Resolver;
use crate::facts::Facts;
use crate::listener::Address;
use crate::pulse::Pulse;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What `[logs.*]` says, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub inputs: Vec<forward::Settings>,
    pub parse: enrich::Parse,
    /// Fields added to each record, in order: name → template.
    pub enrich: Vec<(String, enrich::Template)>,
    pub buffer: buffer::Settings,
    pub outputs: Vec<output::Settings>,
}

#[derive(Debug, Clone, Default)]
pub struct Status {
    /// The buffer takes records; false when it is full under `block`, or its disk fails.
    pub accepting: bool,
    pub records_in: u64,
    pub records_unparsed: u64,
    pub bad_frames: u64,
    pub connections: usize,
    pub buffered_bytes: u64,
    pub buffer_limit: u64,
    pub oldest: Option<Duration>,
    pub dropped: u64,
    pub error: Option<String>,
    pub outputs: Vec<OutputStatus>,
}

#[derive(Debug, Clone, Default)]
pub struct OutputStatus {
    pub name: String,
    pub kind: &'static str,
    pub records_out: u64,
    pub pending_bytes: u64,
    pub oldest: Option<Duration>,
    pub last_error: Option<String>,
}

/// What the log path needs from the composition root.
pub struct Parts {
    pub settings: Settings,
    pub facts: watch::Receiver<Arc<Facts>>,
    pub resolver: Resolver,
    pub registry: prometheus::Registry,
    pub pulse: Pulse,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the log buffer")]
    Buffer(#[source] buffer::OpenError),
    #[error("cannot register the outputs' metrics")]
    Metrics(#[source] prometheus::Error),
}

/// Why a reload left something as it was.
#[derive(Debug, thiserror::Error)]
#[error("{field} cannot change while the agent runs: restart the agent to apply it")]
pub struct NotLive {
    pub field: &'static str,
}

/// Default listeners of the forward input.
pub fn default_listen() -> Vec<Address> {
    vec![Address::Tcp(([127, 0, 0, 1], 24224).into())]
}
