//! What the config says of a container, asked back from a real Docker daemon; and containers whose
//! environment and secrets stand in files.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

mod files;
mod keys;
mod place;
mod refused;
