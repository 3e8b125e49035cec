//! `systemd`: states of units, and what else systemd counts of them, asked on
//! the system bus.
//!
//! The page is made in a thread that knows no runtime, the bus is spoken to in a
//! task: the collector ([`Asker`]) hands a question to the [`Reader`] and waits
//! [`PATIENCE`] for what it saw ([`families::Seen`]). One question at a time, one
//! connection, which stays open between scrapes; of the units that the settings
//! leave out nothing is asked beyond their place in the list. A bus that hangs
//! costs the page [`PATIENCE`] at most and the collector its success.

mod families;

use crate::host::bus::BusError;
use crate::host::bus::systemd1::{Session, Systemd1, Unit};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::Page;
use crate::metrics::options::Units;
use crate::metrics::pattern::{Pattern, whole};
use crate::pulse::Beat;
use families::{Seen, Socket, UnitSeen};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// From question to answer. A host with 300 units needs some 50 ms.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the collector waits beyond that for a task that runs late.
const MARGIN: Duration = Duration::from_millis(100);
/// Units asked at a time: enough that systemd never waits for us, too few to fill the socket.
const AT_A_TIME: usize = 8;
/// More are not asked: a host that leaks transient units must not fill the page.
const MOST_UNITS: usize = 2000;
/// How often the reader says that it lives.
const TURN: Duration = Duration::from_secs(5);
/// Its promise to the watchdog: a turn, and a question within it.
pub const ALLOWANCE: Duration = Duration::from_secs(20);

/// The collector's side.
#[derive(Clone)]
pub struct Asker {
    questions: mpsc::Sender<Question>,
}

/// The side of the bus; a task runs it.
pub struct Reader {
    systemd: Systemd1,
    choice: Choice,
    questions: mpsc::Receiver<Question>,
}

struct Question {
    deadline: Instant,
    reply: SyncSender<Result<Seen, AskError>>,
}

/// What to ask, and of whom.
struct Choice {
    include: Pattern,
    exclude: Pattern,
    tasks: bool,
    restarts: bool,
    start_times: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("systemd is not PID 1 here")]
    NotBooted { source: BusError },
    #[error("systemd cannot be asked over D-Bus")]
    Bus { source: BusError },
    #[error("{units} units are chosen, more than {MOST_UNITS}: choose fewer by unit_include")]
    TooMany { units: usize },
    #[error("systemd did not answer within {PATIENCE:?}")]
    Late,
    #[error("the last question to systemd is not answered yet")]
    Busy,
    #[error("nobody is there to ask systemd")]
    Nobody,
}

/// Both sides. The reader asks nothing before somebody scrapes.
pub fn open(units: &Units, systemd: Systemd1) -> (Asker, Reader) {
    let (sender, questions) = mpsc::channel(1);
    let choice = Choice {
        include: Pattern::new(&whole(&units.include)),
        exclude: Pattern::new(&whole(&units.exclude)),
        tasks: units.tasks,
        restarts: units.restarts,
        start_times: units.start_times,
    };
    let reader = Reader {
        systemd,
        choice,
        questions,
    };
    (Asker { questions: sender }, reader)
}

impl Collector for Asker {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        match self.ask() {
            Ok(seen) => {
                families::write(page, &seen);
                Ok(())
            }
            Err(AskError::NotBooted { .. }) => Err(CollectError::Absent {
                path: Systemd1::sign().into(),
            }),
            Err(source) => Err(CollectError::Systemd { source }),
        }
    }
}

impl Asker {
    fn ask(&self) -> Result<Seen, AskError> {
        // Room for the answer: the reader never blocks on a thread that has gone.
        let (reply, answer) = sync_channel(1);
        let deadline = Instant::now() + PATIENCE;
        let question = Question { deadline, reply };
        self.questions
            .try_send(question)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => AskError::Busy,
                mpsc::error::TrySendError::Closed(_) => AskError::Nobody,
            })?;
        match answer.recv_timeout(PATIENCE + MARGIN) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(AskError::Late),
            Err(RecvTimeoutError::Disconnected) => Err(AskError::Nobody),
        }
    }
}

enum Turn {
    Stop,
    Question(Option<Question>),
    Beat,
}

impl Reader {
    /// Answers until `stop`, or until there is no collector any more.
    pub async fn run(mut self, beat: Beat, stop: CancellationToken) {
        let mut turns = tokio::time::interval(TURN);
        loop {
            beat.beat();
            let turn = tokio::select! {
                () = stop.cancelled() => Turn::Stop,
                question = self.questions.recv() => Turn::Question(question),
                _ = turns.tick() => Turn::Beat,
            };
            match turn {
                Turn::Stop => return,
                Turn::Beat => {}
                // Rooms end when they are told to, not before.
                Turn::Question(None) => return stop.cancelled().await,
                Turn::Question(Some(question)) => {
                    let look = self.look(question.deadline);
                    let Some(seen) = stop.run_until_cancelled(look).await else {
                        return;
                    };
                    // The collector may have given up.
                    let _ = question.reply.try_send(seen);
                }
            }
        }
    }

    async fn look(&mut self, deadline: Instant) -> Result<Seen, AskError> {
        let bus = |source| AskError::Bus { source };
        let session = self.systemd.open(deadline).await.map_err(|source| {
            match source.is_unreachable() && !Systemd1::is_booted() {
                true => AskError::NotBooted { source },
                false => AskError::Bus { source },
            }
        })?;
        let units = session.units().await.map_err(bus)?;
        let mut seen = Seen::of(&units);
        seen.version = optional(session.manager("Version").await).map_err(bus)?;
        seen.state = optional(session.manager("SystemState").await).map_err(bus)?;
        let virtualization = session.manager("Virtualization").await;
        seen.virtualization = optional(virtualization).map_err(bus)?;
        let chosen = self.choice.choose(units);
        if chosen.len() > MOST_UNITS {
            let units = chosen.len();
            return Err(AskError::TooMany { units });
        }
        let choice = &self.choice;
        seen.units = stream::iter(chosen)
            .map(|unit| choice.look_at(&session, unit))
            .buffered(AT_A_TIME)
            .try_collect()
            .await
            .map_err(bus)?;
        Ok(seen)
    }
}

impl Choice {
    /// As node_exporter: the name matches the one and not the other, and the unit is loaded.
    fn choose(&mut self, mut units: Vec<Unit>) -> Vec<Unit> {
        units.retain(|unit| {
            unit.load_state == "loaded"
                && self.include.matches(&unit.name)
                && !self.exclude.matches(&unit.name)
        });
        units
    }

    /// Asks what there is to know of one unit. A property that it lacks, or a unit that is gone,
    /// is no error.
    async fn look_at(&self, session: &Session, unit: Unit) -> Result<UnitSeen, BusError> {
        const UNIT: &str = "org.freedesktop.systemd1.Unit";
        const SERVICE: &str = "org.freedesktop.systemd1.Service";
        const MOUNT: &str = "org.freedesktop.systemd1.Mount";
        const SOCKET: &str = "org.freedesktop.systemd1.Socket";
        const TIMER: &str = "org.freedesktop.systemd1.Timer";
        let path = unit.path.as_str();
        let kind = unit.name.rsplit_once('.').map_or("", |(_, kind)| kind);
        let mut seen = UnitSeen::of(&unit);
        let own_type = match kind {
            "service" => optional(session.text(path, (SERVICE, "Type")).await)?,
            "mount" => optional(session.text(path, (MOUNT, "Type")).await)?,
            _ => None,
        };
        seen.kind = own_type.unwrap_or_default();
        if kind == "service" && self.restarts {
            seen.restarts = optional(session.small(path, (SERVICE, "NRestarts")).await)?;
        }
        if kind == "service" && self.tasks {
            seen.tasks = optional(session.large(path, (SERVICE, "TasksCurrent")).await)?;
            seen.tasks_max = optional(session.large(path, (SERVICE, "TasksMax")).await)?;
        }
        if kind == "timer" {
            let last = session.large(path, (TIMER, "LastTriggerUSec")).await;
            seen.last_trigger = optional(last)?;
        }
        if kind == "socket" {
            seen.socket = Socket {
                accepted: optional(session.small(path, (SOCKET, "NAccepted")).await)?,
                connections: optional(session.small(path, (SOCKET, "NConnections")).await)?,
                refused: optional(session.small(path, (SOCKET, "NRefused")).await)?,
            };
        }
        if self.start_times {
            seen.started = match seen.is_active() {
                true => optional(session.large(path, (UNIT, "ActiveEnterTimestamp")).await)?,
                false => Some(0),
            };
        }
        Ok(seen)
    }
}

/// None where the other side has no such thing; an error where it did not answer.
fn optional<T>(answer: Result<T, BusError>) -> Result<Option<T>, BusError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_refused() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
