//! Forward protocol input.

use crate::listener::{Address, Listener};
use crate::logs::buffer::Intake;
use crate::logs::enrich::Shaper;
use crate::pulse::Beat;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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

/// Counters of the forward input, `agent_log_*`.
#[derive(Clone)]
pub struct Telemetry {}

impl Telemetry {
    pub fn new(_registry: &prometheus::Registry) -> Telemetry {
        todo!()
    }
}

impl Telemetry {
    pub fn records_in(&self) -> u64 {
        todo!()
    }
    pub fn records_unparsed(&self) -> u64 {
        todo!()
    }
    pub fn bad_frames(&self) -> u64 {
        todo!()
    }
    pub fn connections(&self) -> usize {
        todo!()
    }
}

/// Serves one listener until `stop`, one task per peer.
pub async fn serve(
    _listener: Listener,
    _settings: Settings,
    _shaper: watch::Receiver<Arc<Shaper>>,
    _intake: Intake,
    _telemetry: Telemetry,
    _beat: Beat,
    _stop: CancellationToken,
) {
    todo!()
}
