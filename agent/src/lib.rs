//! The map of the house.
//!
//! One line is one room, in reading order; arrows between rooms point down
//! this list only (`tests/tests/house.rs` holds them to it). `app` alone
//! knows everyone: it binds sockets, opens the buffer, spawns the rooms and
//! stops them. Rooms receive ready things, never the means to make them.

pub mod cli;

pub mod app;

pub mod config;

// reporters: read what the workers say of themselves
pub mod control;
pub mod heartbeat;
pub mod metrics;

// workers
pub mod machine;

pub mod logs;
pub mod supervise;

// the outside: clients without policy
pub mod cloud;
pub mod docker;
pub mod facts;
pub mod host;

// the ground
pub mod backoff;
pub mod chain;
pub mod dns;
pub mod http;
pub mod ignition;
pub mod listener;
pub mod nss;
pub mod pulse;
pub mod secret;
pub mod telemetry;
