//! Hosts that boot: Debian laid out like Flatcar, provisioned by the real Ignition, systemd as PID 1
//! and a Docker of their own inside. One host per group of scenarios, which are played in order.

// A helper of a test may fail like the test; scenarios say which one runs.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod fresh;
mod place;
mod provision;

use place::{CONFIG, Host, play};

#[test]
fn a_fresh_host() {
    play(&Host::boot(CONFIG), fresh::SCENARIOS);
}
