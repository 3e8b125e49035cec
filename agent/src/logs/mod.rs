//! The log path: forward input → parse, join, enrich → disk buffer → outputs. (helpers write the story)

pub mod buffer;
pub mod enrich;
pub mod fields;
pub mod forward;
pub mod json;
pub mod msgpack;
pub mod output;
pub mod partial;

use crate::dns::Resolver;
use crate::facts::Facts;
use crate::listener::{Address, Listener};
use crate::pulse::Pulse;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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
}

/// Why a reload left something as it was.
#[derive(Debug, thiserror::Error)]
#[error("{field} cannot change while the agent runs: restart the agent to apply it")]
pub struct NotLive {
    pub field: &'static str,
}

/// A cheap end for reporters and reloads.
#[derive(Clone)]
pub struct Handle {}

impl Handle {
    pub fn status(&self) -> Status {
        todo!()
    }

    /// Applies enrichment, parsing and outputs live; refuses what cannot change
    /// (input addresses, buffer directory and sizes) by name and then applies nothing.
    pub async fn reload(&self, _settings: Settings) -> Result<(), Vec<NotLive>> {
        todo!()
    }
}

pub struct Logs {}

/// Opens the buffer (recovering it) and makes the room; nothing runs until [`Logs::run`].
pub fn open(_parts: Parts) -> Result<(Handle, Logs), OpenError> {
    todo!()
}

impl Logs {
    /// Runs inputs on the ready listeners until `intake` is cancelled, then seals the
    /// buffer and lets outputs go on until `drain` is cancelled.
    pub async fn run(
        self,
        _listeners: Vec<Listener>,
        _intake: CancellationToken,
        _drain: CancellationToken,
    ) {
        todo!()
    }
}

/// Default listeners of the forward input.
pub fn default_listen() -> Vec<Address> {
    vec![Address::Tcp(([127, 0, 0, 1], 24224).into())]
}
