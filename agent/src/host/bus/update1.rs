//! Flatcar's update_engine: `com.coreos.update1`, how far an update of the system is.
//!
//! Source: update_engine's `UpdateEngine.conf` and `com.coreos.update1.Manager.xml`.

use super::{Bus, BusError, Object, body};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

const SERVICE: &str = "com.coreos.update1";
const MANAGER: Object<'static> = Object {
    service: SERVICE,
    path: "/com/coreos/update1",
};
pub const INTERFACE: &str = "com.coreos.update1.Manager";
const BUS: Object<'static> = Object {
    service: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
};

/// It has come further.
pub const STATUS_UPDATE: &str = "type='signal',sender='com.coreos.update1',\
    interface='com.coreos.update1.Manager',member='StatusUpdate'";
/// It has come or gone.
pub const OWNER: &str = "type='signal',sender='org.freedesktop.DBus',\
    interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='com.coreos.update1'";

/// Whom to ask.
#[derive(Clone)]
pub struct Update1 {
    bus: Bus,
}

/// What it answers to `GetStatus`.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    pub operation: Operation,
    /// 0.0..=1.0, of a download.
    pub progress: f64,
    /// `0.0.0` where there is none.
    pub new_version: String,
    /// None before the first check.
    pub last_checked: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Idle,
    Checking,
    Available,
    Downloading,
    Verifying,
    Finalizing,
    NeedReboot,
    ReportingError,
    /// A word that is not known here.
    Other,
}

impl Operation {
    pub const ALL: [Operation; 9] = [
        Operation::Idle,
        Operation::Checking,
        Operation::Available,
        Operation::Downloading,
        Operation::Verifying,
        Operation::Finalizing,
        Operation::NeedReboot,
        Operation::ReportingError,
        Operation::Other,
    ];

    fn of(word: &str) -> Operation {
        match word.strip_prefix("UPDATE_STATUS_").unwrap_or(word) {
            "IDLE" => Operation::Idle,
            "CHECKING_FOR_UPDATE" => Operation::Checking,
            "UPDATE_AVAILABLE" => Operation::Available,
            "DOWNLOADING" => Operation::Downloading,
            "VERIFYING" => Operation::Verifying,
            "FINALIZING" => Operation::Finalizing,
            "UPDATED_NEED_REBOOT" => Operation::NeedReboot,
            "REPORTING_ERROR_EVENT" => Operation::ReportingError,
            _ => Operation::Other,
        }
    }

    /// As status and metrics show it: its own word in small letters.
    pub fn word(self) -> &'static str {
        match self {
            Operation::Idle => "idle",
            Operation::Checking => "checking_for_update",
            Operation::Available => "update_available",
            Operation::Downloading => "downloading",
            Operation::Verifying => "verifying",
            Operation::Finalizing => "finalizing",
            Operation::NeedReboot => "updated_need_reboot",
            Operation::ReportingError => "reporting_error_event",
            Operation::Other => "other",
        }
    }
}

impl Update1 {
    pub fn new(bus: Bus) -> Update1 {
        Update1 { bus }
    }

    /// How far it is; None where it does not run. It is not started by the question.
    pub async fn status(&self, by: Instant) -> Result<Option<Update>, BusError> {
        const HAS_OWNER: &str = "NameHasOwner";
        const GET_STATUS: &str = "GetStatus";
        let call = (BUS.service, HAS_OWNER);
        let message = self.bus.call(BUS, call, &SERVICE, by).await?;
        if !body::<bool>(&message.body(), BUS.service, HAS_OWNER)? {
            return Ok(None);
        }
        let call = (INTERFACE, GET_STATUS);
        let message = self.bus.call(MANAGER, call, &(), by).await?;
        let content = message.body();
        let told: (i64, f64, &str, &str, i64) = body(&content, SERVICE, GET_STATUS)?;
        let (checked, progress, operation, version, _size) = told;
        let checked = u64::try_from(checked).ok().filter(|seconds| *seconds > 0);
        Ok(Some(Update {
            operation: Operation::of(operation),
            progress: progress.clamp(0.0, 1.0),
            new_version: version.chars().take(64).collect(),
            last_checked: checked
                .and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at))),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::Operation;

    #[test]
    fn every_word_of_update_engine_is_known_and_others_are_no_error() {
        for one in Operation::ALL {
            let theirs = format!("UPDATE_STATUS_{}", one.word().to_uppercase());
            assert_eq!(Operation::of(&theirs), one);
        }
        assert_eq!(Operation::of("UPDATE_STATUS_DAYDREAMING"), Operation::Other);
        assert_eq!(Operation::of(""), Operation::Other);
    }
}
