//! The host as a whole: its shutdown, updates of its system, and Docker's units.
//!
//! [`room`] holds logind's delay inhibitor and keeps in mind what systemd, logind and
//! update_engine say; when the host is to go down it has the containers stopped in order and then
//! lets logind go on. [`revival`] starts Docker again where systemd has given it up. Both ask on
//! the system bus; a host without one, or without one of those services, is shown as such and is
//! no fault. What a signal says is asked for again before anything is done: any process may send
//! one.
//!
//! What it does not know: how a container is stopped, what is shown of all this.

pub mod counts;
pub mod departure;
pub mod revival;
pub mod room;

#[cfg(test)]
mod tests;

use crate::host::bus::Bus;
use crate::host::bus::update1::{Operation, Update};
use crate::supervise;
use counts::Counts;
use revival::Revival;
use room::Machine;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// There while the system asks for a reboot: Debian's update-notifier and others make it.
pub const REBOOT_REQUIRED: &str = "/run/reboot-required";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `docker.revive`
    pub revive: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { revive: true }
    }
}

/// What the room needs from the composition root.
pub struct Parts {
    pub settings: Settings,
    pub bus: Bus,
    pub supervise: supervise::Handle,
    /// Docker's socket as configured: only systemd's own Docker is revived.
    pub docker_socket: PathBuf,
    /// [`REBOOT_REQUIRED`]
    pub reboot_file: PathBuf,
    pub registry: prometheus::Registry,
}

/// A cheap, cloneable end for reporters.
#[derive(Clone)]
pub struct Handle {
    status: watch::Receiver<Arc<Status>>,
}

impl Handle {
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }
}

/// All that reporters show, as of the last look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// The system bus answers. None: it has not been asked yet.
    pub bus: Option<bool>,
    /// systemd's own word: `running`, `degraded`, `starting`, `stopping`, …
    pub systemd: Option<String>,
    /// None where update_engine does not run.
    pub update: Option<Update>,
    /// Somebody has left [`REBOOT_REQUIRED`].
    pub reboot_file: bool,
    /// A shutdown would wait for us.
    pub inhibits: bool,
    /// The host goes down.
    pub leaving: bool,
}

impl Status {
    /// Why the host wants to be rebooted, if it does.
    pub fn reboot_reason(&self) -> Option<String> {
        let installed = self
            .update
            .as_ref()
            .filter(|update| update.operation == Operation::NeedReboot);
        match installed {
            Some(update) => Some(format!("update {} is installed", update.new_version)),
            None if self.reboot_file => Some(format!("{REBOOT_REQUIRED} is there")),
            None => None,
        }
    }
}

/// Makes the room; nothing runs until [`Machine::run`] and [`Revival::run`].
pub fn new(parts: Parts) -> (Handle, Machine, Revival) {
    let (sender, status) = watch::channel(Arc::default());
    let counts = Counts::new(&parts.registry);
    let handle = Handle { status };
    let revival = Revival::new(&parts, handle.clone(), counts.clone());
    let machine = Machine::new(parts, sender, counts);
    (handle, machine, revival)
}
