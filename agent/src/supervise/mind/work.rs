//! What a mind orders, what it is answered, and what it speaks of.

use crate::docker;
use crate::docker::container::Limits;
use crate::supervise::act::{Found, LaunchError};
use crate::supervise::audit::Record;
use crate::supervise::pull::Priority;
use crate::supervise::settings::Container;
use crate::supervise::state::Event;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// One thing to do, with all that it needs.
#[derive(Debug, Clone)]
pub enum Work {
    Look {
        container: Arc<Container>,
        /// Another's container that stands for it.
        foreign: Option<String>,
    },
    Fetch {
        container: Arc<Container>,
        priority: Priority,
        /// Somebody asks for it anew: what went wrong before counts no more.
        fresh: bool,
    },
    Launch(Launch),
    Double(Launch),
    Promote {
        name: String,
        old: Option<String>,
        new: String,
        prev_taken: bool,
    },
    Clear {
        name: String,
    },
    Signal {
        id: String,
        signal: String,
    },
    Remove {
        name: String,
    },
    Repair {
        id: String,
        name: String,
        what: Vec<Repair>,
        limits: Limits,
    },
}

/// What a launch is to make.
#[derive(Debug, Clone)]
pub struct Launch {
    pub container: Arc<Container>,
    /// The hash that it is to carry in place of its own.
    pub label: Option<Arc<str>>,
    /// Our own, dead container that holds the name.
    pub held: Option<String>,
    /// `<name>.prev` is known to be taken.
    pub prev_taken: bool,
}

/// Drift that is put right without a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// It has lost its name.
    Name,
    /// Someone has paused it.
    Paused,
    /// Docker would restart it by itself.
    RestartPolicy,
    /// Someone has changed a limit that the config sets.
    Limits,
}

/// What came of a [`Work`].
#[derive(Debug)]
pub enum Outcome {
    Looked(Result<Box<Found>, docker::Error>),
    Fetched(Result<(), FetchError>),
    Launched(Result<docker::container::Container, LaunchError>),
    Doubled(Result<docker::container::Container, LaunchError>),
    Promoted(Result<docker::container::Container, docker::Error>),
    Cleared(Result<(), docker::Error>),
    Signalled(Result<(), docker::Error>),
    Removed(Result<(), docker::Error>),
    Repaired(Result<(), docker::Error>),
}

impl Outcome {
    /// Why a container was not made or not started.
    pub fn launch_failure(&self) -> Option<&str> {
        match self {
            Outcome::Launched(Err(error)) | Outcome::Doubled(Err(error)) => Some(&error.text),
            _ => None,
        }
    }
}

/// A pull that brought nothing.
#[derive(Debug)]
pub struct FetchError {
    pub text: String,
    /// The registry may be asked again after this.
    pub again_in: Duration,
}

/// What the mind wants counted, logged and written down.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    Restart { reason: &'static str },
    StartFailed,
    ExitCode(i64),
    Surprise(Event),
    Rollback,
    Audit(Record),
}

/// The container that the mind speaks of.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    pub id: String,
    pub name: String,
    pub hash: String,
    /// Id and start time: one run of it.
    pub run: String,
    pub pid: Option<i64>,
    pub started_at: Option<SystemTime>,
    /// Its own; None: SIGTERM.
    pub stop_signal: Option<String>,
    pub image_id: String,
    /// `8080/tcp` → `0.0.0.0:32768`, as bound.
    pub ports: Vec<(String, String)>,
    /// When this agent has started it.
    pub since: Option<Instant>,
    /// Not made by us, but taken over as it is.
    pub foreign: bool,
    /// Its death has been counted.
    pub dead: bool,
}

/// A run that the task is to probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Attended {
    pub id: String,
    pub run: String,
    pub pid: Option<i64>,
    /// Its startup probe has passed before.
    pub passed: bool,
    /// When it was started, where this agent has started it.
    pub since: Option<Instant>,
}

/// What the next turn of the task's loop is to be.
#[derive(Debug)]
pub enum Next {
    /// To be done now, in place of whatever was under way.
    Begin(Work),
    /// Something was decided; ask again.
    Moved,
    /// Nothing until something happens or [`Mind::due`] comes.
    Quiet,
}
