//! The system bus: one connection for everybody, made when it is first needed.
//!
//! A [`Bus`] is a handle; clones share its connection. It knows how to call and
//! when to give up, and nothing of what is called: each service has a file of its
//! own with the calls that we make of it, in types.
//!
//! Connecting, with the greeting, takes [`CONNECT`] at most; a call as long as
//! its caller says. A connection on which a call went unanswered or was
//! abandoned, or that broke, is closed, and the next call makes a new one: a late
//! answer, or half a message, must meet nobody. Nothing here tries twice, so a
//! call that changes something is made once at most. No match rule is added
//! to it, so nothing arrives but answers; [`signals`] come over connections of their own.
//!
//! Spec: "D-Bus Specification" 0.43, "Message Protocol" and "Server Addresses".

pub mod login1;
pub mod signals;
pub mod systemd1;
pub mod update1;

#[cfg(test)]
mod tests;

use serde::Serialize;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use zbus::{Connection, DynamicType, Message, OwnedVariant};

/// The longest that connecting takes; a bus that works needs a millisecond.
pub const CONNECT: Duration = Duration::from_millis(500);
/// Where the bus is, if `DBUS_SYSTEM_BUS_ADDRESS` does not say.
const SOCKET: &str = "/run/dbus/system_bus_socket";

/// A way to a message bus.
#[derive(Clone)]
pub struct Bus(Arc<Shared>);

struct Shared {
    place: Place,
    link: Mutex<Option<Connection>>,
    /// One permit: who comes while another connects waits, and then shares the connection.
    connecting: Semaphore,
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    Socket(PathBuf),
    /// In the abstract namespace.
    Abstract(Vec<u8>),
    /// An address that cannot be used, as written.
    Unusable(String),
}

/// One object of a service. Constants of ours.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    pub service: &'static str,
    pub path: &'a str,
}

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("cannot use the bus address {address}: it is no unix socket")]
    Address { address: String },
    #[error("cannot connect to {place}")]
    Connect { place: String, source: io::Error },
    #[error("cannot open a session at {place}")]
    Greet { place: String, source: zbus::Error },
    #[error("{place} did not answer the greeting in time")]
    Deaf { place: String },
    #[error("{service} did not answer {method} in time")]
    Late {
        service: &'static str,
        method: &'static str,
    },
    #[error("{service} refused {method}: {name}")]
    Refused {
        service: &'static str,
        method: &'static str,
        /// Such as `org.freedesktop.DBus.Error.UnknownMethod`
        name: String,
    },
    #[error("the connection broke during {method} of {service}")]
    Lost {
        service: &'static str,
        method: &'static str,
        source: zbus::Error,
    },
    #[error("cannot understand what {service} answers to {method}")]
    Answer {
        service: &'static str,
        method: &'static str,
        source: zbus::Error,
    },
}

impl BusError {
    /// The service answered, and the connection is good: this question alone failed.
    pub fn is_refused(&self) -> bool {
        matches!(self, BusError::Refused { .. })
    }

    /// Nobody was there to be asked.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            BusError::Address { .. }
                | BusError::Connect { .. }
                | BusError::Greet { .. }
                | BusError::Deaf { .. }
        )
    }
}

impl Bus {
    /// The system bus, where `DBUS_SYSTEM_BUS_ADDRESS` or else the specification has it.
    /// Does not connect.
    pub fn system() -> Bus {
        let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_default();
        match address.as_str() {
            "" => Bus::new(Place::Socket(SOCKET.into())),
            address => Bus::at(address),
        }
    }

    /// The bus at the first unix socket of that list of addresses.
    pub fn at(addresses: &str) -> Bus {
        Bus::new(place(addresses))
    }

    fn new(place: Place) -> Bus {
        Bus(Arc::new(Shared {
            place,
            link: Mutex::default(),
            connecting: Semaphore::new(1),
        }))
    }

    /// Makes the connection if there is none. Errors: those that are
    /// [unreachable](BusError::is_unreachable); none is made before `deadline`.
    pub async fn connect(&self, deadline: Instant) -> Result<(), BusError> {
        self.connected(deadline).await.map(drop)
    }

    /// Calls a method. The answer's body is for [`body`].
    pub async fn call<A>(
        &self,
        object: Object<'_>,
        (interface, method): (&'static str, &'static str),
        arguments: &A,
        deadline: Instant,
    ) -> Result<Message, BusError>
    where
        A: Serialize + DynamicType,
    {
        let service = object.service;
        let link = self.connected(deadline).await?;
        let unanswered = Unanswered {
            bus: self,
            link: Some(link.clone()),
        };
        let answer = link.call_method(
            Some(service),
            object.path,
            Some(interface),
            method,
            arguments,
        );
        match timeout_at(deadline, answer).await {
            Err(_) => Err(BusError::Late { service, method }),
            Ok(Ok(message)) => {
                unanswered.answered();
                Ok(message)
            }
            Ok(Err(source)) => match error_name(&source) {
                Some(name) => {
                    unanswered.answered();
                    Err(BusError::Refused {
                        service,
                        method,
                        name,
                    })
                }
                None => Err(BusError::Lost {
                    service,
                    method,
                    source,
                }),
            },
        }
    }

    /// One property, by `org.freedesktop.DBus.Properties`.
    pub async fn property<T>(
        &self,
        object: Object<'_>,
        (interface, name): (&'static str, &'static str),
        deadline: Instant,
    ) -> Result<T, BusError>
    where
        T: TryFrom<OwnedVariant, Error = zbus::Error>,
    {
        let get = ("org.freedesktop.DBus.Properties", "Get");
        let message = self.call(object, get, &(interface, name), deadline).await?;
        let value: Result<OwnedVariant, zbus::Error> = message.body().deserialize();
        value
            .and_then(T::try_from)
            .map_err(|source| BusError::Answer {
                service: object.service,
                method: name,
                source,
            })
    }

    fn link(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.0.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, if there is one and the peer has not closed it.
    fn kept(&self) -> Option<Connection> {
        self.link().clone().filter(|link| !link.is_closed())
    }

    async fn connected(&self, deadline: Instant) -> Result<Connection, BusError> {
        let deadline = deadline.min(Instant::now() + CONNECT);
        if let Some(link) = self.kept() {
            return Ok(link);
        }
        let deaf = |_| BusError::Deaf {
            place: self.0.place.to_string(),
        };
        // The semaphore is never closed, so a permit is all that comes of it.
        let turn = timeout_at(deadline, self.0.connecting.acquire());
        let _turn = turn.await.map_err(deaf)?;
        if let Some(link) = self.kept() {
            return Ok(link);
        }
        let link = timeout_at(deadline, self.open()).await.map_err(deaf)??;
        *self.link() = Some(link.clone());
        Ok(link)
    }

    /// A new connection, for one who does not share it.
    async fn opened(&self, deadline: Instant) -> Result<Connection, BusError> {
        let deadline = deadline.min(Instant::now() + CONNECT);
        let opened = timeout_at(deadline, self.open()).await;
        opened.map_err(|_| BusError::Deaf {
            place: self.0.place.to_string(),
        })?
    }

    async fn open(&self) -> Result<Connection, BusError> {
        let place = &self.0.place;
        let failed = |source| BusError::Connect {
            place: place.to_string(),
            source,
        };
        let socket = match place {
            Place::Socket(path) => UnixStream::connect(path).await,
            Place::Abstract(name) => UnixStream::connect(abstract_name(name)).await,
            Place::Unusable(address) => {
                let address = address.clone();
                return Err(BusError::Address { address });
            }
        };
        let socket = socket.and_then(UnixStream::into_std).map_err(failed)?;
        let opened = zbus::connection::Builder::unix_stream(socket).build();
        opened.await.map_err(|source| BusError::Greet {
            place: place.to_string(),
            source,
        })
    }
}

/// What a message says, in a type of ours. Borrowed from the body.
pub fn body<'a, T>(
    body: &'a zbus::message::Body,
    service: &'static str,
    method: &'static str,
) -> Result<T, BusError>
where
    T: zbus::zvariant::DynamicDeserialize<'a>,
{
    body.deserialize().map_err(|source| BusError::Answer {
        service,
        method,
        source,
    })
}

/// A call on its way. Dropped without an answer, it closes the connection: part of the message may
/// have been sent, and the answer would come to whoever asks next.
struct Unanswered<'a> {
    bus: &'a Bus,
    link: Option<Connection>,
}

impl Unanswered<'_> {
    fn answered(mut self) {
        self.link = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Some(used) = self.link.take() else {
            return;
        };
        let mut kept = self.bus.link();
        // Somebody may have made a new one meanwhile; each has a name.
        let same = |link: &Connection| link.unique_name() == used.unique_name();
        if kept.as_ref().is_some_and(same) {
            kept.take();
        }
    }
}

/// The name of the error that the other side sent; none where it sent nothing.
fn error_name(error: &zbus::Error) -> Option<String> {
    use zbus::DBusError;
    match error {
        zbus::Error::MethodError(name, _, _) => Some(name.to_string()),
        zbus::Error::FDO(error) => match error.as_ref() {
            zbus::fdo::Error::ZBus(_) => None,
            error => Some(error.name().to_string()),
        },
        _ => None,
    }
}

/// The first unix socket of a list of addresses: `unix:path=/run/bus,guid=…;tcp:…`
fn place(addresses: &str) -> Place {
    let unix = |address: &str| {
        let keys = address.strip_prefix("unix:")?;
        keys.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            match key {
                "path" => Some(Place::Socket(path(unescaped(value)?))),
                "abstract" => Some(Place::Abstract(unescaped(value)?)),
                _ => None,
            }
        })
    };
    let found = addresses.split(';').find_map(unix);
    found.unwrap_or_else(|| Place::Unusable(addresses.into()))
}

/// The bytes that a value stands for, `%20` being one. None where that is not kept to.
fn unescaped(value: &str) -> Option<Vec<u8>> {
    let mut bytes = value.bytes();
    let mut plain = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some(plain)
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// As a path, which is how tokio takes it.
fn abstract_name(name: &[u8]) -> PathBuf {
    path([b"\0", name].concat())
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Socket(path) => path.display().fmt(f),
            Place::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
            Place::Unusable(address) => address.fmt(f),
        }
    }
}
