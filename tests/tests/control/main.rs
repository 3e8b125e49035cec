//! The agent from outside: how it starts, answers operators and the service manager, and stops.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

mod commands;
mod defaults;
mod docker_away;
mod place;
mod reload;
mod start;
mod status;
mod systemd;
