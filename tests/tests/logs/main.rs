//! The log path from process to process: Docker's own fluentd driver or a raw client at one end, the
//! real agent in the middle, an aggregator that shares no code with it at the other.

// A helper of a test may fail like the test; figures are printed for whoever reads the run.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod delivery;
mod docker;
mod place;
mod protocol;
mod server;
mod stdout;
