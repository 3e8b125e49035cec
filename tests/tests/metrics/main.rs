//! Node metrics as others see them: Prometheus, promtool, node_exporter beside us, plain HTTP.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

mod hostile;
mod hung;
mod node_exporter;
mod page;
mod prometheus;
mod served;
mod web;
