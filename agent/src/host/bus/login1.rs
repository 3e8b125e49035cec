//! systemd's logind: org.freedesktop.login1(5), what holds a shutdown back for a while.
//!
//! A delay inhibitor is a descriptor: logind waits for its end, `InhibitDelayMaxSec` of
//! logind.conf(5) at most, after it has told everybody by `PrepareForShutdown`. It outlives the
//! connection that it came by.

use super::{Bus, BusError, Object, body};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::time::Instant;

pub const SERVICE: &str = "org.freedesktop.login1";
const MANAGER: Object<'static> = Object {
    service: SERVICE,
    path: "/org/freedesktop/login1",
};
pub const INTERFACE: &str = "org.freedesktop.login1.Manager";

/// A shutdown begins, or has been called off.
pub const PREPARE: &str = "type='signal',sender='org.freedesktop.login1',\
    interface='org.freedesktop.login1.Manager',member='PrepareForShutdown'";
/// It has been restarted.
pub const OWNER: &str = "type='signal',sender='org.freedesktop.DBus',\
    interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.freedesktop.login1'";

/// Whom to ask.
#[derive(Clone)]
pub struct Login1 {
    bus: Bus,
}

/// A shutdown waits while this lives.
#[derive(Debug)]
pub struct Inhibitor {
    _held: OwnedFd,
}

impl Login1 {
    pub fn new(bus: Bus) -> Login1 {
        Login1 { bus }
    }

    /// Has shutdowns wait for us. Errors: the bus's; refused while one has begun already, and
    /// to users without the right.
    pub async fn inhibit(&self, who: &str, why: &str, by: Instant) -> Result<Inhibitor, BusError> {
        const INHIBIT: &str = "Inhibit";
        let arguments = ("shutdown", who, why, "delay");
        let call = (INTERFACE, INHIBIT);
        let message = self.bus.call(MANAGER, call, &arguments, by).await?;
        let content = message.body();
        let held: zbus::OwnedFd = body(&content, SERVICE, INHIBIT)?;
        Ok(Inhibitor { _held: held.into() })
    }

    /// Whether a shutdown has begun.
    pub async fn is_preparing(&self, by: Instant) -> Result<bool, BusError> {
        let property = (INTERFACE, "PreparingForShutdown");
        self.bus.property(MANAGER, property, by).await
    }

    /// The longest that a shutdown waits.
    pub async fn longest_delay(&self, by: Instant) -> Result<Duration, BusError> {
        let property = (INTERFACE, "InhibitDelayMaxUSec");
        let micros: u64 = self.bus.property(MANAGER, property, by).await?;
        Ok(Duration::from_micros(micros))
    }
}
