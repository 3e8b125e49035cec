//! systemd's manager: org.freedesktop.systemd1(5), the calls that we make of it.
//!
//! It is asked on the system bus alone: what it answers on its own socket,
//! /run/systemd/private, names a sender that zbus takes for malformed.

use super::{Bus, BusError, Object, body};
use std::path::Path;
use tokio::time::Instant;
use zbus::ObjectPath;

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: Object<'static> = Object {
    service: SERVICE,
    path: "/org/freedesktop/systemd1",
};
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
/// There while it is PID 1: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// Whom to ask.
#[derive(Clone)]
pub struct Systemd1 {
    bus: Bus,
}

/// Somebody who answers.
pub struct Session {
    bus: Bus,
    deadline: Instant,
}

/// One unit, as `ListUnits` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `docker.service`
    pub name: String,
    /// `loaded`, `not-found`, `masked`, …
    pub load_state: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, …
    pub active_state: String,
    /// Of its object.
    pub path: String,
}

/// An interface of a unit's object and a property of it.
pub type Property = (&'static str, &'static str);

/// Unit, description, load, active and sub state, unit that it follows, object, then its job: id,
/// type, object.
type Listed<'a> = (
    &'a str,
    &'a str,
    &'a str,
    &'a str,
    &'a str,
    &'a str,
    ObjectPath<'a>,
    u32,
    &'a str,
    ObjectPath<'a>,
);

impl Systemd1 {
    pub fn new(bus: Bus) -> Systemd1 {
        Systemd1 { bus }
    }

    /// Whether systemd is this host's PID 1, so that asking makes sense.
    pub fn is_booted() -> bool {
        Path::new(BOOTED).is_dir()
    }

    /// Where [`Systemd1::is_booted`] looks.
    pub fn sign() -> &'static Path {
        Path::new(BOOTED)
    }

    /// Connects, for questions until `deadline`. Errors: the bus's.
    pub async fn open(&self, deadline: Instant) -> Result<Session, BusError> {
        self.bus.connect(deadline).await?;
        Ok(Session {
            bus: self.bus.clone(),
            deadline,
        })
    }
}

impl Session {
    /// Every unit that systemd has in memory.
    pub async fn units(&self) -> Result<Vec<Unit>, BusError> {
        self.list("ListUnits", &()).await
    }

    /// Those of its units whose names match one of the globs, loaded or not.
    pub async fn units_like(&self, patterns: &[&str]) -> Result<Vec<Unit>, BusError> {
        let states: [&str; 0] = [];
        let arguments = (&states[..], patterns);
        self.list("ListUnitsByPatterns", &arguments).await
    }

    async fn list<A>(&self, method: &'static str, arguments: &A) -> Result<Vec<Unit>, BusError>
    where
        A: serde::Serialize + zbus::DynamicType,
    {
        let call = (MANAGER_INTERFACE, method);
        let message = self
            .bus
            .call(MANAGER, call, arguments, self.deadline)
            .await?;
        let content = message.body();
        let listed: Vec<Listed<'_>> = body(&content, SERVICE, method)?;
        let unit = |one: Listed<'_>| Unit {
            name: one.0.into(),
            load_state: one.2.into(),
            active_state: one.3.into(),
            path: one.6.to_string(),
        };
        Ok(listed.into_iter().map(unit).collect())
    }

    /// Forgets that a unit has failed, and how often it has been started. Errors: the bus's;
    /// refused where no such unit is loaded.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), BusError> {
        let call = (MANAGER_INTERFACE, "ResetFailedUnit");
        let message = self.bus.call(MANAGER, call, &unit, self.deadline);
        message.await.map(drop)
    }

    /// Has a unit started, unless that would undo what another has ordered. Does not wait for it.
    pub async fn start(&self, unit: &str) -> Result<(), BusError> {
        let call = (MANAGER_INTERFACE, "StartUnit");
        let arguments = (unit, "fail");
        let message = self.bus.call(MANAGER, call, &arguments, self.deadline);
        message.await.map(drop)
    }

    /// A text property of the manager: `Version`, `SystemState`, `Virtualization`.
    pub async fn manager(&self, property: &'static str) -> Result<String, BusError> {
        let property = (MANAGER_INTERFACE, property);
        self.bus.property(MANAGER, property, self.deadline).await
    }

    /// A property of a unit, a text.
    pub async fn text(&self, unit: &str, property: Property) -> Result<String, BusError> {
        self.bus.property(of(unit), property, self.deadline).await
    }

    /// A property of a unit, 32 bits wide.
    pub async fn small(&self, unit: &str, property: Property) -> Result<u32, BusError> {
        self.bus.property(of(unit), property, self.deadline).await
    }

    /// A property of a unit, 64 bits wide.
    pub async fn large(&self, unit: &str, property: Property) -> Result<u64, BusError> {
        self.bus.property(of(unit), property, self.deadline).await
    }
}

fn of(path: &str) -> Object<'_> {
    Object {
        service: SERVICE,
        path,
    }
}
