//! Docker's event stream, as hints: it may end, lose or repeat events.

use super::error::{Cause, Error};
use bollard::errors::Error as Bollard;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::{Stream, StreamExt};
use std::collections::HashMap;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Something happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub what: What,
    /// By the daemon's clock.
    pub at: Option<SystemTime>,
    /// The container's labels, and what else Docker says of it.
    pub attributes: HashMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The main process ended, with this exit code.
    Died(i64),
    /// The kernel's OOM killer struck inside.
    Oom,
    /// It was removed.
    Destroyed,
    /// It was started, by us or by someone else.
    Started,
    Renamed,
    /// Someone sent it a signal.
    Killed,
    Paused,
    /// Its limits or its restart policy were changed.
    Updated,
}

/// An open subscription. Its buffer is the socket: a reader that pauses slows
/// the daemon's stream, not this process's memory.
pub struct Events {
    stream: Pin<Box<dyn Stream<Item = Result<EventMessage, Bollard>> + Send>>,
}

impl Events {
    /// The next event of interest. Errors: the stream has ended or broken;
    /// subscribe anew. Cancel-safe.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            let cause = match self.stream.next().await {
                Some(Ok(message)) => match event(message) {
                    Some(event) => return Ok(event),
                    None => continue,
                },
                Some(Err(error)) => Cause::of(&error),
                None => Cause::Lost("the event stream ended".into()),
            };
            return Err(Error::new("follow docker's events", "", cause));
        }
    }
}

pub(super) fn subscribe(client: &bollard::Docker, labels: &[String], since: Option<i64>) -> Events {
    let actions = [
        "die", "oom", "kill", "destroy", "start", "rename", "pause", "update",
    ];
    let filters = HashMap::from([
        ("type", vec!["container".to_owned()]),
        ("event", actions.map(str::to_owned).to_vec()),
        ("label", labels.to_vec()),
    ]);
    let mut options = EventsOptionsBuilder::new().filters(&filters);
    if let Some(since) = since {
        options = options.since(&since.to_string());
    }
    Events {
        stream: Box::pin(client.events(Some(options.build()))),
    }
}

fn event(message: EventMessage) -> Option<Event> {
    let actor = message.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    let what = match message.action.as_deref()? {
        "die" => {
            // Docker always sends the code; without it the death still counts.
            let code = attributes
                .get("exitCode")
                .and_then(|code| code.parse().ok());
            What::Died(code.unwrap_or(-1))
        }
        "oom" => What::Oom,
        "destroy" => What::Destroyed,
        "start" => What::Started,
        "rename" => What::Renamed,
        "kill" => What::Killed,
        "pause" => What::Paused,
        "update" => What::Updated,
        _ => return None,
    };
    Some(Event {
        id: actor.id?,
        what,
        at: message
            .time_nano
            .and_then(|nanos| u64::try_from(nanos).ok())
            .map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos)),
        attributes,
    })
}
