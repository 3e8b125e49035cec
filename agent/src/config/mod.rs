//! Configuration: one written form, one checked form.
//!
//! ```text
//! files ─ document ─→ tree with places ─ file (by read, values, compose) ─→ written form
//!                                                   validate │ dirs, defaults
//!                                    each room's Settings ←──┘     effective ─→ TOML again
//! ```
//!
//! [`load()`] reads everything and changes nothing. It never stops at the first
//! fault: [`Faults`] has all of them, each with its file, line and column.
//! Invariants: a key that nobody reads is a fault, never ignored; no value is
//! guessed from a wrong one; what [`effective`] prints loads to equal Settings;
//! memory is bounded by 1 MiB a file. Which keys there are: docs/config.md,
//! held to this code by a test. Why it is not serde: docs/decisions/0003-config.md.
//!
//! Rooms do not know this one: it imports their Settings and fills them.

mod clashes;
mod compose;
pub mod defaults;
mod dirs;
mod document;
pub mod effective;
mod fault;
mod file;
mod later;
mod load;
mod read;
mod validate;
mod values;

#[cfg(test)]
mod tests;

pub use fault::{Fault, Faults, Place};
pub use load::{Loaded, Origin, load, load_for_host};

use crate::listener::Address;
use crate::{cloud, docker, logs, machine, metrics, supervise, telemetry};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything, checked: what `app` hands to each room.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub agent: Agent,
    /// `[node]`: facts that win over metadata.
    pub node: Vec<(String, String)>,
    pub telemetry: telemetry::Settings,
    pub cloud: cloud::Settings,
    pub docker: docker::Settings,
    /// `[docker] revive`
    pub machine: machine::Settings,
    pub containers: supervise::Settings,
    pub jobs: supervise::jobs::Settings,
    pub metrics: metrics::Settings,
    /// `[metrics.containers]`
    pub container_metrics: metrics::containers::Settings,
    pub logs: logs::Settings,
    /// `[heartbeat] listen`, default 127.0.0.1:8081. Empty: off.
    pub heartbeat: Vec<Address>,
}

/// `[agent]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub state_dir: PathBuf,
    /// The control socket: `<runtime>/control.sock`.
    pub control: PathBuf,
    /// Deadline of an orderly stop. Default 10 s.
    pub stop_timeout: std::time::Duration,
}

/// A time in the config's words: `10m`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    values::duration(text).map_err(|wrong| match wrong.help {
        Some(help) => format!("{}; {help}", wrong.text),
        None => wrong.text,
    })
}

/// Where the host's own agent listens, which is root's.
const HOST_CONTROL: &str = "/run/agent/control.sock";

/// Where the commands look for a running agent: as the config in /etc says, or
/// where `agent run` puts it without one. A user who runs no agent asks the
/// host's, as the members of its group may.
pub fn control_socket() -> PathBuf {
    let dirs = dirs::resolve(None, &dirs::Surroundings::of_process());
    let default = dirs.runtime.join("control.sock");
    let own = match load(&Origin::default()) {
        Ok(loaded) => loaded.settings.agent.control,
        Err(_) => default.clone(),
    };
    if own == default && !own.exists() && Path::new(HOST_CONTROL).exists() {
        return HOST_CONTROL.into();
    }
    own
}
