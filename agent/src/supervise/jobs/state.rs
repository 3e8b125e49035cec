//! The life of one job in words: what is known, what happens, what is done.
//!
//! What follows from what is decided in [`super::job`]; the room acts on it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// All that is known of a job; what is not skipped outlives the agent.
/// Times are Unix milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// The schedule for which `mark` holds; "" before the first.
    pub schedule: String,
    /// Due times up to here are settled.
    pub mark: i64,
    /// What this host's jitter is drawn from.
    pub seed: u64,
    /// Number of the last run.
    pub number: u64,
    /// Due times that have begun a run, the newest last.
    pub begun: VecDeque<i64>,
    /// Under way, the oldest first.
    pub runs: Vec<Run>,
    /// Ended, the newest last.
    pub history: VecDeque<Record>,
    pub last_success: Option<i64>,
    /// The container of the last failed run, kept for its logs: its run and its id.
    pub kept: Option<(u64, String)>,
    /// Left the config: goes when nothing of it runs.
    #[serde(skip)]
    pub retired: bool,
    /// A due time that waits for its jitter.
    #[serde(skip)]
    pub pending: Option<i64>,
    /// From when on `.1` is known to be the next due time.
    #[serde(skip)]
    pub ahead: Option<(i64, i64)>,
    /// Why the last due time began nothing.
    #[serde(skip)]
    pub message: Option<String>,
}

/// A run under way: one container after the other, as attempts fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub number: u64,
    /// From 1.
    pub attempt: u32,
    pub cause: Cause,
    pub due: Option<i64>,
    pub begun: i64,
    pub stage: Stage,
    /// What went wrong with the attempt before.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Schedule,
    /// A missed run made up for.
    CatchUp,
    Operator,
}

/// Where a run is. Monotonic times are not saved; they are drawn anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// For the end of the run that it replaces.
    Queued,
    /// `asked`: an answer will come.
    Starting {
        #[serde(skip)]
        asked: bool,
        #[serde(skip)]
        again: Option<Instant>,
        stop: Option<Why>,
    },
    Running {
        id: String,
        since: i64,
        #[serde(skip)]
        deadline: Option<Instant>,
    },
    /// `until` None: not signalled since the agent started.
    Stopping {
        id: String,
        since: i64,
        why: Why,
        #[serde(skip)]
        until: Option<Instant>,
    },
    /// For the next attempt.
    Waiting {
        until: i64,
        #[serde(skip)]
        at: Option<Instant>,
    },
}

/// Why a run is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    Timeout,
    Operator,
    Replaced,
    /// The job left the config.
    Removed,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub number: u64,
    /// The last one.
    pub attempt: u32,
    pub cause: Cause,
    pub due: Option<i64>,
    pub begun: i64,
    pub ended: i64,
    /// None where no process ended.
    pub code: Option<i64>,
    pub class: Class,
    pub reason: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Success,
    Error,
    Signal,
    Oom,
    Timeout,
    /// It could not be started.
    Start,
    /// Its container is gone, and with it how it ended.
    Lost,
    /// We stopped it.
    Stopped,
}

impl Class {
    pub const ALL: [Class; 8] = [
        Class::Success,
        Class::Error,
        Class::Signal,
        Class::Oom,
        Class::Timeout,
        Class::Start,
        Class::Lost,
        Class::Stopped,
    ];

    /// As logs, metrics and status show it.
    pub fn word(self) -> &'static str {
        match self {
            Class::Success => "success",
            Class::Error => "error",
            Class::Signal => "signal",
            Class::Oom => "oom",
            Class::Timeout => "timeout",
            Class::Start => "start",
            Class::Lost => "lost",
            Class::Stopped => "stopped",
        }
    }

    pub fn is_failure(self) -> bool {
        !matches!(self, Class::Success | Class::Stopped)
    }
}

/// One attempt of one run: what its container's labels say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub number: u64,
    pub attempt: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time has passed, or Docker has come or gone.
    Tick,
    /// All containers of this job that Docker has.
    Listed(Vec<Seen>),
    Launched {
        key: Key,
        id: String,
        since: i64,
    },
    LaunchFailed {
        key: Key,
        failure: Failure,
        text: String,
    },
    Ended {
        id: String,
        exit: Exit,
    },
    /// Someone removed it.
    Vanished {
        id: String,
    },
    /// The operator's run, now.
    Start,
    /// The operator ends what is under way.
    Stop,
    /// The config has no such job any more.
    Retire,
    /// The config has changed.
    Changed,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub id: String,
    pub key: Key,
    pub due: Option<i64>,
    pub is_running: bool,
    /// Unix milliseconds.
    pub created: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub code: i64,
    pub is_oom: bool,
    pub at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Docker said no.
    Failed,
    /// No answer: it may have been made or not.
    Unsure,
    /// Given up while the image was being fetched.
    Cancelled,
    /// There is no such container, and it is too late to make it.
    TooLate,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make and start the attempt's container, or find it. `late`: only find it.
    Launch {
        key: Key,
        late: bool,
    },
    /// Give up the launch if it still fetches the image.
    Cancel(Key),
    Inspect(String),
    /// Its own stop signal.
    Stop(String),
    Kill(String),
    Remove(String),
    Tell(News),
}

/// What is worth a log line and a count.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    Begun {
        number: u64,
        cause: Cause,
    },
    Retry {
        number: u64,
        attempt: u32,
        reason: String,
    },
    Ended(Record),
    Skipped {
        due: i64,
    },
    Missed {
        n: usize,
    },
    /// Found running, unknown to the memory.
    Adopted {
        number: u64,
    },
}

/// The moment of an event.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Unix milliseconds.
    pub wall: i64,
    pub mono: Instant,
    /// Docker answers.
    pub docker: bool,
    /// 0.0..1.0, drawn anew.
    pub spread: f64,
}

impl Run {
    pub fn key(&self) -> Key {
        Key {
            number: self.number,
            attempt: self.attempt,
        }
    }

    /// Of the container that is known to have been started.
    pub fn id(&self) -> Option<&str> {
        match &self.stage {
            Stage::Running { id, .. } | Stage::Stopping { id, .. } => Some(id),
            Stage::Queued | Stage::Starting { .. } | Stage::Waiting { .. } => None,
        }
    }
}

impl Why {
    pub fn text(self) -> &'static str {
        match self {
            Why::Timeout => "ran longer than its timeout",
            Why::Operator => "stopped by the operator",
            Why::Replaced => "replaced by the next run",
            Why::Removed => "the job left the config",
        }
    }
}

impl Exit {
    pub fn class(self) -> Class {
        match self.code {
            0 => Class::Success,
            _ if self.is_oom => Class::Oom,
            129..=192 => Class::Signal,
            _ => Class::Error,
        }
    }
}

pub fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Times outside the calendar are moved to its end.
pub fn stamp(unix_millis: i64) -> Timestamp {
    let end = if unix_millis < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_millisecond(unix_millis).unwrap_or(end)
}

pub fn unix(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// As Prometheus has times and spans.
pub fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}
