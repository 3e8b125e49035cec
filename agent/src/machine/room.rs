//! The loop that hears logind and update_engine, and asks systemd how it is.
//!
//! Everything is asked for at each look, every 30 s and after each signal, so a signal that is
//! lost, or a bus that comes back as another, costs half a minute at most and nothing for good.

use super::counts::Counts;
use super::departure::{self, Act, Departure, Event, Stage};
use super::{Parts, Status};
use crate::backoff::Backoff;
use crate::chain::Chain;
use crate::host::bus::login1::{self, Inhibitor, Login1};
use crate::host::bus::signals::{self, Signals};
use crate::host::bus::systemd1::Systemd1;
use crate::host::bus::update1::{self, Update1};
use crate::host::bus::{Bus, BusError};
use crate::pulse::Beat;
use crate::supervise;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use zbus::Message;

/// Between looks.
const LOOK: Duration = Duration::from_secs(30);
/// Between looks at least, whatever is signalled.
const GAP: Duration = Duration::from_millis(100);
/// More between those that update_engine's progress brings about.
const AGAIN: Duration = Duration::from_secs(1);
/// For what a look asks of logind.
const PATIENCE: Duration = Duration::from_secs(5);
/// For the rest of it: a shutdown may be announced meanwhile.
const REST: Duration = Duration::from_secs(1);
/// A container's grace alone is 10 s by default; logind's own delay is 5 s.
const SHORT: Duration = Duration::from_secs(15);
/// Between tries to reach a bus.
const RECONNECT: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// The loop's promise to the watchdog.
pub const ALLOWANCE: Duration = Duration::from_secs(120);
const RULES: [&str; 4] = [
    login1::PREPARE,
    login1::OWNER,
    update1::STATUS_UPDATE,
    update1::OWNER,
];
/// Who holds a shutdown back, as `systemd-inhibit --list` shows it.
const WHO: &str = "agent";
const WHY: &str = "containers are drained and stopped in order";

/// The room's first loop.
pub struct Machine {
    bus: Bus,
    login: Login1,
    systemd: Systemd1,
    updates: Update1,
    supervise: supervise::Handle,
    reboot_file: PathBuf,
    sender: watch::Sender<Arc<Status>>,
    counts: Counts,
    status: Status,
    signals: Option<Signals>,
    departure: Departure,
    inhibitor: Option<Inhibitor>,
    /// logind's, as it last said.
    patience: Duration,
    look_at: Instant,
    looked_at: Instant,
    n_failures: u32,
    /// Troubles that have been told and are not over, by whom they are with.
    told: Vec<(&'static str, String)>,
}

enum Heard {
    Stop,
    /// None: the connection has ended.
    Signal(Option<Message>),
    Rested,
    Due,
}

impl Machine {
    pub(super) fn new(parts: Parts, sender: watch::Sender<Arc<Status>>, counts: Counts) -> Machine {
        Machine {
            login: Login1::new(parts.bus.clone()),
            systemd: Systemd1::new(parts.bus.clone()),
            updates: Update1::new(parts.bus.clone()),
            bus: parts.bus,
            supervise: parts.supervise,
            reboot_file: parts.reboot_file,
            sender,
            counts,
            status: Status::default(),
            signals: None,
            departure: Departure::default(),
            inhibitor: None,
            patience: Duration::ZERO,
            look_at: Instant::now(),
            looked_at: Instant::now(),
            n_failures: 0,
            told: Vec::new(),
        }
    }

    /// Listens until `stop`. What is held back is let go then: who would be waited for is gone.
    pub async fn run(mut self, beat: Beat, stop: CancellationToken) {
        loop {
            beat.beat();
            let until = match self.departure.stage {
                Stage::Leaving { until } if self.departure.held => Some(until),
                _ => None,
            };
            let due = until.map_or(self.look_at, |until| until.min(self.look_at));
            let supervise = self.supervise.clone();
            let heard = tokio::select! {
                () = stop.cancelled() => Heard::Stop,
                signal = next(&mut self.signals) => Heard::Signal(signal),
                _ = supervise.wait_for(has_come_to_rest), if until.is_some() => Heard::Rested,
                () = sleep_until(due) => Heard::Due,
            };
            let handled = async {
                match heard {
                    Heard::Stop => {}
                    Heard::Signal(Some(message)) => self.hear(&message),
                    Heard::Signal(None) => {
                        warn!("the connection to the system bus has ended");
                        self.lose();
                        self.publish();
                    }
                    Heard::Rested => self.feed(Event::Rested).await,
                    Heard::Due => {
                        self.feed(Event::Due).await;
                        if self.look_at <= Instant::now() {
                            self.look().await;
                        }
                    }
                }
            };
            if stop.is_cancelled() || stop.run_until_cancelled(handled).await.is_none() {
                return;
            }
        }
    }

    /// A signal says that there is something to ask, not what; however many there are.
    fn hear(&mut self, message: &Message) {
        let soon = (self.looked_at + GAP).max(Instant::now());
        let Some((interface, member)) = signals::name(message) else {
            return;
        };
        let look_at = match (interface.as_str(), member.as_str()) {
            (login1::INTERFACE, _) => soon,
            (_, "NameOwnerChanged") => {
                if signals::owner(message).as_deref() == Some(login1::SERVICE) {
                    // It may not know any more what we hold.
                    self.departure = departure::next(self.departure, Event::Lost, soon).0;
                }
                soon
            }
            (update1::INTERFACE, _) => soon + AGAIN,
            _ => return,
        };
        self.look_at = self.look_at.min(look_at);
    }

    fn lose(&mut self) {
        let now = Instant::now();
        self.signals = None;
        self.status.bus = Some(false);
        self.departure = departure::next(self.departure, Event::Lost, now).0;
        self.look_at = now + RECONNECT.jittered(self.n_failures, fastrand::f64());
        self.n_failures = self.n_failures.saturating_add(1);
    }

    async fn look(&mut self) {
        let by = Instant::now() + PATIENCE;
        self.looked_at = Instant::now();
        self.look_at = self.looked_at + LOOK;
        // In memory, as /run is.
        self.status.reboot_file = self.reboot_file.exists();
        if self.signals.is_none() {
            match self.bus.listen(&RULES, by).await {
                Ok(signals) => self.signals = Some(signals),
                Err(error) => {
                    self.trouble("system bus", Some(&error));
                    self.lose();
                    self.status.systemd = None;
                    self.status.update = None;
                    self.publish();
                    return;
                }
            }
        }
        self.trouble("system bus", None);
        self.n_failures = 0;
        self.status.bus = Some(true);
        // First what cannot wait.
        let told = self.ask_logind(by).await;
        match &told {
            Ok((preparing, patience)) => {
                self.trouble("logind", None);
                self.patience = *patience;
                let told = Event::Told {
                    preparing: *preparing,
                    patience: *patience,
                };
                self.feed(told).await;
            }
            Err(error) => self.trouble("logind", Some(error)),
        }
        let by = Instant::now() + REST;
        let update = self.updates.status(by).await;
        self.trouble("update_engine", update.as_ref().err());
        self.status.update = update.unwrap_or_default();
        let session = self.systemd.open(by).await;
        self.status.systemd = match session {
            Ok(session) => session.manager("SystemState").await.ok(),
            Err(_) => None,
        };
        self.publish();
        if told.is_err_and(|error| !error.is_refused()) {
            // It hangs or is on its way: it may be about to say something that matters.
            self.look_at = Instant::now() + PATIENCE;
        }
    }

    /// Whether a shutdown has begun, and how long it waits.
    async fn ask_logind(&self, by: Instant) -> Result<(bool, Duration), BusError> {
        let preparing = self.login.is_preparing(by).await?;
        Ok((preparing, self.login.longest_delay(by).await?))
    }

    async fn feed(&mut self, event: Event) {
        let (then, acts) = departure::next(self.departure, event, Instant::now());
        self.departure = then;
        // The heartbeat says so before the first container hears of it.
        self.publish();
        for act in acts {
            self.act(act).await;
        }
        self.publish();
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Inhibit => {
                let by = Instant::now() + PATIENCE;
                let taken = self.login.inhibit(WHO, WHY, by).await;
                self.trouble("shutdown inhibitor", taken.as_ref().err());
                if let Ok(inhibitor) = taken {
                    // The one before ends here, when the new one counts.
                    self.inhibitor = Some(inhibitor);
                    let inhibited = departure::next(self.departure, Event::Inhibited, by);
                    self.departure = inhibited.0;
                    let within = departure::within(self.patience);
                    if within < SHORT {
                        warn!(
                            ?within,
                            "a shutdown of the host hardly waits for the containers: \
                             raise logind's InhibitDelayMaxSec="
                        );
                    } else {
                        info!(?within, "a shutdown of the host waits for the containers");
                    }
                }
            }
            Act::Stop { within } => {
                warn!(
                    within = within.as_secs(),
                    "the host shuts down, containers are drained and stopped"
                );
                if let Err(error) = self.supervise.host_goes(within).await {
                    debug!(%error, "nobody to stop the containers");
                }
            }
            Act::Resume => {
                info!("the host does not shut down after all, containers run again");
                if let Err(error) = self.supervise.host_stays().await {
                    debug!(%error, "nobody to start the containers");
                }
            }
            Act::LetGo => {
                let status = self.supervise.status();
                let left = status.containers.iter().filter(|one| one.phase.may_run());
                let left: Vec<&str> = left.map(|one| one.name.as_str()).collect();
                self.inhibitor = None;
                let names = left.join(", ");
                if left.is_empty() {
                    info!("containers have stopped, the host may go down");
                } else if status.docker.reachable == Some(false) {
                    warn!(left = names, "docker does not answer, the host goes down");
                } else {
                    warn!(
                        left = names,
                        "logind waits no longer (InhibitDelayMaxSec=), the host goes down"
                    );
                }
            }
        }
    }

    /// Each trouble is told once, until it is over or another.
    fn trouble(&mut self, with: &'static str, error: Option<&BusError>) {
        let known = self.told.iter().position(|(name, _)| *name == with);
        let Some(error) = error else {
            if let Some(at) = known {
                self.told.swap_remove(at);
                info!(with, "answers again");
            }
            return;
        };
        let text = Chain(error).to_string();
        match known {
            Some(at) if self.told[at].1 == text => return,
            Some(at) => self.told[at].1 = text.clone(),
            None => self.told.push((with, text.clone())),
        }
        info!(
            with,
            error = text,
            "cannot be asked, looked for in the background"
        );
    }

    fn publish(&mut self) {
        self.status.inhibits = self.departure.held;
        self.status.leaving = self.departure.stage != Stage::Staying;
        self.counts.show(&self.status);
        let status = &self.status;
        self.sender.send_if_modified(|shown| {
            let differs = **shown != *status;
            if differs {
                *shown = Arc::new(status.clone());
            }
            differs
        });
    }
}

async fn next(signals: &mut Option<Signals>) -> Option<Message> {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

/// Nothing runs any more, or Docker is not there to stop it.
fn has_come_to_rest(status: &supervise::Status) -> bool {
    status.docker.reachable == Some(false)
        || status.containers.iter().all(|one| !one.phase.may_run())
}
