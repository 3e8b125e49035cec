//! Node metrics on 9100 under node_exporter's names. (helper metrics writes the story)

use crate::host::roots::Roots;
use crate::http;
use crate::listener::Address;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Default 0.0.0.0:9100 (one socket on [::] where IPv6 is there is not assumed). Empty: off.
    pub listen: Vec<Address>,
    /// Collectors that are on, by node_exporter's names. Default: all that exist.
    pub collectors: Vec<String>,
    pub roots: Roots,
}

/// Names of all collectors, for config checking and defaults, in page order.
pub const COLLECTORS: &[&str] = &[];

/// For `agent status`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    pub scrapes: u64,
    pub last_duration: Option<Duration>,
    pub collectors_ok: usize,
    pub collectors_failed: Vec<String>,
}

/// The room: collectors with their kept descriptors, and the scrape counters.
pub struct Metrics {}

impl Metrics {
    /// `registry` holds the agent's own `agent_*` families, appended to each page.
    pub fn new(_settings: &Settings, _registry: prometheus::Registry) -> Arc<Metrics> {
        todo!()
    }

    pub fn status(&self) -> Status {
        todo!()
    }
}

/// `/` landing page, `/metrics` the page.
impl http::Handler for Metrics {
    fn handle(&self, _request: http::Request) -> http::ReplyFuture {
        todo!()
    }
}
