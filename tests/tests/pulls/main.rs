//! Image pulls from a real registry, with and without faults on the way.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

mod failing;
mod place;
mod proxy;
mod pulling;
mod registry;
