//! Supervision under faults: the real agent before a Docker that a proxy makes fail, one named
//! promise a test.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

mod adoption;
mod answers;
mod config;
mod docker;
mod drain;
mod drift;
mod events;
mod exits;
mod half_done;
mod others;
mod page;
mod pause;
mod place;
mod probes;
mod proxy;
mod update;
