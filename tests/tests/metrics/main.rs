//! Node metrics as others see them: Prometheus, promtool, node_exporter beside us, plain HTTP.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

mod devices;
mod hostile;
mod hung;
mod mixin;
mod node_exporter;
mod page;
mod prometheus;
mod served;
mod textfile;
mod twin;
mod web;
