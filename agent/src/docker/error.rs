//! What can go wrong with a call to Docker, by what the caller can do about it.

use std::fmt;
use std::time::Duration;

/// Longest text that is kept of an answer. Unit: characters.
const TEXT_LIMIT: usize = 600;

/// One call that failed: `cannot start container app`; the cause is the source.
#[derive(Debug, thiserror::Error)]
#[error("cannot {call}{}", Object(object))]
pub struct Error {
    /// What was tried: `start container`.
    call: &'static str,
    /// What it was tried on: a container, an image; empty for the daemon.
    object: String,
    #[source]
    cause: Cause,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The daemon said no.
    #[error("docker answered {status}: {message}")]
    Answer { status: u16, message: String },
    /// Nothing came back in time: the daemon, or this one object, hangs. What
    /// was asked may still happen.
    #[error("no answer from docker within {:?}", .0)]
    Late(Duration),
    /// Docker is there, but no byte came from the registry.
    #[error("no byte from the registry within {:?}", .0)]
    Stalled(Duration),
    /// No daemon at the socket; nothing was asked.
    #[error("docker is not reachable: {0}")]
    Absent(String),
    /// The connection broke before the answer; what was asked may have happened.
    #[error("connection to docker lost: {0}")]
    Lost(String),
    /// Asked for what this daemon does not have; nothing was sent.
    #[error("{key} needs API {}.{} of docker, this one speaks {}.{}", least.0, least.1, api.0, api.1)]
    TooOld {
        key: &'static str,
        least: (usize, usize),
        api: (usize, usize),
    },
    /// An answer that cannot be read, or an error inside a stream (a pull).
    #[error("{0}")]
    Other(String),
}

impl Error {
    pub fn new(call: &'static str, object: &str, cause: Cause) -> Error {
        Error {
            call,
            object: printable(object),
            cause,
        }
    }

    /// The daemon is away or silent: says nothing about the object asked for.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.cause,
            Cause::Late(_) | Cause::Absent(_) | Cause::Lost(_)
        )
    }

    /// The same call may succeed later without anyone's help.
    pub fn is_retryable(&self) -> bool {
        match self.cause {
            Cause::Answer { status, .. } => status >= 500 || status == 429 || status == 409,
            Cause::TooOld { .. } => false,
            Cause::Late(_)
            | Cause::Stalled(_)
            | Cause::Absent(_)
            | Cause::Lost(_)
            | Cause::Other(_) => true,
        }
    }

    /// No such container or image.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// The name is taken, or the container is in the wrong state for the call.
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(409)
    }

    /// The request itself is wrong (HTTP 400) for this daemon: trying again changes nothing.
    pub fn is_refused(&self) -> bool {
        self.status() == Some(400) || matches!(self.cause, Cause::TooOld { .. })
    }

    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    fn status(&self) -> Option<u16> {
        match self.cause {
            Cause::Answer { status, .. } => Some(status),
            _ => None,
        }
    }
}

impl Cause {
    pub fn of(error: &bollard::errors::Error) -> Cause {
        use bollard::errors::Error as Bollard;
        match error {
            Bollard::DockerResponseServerError {
                status_code,
                message,
            } => Cause::Answer {
                status: *status_code,
                message: printable(message),
            },
            Bollard::SocketNotFoundError(path) => Cause::Absent(format!("no socket at {path}")),
            Bollard::HyperLegacyError { err } if err.is_connect() => Cause::Absent(root(err)),
            Bollard::HyperLegacyError { err } => Cause::Lost(root(err)),
            Bollard::HyperResponseError { err } => Cause::Lost(root(err)),
            Bollard::IOError { err } => Cause::Lost(root(err)),
            Bollard::DockerStreamError { error } => Cause::Other(printable(error)),
            other => Cause::Other(printable(&other.to_string())),
        }
    }
}

/// The innermost cause: the layers above it only repeat "client error".
pub(super) fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    printable(&innermost.to_string())
}

/// Text from outside, made safe to print on one line of a terminal or a log.
pub fn printable(text: &str) -> String {
    let mut safe: String = text
        .trim()
        .chars()
        .take(TEXT_LIMIT)
        .map(|c| if is_plain(c) { c } else { ' ' })
        .collect();
    if text.trim().chars().nth(TEXT_LIMIT).is_some() {
        safe.push('…');
    }
    safe
}

/// Neither a control character nor one that hides or reorders its neighbours.
fn is_plain(c: char) -> bool {
    let is_formatting = matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    !c.is_control() && !is_formatting
}

struct Object<'a>(&'a str);

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        // Docker's own tools show twelve digits of an id.
        let is_id = self.0.len() == 64 && self.0.bytes().all(|b| b.is_ascii_hexdigit());
        write!(f, " {}", if is_id { &self.0[..12] } else { self.0 })
    }
}
