//! sd_notify(3): what systemd hears of us. Silent where NOTIFY_SOCKET is unset.

use std::time::Duration;

/// The notify socket of this process.
pub struct Notify {}

impl Notify {
    /// Reads NOTIFY_SOCKET and WATCHDOG_USEC once.
    pub fn from_env() -> Notify {
        todo!()
    }

    pub fn ready(&self) {
        todo!()
    }

    /// RELOADING=1 with MONOTONIC_USEC, as Type=notify-reload wants it; followed by `ready`.
    pub fn reloading(&self) {
        todo!()
    }

    pub fn stopping(&self) {
        todo!()
    }

    pub fn status(&self, _text: &str) {
        todo!()
    }

    pub fn watchdog(&self) {
        todo!()
    }

    /// Asks systemd to kill and restart us at once (WATCHDOG=trigger).
    pub fn watchdog_trigger(&self) {
        todo!()
    }

    /// How often to feed the watchdog (a third of WATCHDOG_USEC), none when it is off or meant for another pid.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        todo!()
    }
}
