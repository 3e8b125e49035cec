//! Keeps the line to Docker: tells whether it answers, what there is, what happens.
//!
//! Events are hints that may be lost; a list every 30 s, and after each
//! reconnect, is the truth. A daemon that says nothing for a ping's deadline is
//! down, and is asked again after 0.2, 0.4 … 5 s.

use super::act;
use crate::backoff::Backoff;
use crate::chain::Chain;
use crate::docker::container::Summary;
use crate::docker::events::{Event, Events};
use crate::docker::{Docker, Error};
use crate::pulse::Pulse;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

const RELIST: Duration = Duration::from_secs(30);
const PING: Duration = Duration::from_secs(10);
const RECONNECT: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// Slower than the slowest call here, with room for a starved machine.
const ALLOWANCE: Duration = Duration::from_secs(90);

/// What the watcher tells the supervisor, in the order in which it came to be.
#[derive(Debug)]
pub enum Notice {
    /// Docker answers again; a list follows.
    Up {
        version: String,
    },
    /// Docker does not answer.
    Down {
        error: String,
    },
    /// All containers with our label.
    Listed(Vec<Summary>),
    Happened(Event),
}

/// Runs until the supervisor has gone.
pub async fn run(docker: Docker, notices: mpsc::Sender<Notice>, pulse: Pulse) {
    let beat = pulse.register("docker watcher", ALLOWANCE);
    let mut failures = 0;
    loop {
        beat.beat();
        let error = match connect(&docker, &notices).await {
            Ok(mut events) => {
                failures = 0;
                follow(&docker, &mut events, &notices, &beat).await
            }
            Err(error) => Some(error),
        };
        // None: nobody listens any more.
        let Some(error) = error else { return };
        let down = Notice::Down {
            error: Chain(&error).to_string(),
        };
        if notices.send(down).await.is_err() {
            return;
        }
        sleep(RECONNECT.jittered(failures, fastrand::f64())).await;
        failures = failures.saturating_add(1);
    }
}

async fn connect(docker: &Docker, notices: &mpsc::Sender<Notice>) -> Result<Events, Error> {
    let version = docker.version().await?.engine;
    // From a moment ago: what happens between the list and the first read of
    // the stream is replayed by the daemon.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|now| i64::try_from(now.as_secs()).ok())
        .map(|now| now - 1);
    let events = docker.events(&act::ours(), since).await?;
    let listed = docker.list(&act::ours()).await?;
    // A supervisor that has gone is noticed at the next send.
    let _ = notices.send(Notice::Up { version }).await;
    let _ = notices.send(Notice::Listed(listed)).await;
    Ok(events)
}

/// None when the supervisor has gone, else what went wrong.
async fn follow(
    docker: &Docker,
    events: &mut Events,
    notices: &mpsc::Sender<Notice>,
    beat: &crate::pulse::Beat,
) -> Option<Error> {
    enum Heard {
        Event(Result<Event, Error>),
        Ping,
    }
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    let mut listed_at = Instant::now();
    loop {
        beat.beat();
        let heard = tokio::select! {
            event = events.next() => Heard::Event(event),
            _ = pings.tick() => Heard::Ping,
        };
        let notice = match heard {
            Heard::Event(Ok(event)) => Notice::Happened(event),
            Heard::Event(Err(error)) => return Some(error),
            Heard::Ping if listed_at.elapsed() < RELIST => match docker.ping().await {
                Ok(()) => continue,
                Err(error) => return Some(error),
            },
            Heard::Ping => match docker.list(&act::ours()).await {
                Ok(listed) => {
                    listed_at = Instant::now();
                    Notice::Listed(listed)
                }
                Err(error) => return Some(error),
            },
        };
        if notices.send(notice).await.is_err() {
            return None;
        }
    }
}
