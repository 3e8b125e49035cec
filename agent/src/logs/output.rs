//! Where records go. (helper output)

use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// JSON lines on stdout, the default when no output is configured.
    Stdout,
    Forward(Forward),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// `host:port`, tried in order.
    pub servers: Vec<Server>,
    pub require_ack: bool,
    /// How long to wait for an ack. Default 30 s.
    pub ack_timeout: Duration,
    pub connect_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub host: String,
    pub port: u16,
}
