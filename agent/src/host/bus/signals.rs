//! What the bus tells unasked, over a connection of its own.
//!
//! The shared connection is closed when a call goes unanswered; one that listens must outlive
//! that. A signal may be sent to us by any process of the host, past every rule: take it for a
//! hint, and ask whom it concerns.

use super::{Bus, BusError};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};
use zbus::message::Type;
use zbus::{Message, MessageStream};

const SERVICE: &str = "org.freedesktop.DBus";
const PATH: &str = "/org/freedesktop/DBus";
const ADD_MATCH: &str = "AddMatch";

/// Signals as they come.
pub struct Signals {
    messages: MessageStream,
}

impl Bus {
    /// Hears the signals of these match rules ("D-Bus Specification", "Match Rules") from now on.
    /// Errors: the bus's; nothing takes longer than `deadline`.
    pub async fn listen(&self, rules: &[&str], deadline: Instant) -> Result<Signals, BusError> {
        let link = self.opened(deadline).await?;
        // Made before the rules are known to the bus, so that it misses nothing.
        let messages = MessageStream::from(link.clone());
        for rule in rules {
            let call = link.call_method(Some(SERVICE), PATH, Some(SERVICE), ADD_MATCH, rule);
            match timeout_at(deadline, call).await {
                Ok(Ok(_)) => {}
                Ok(Err(source)) => {
                    return Err(BusError::Lost {
                        service: SERVICE,
                        method: ADD_MATCH,
                        source,
                    });
                }
                Err(_) => {
                    return Err(BusError::Late {
                        service: SERVICE,
                        method: ADD_MATCH,
                    });
                }
            }
        }
        Ok(Signals { messages })
    }
}

impl Signals {
    /// The next signal; None: the connection has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match self.messages.next().await {
                Some(Ok(message)) if message.message_type() == Type::Signal => {
                    return Some(message);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}

/// Whose name has come or gone, where it is `NameOwnerChanged`.
pub fn owner(message: &Message) -> Option<String> {
    let body = message.body();
    let changed: Result<(&str, &str, &str), _> = body.deserialize();
    changed.ok().map(|(name, _, _)| name.to_owned())
}

/// Name of the interface and the member: `org.freedesktop.login1.Manager`, `PrepareForShutdown`.
pub fn name(message: &Message) -> Option<(String, String)> {
    let header = message.header();
    let interface = header.interface()?.to_string();
    Some((interface, header.member()?.to_string()))
}
