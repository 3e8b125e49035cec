//! The web configuration of the metrics listener: TLS, client certificates,
//! logins and headers, in the file format of Prometheus' exporters.
//!
//! The file, and the PEM files that it names, are looked at for each connection
//! and each request, and read again when they changed; a new certificate needs
//! no restart. While they cannot be used nobody is served: handshakes end,
//! requests get 500, and the log says once what is wrong and once that it is
//! mended. TLS can be switched on while running; once it was on, connections
//! without it are not served until the agent starts anew.
//!
//! Does not know what is served behind it: [`Web`] is the listener's
//! [`Door`], [`Guard`] a [`Handler`] around the real one. Files are read in a
//! thread for blocking work, one reader at a time.

mod file;
mod guard;
mod logins;
mod stamp;
mod tls;
mod yaml;

#[cfg(test)]
mod tests;

pub use guard::Guard;

use crate::chain::Chain;
use crate::http::{Door, EntryFuture};
use crate::listener::Stream;
use crate::metrics::web::file::Pem;
use crate::metrics::web::logins::{Logins, Users};
use crate::metrics::web::stamp::Stamps;
use crate::metrics::web::tls::{Material, TlsError};
use hyper::header::{HeaderName, HeaderValue};
use rustls::ServerConfig;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, info, warn};

/// Bytes of any of the files; more is no such file.
const MAX_FILE: u64 = 1 << 20;
/// First byte of a TLS handshake record, RFC 8446 section 5.1.
const HANDSHAKE: u8 = 0x16;
/// What Go's server says there.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
Connection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
/// How long a peer that spoke plain HTTP may take to read that.
const GOODBYE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum WebError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is larger than {MAX_FILE} bytes")]
    TooLarge { path: PathBuf },
    #[error("{path}, line {line}: {what}")]
    Fault {
        path: PathBuf,
        line: usize,
        what: String,
    },
    #[error("tls_server_config in {path}")]
    Tls { path: PathBuf, source: TlsError },
    #[error("{path} has no tls_server_config any more: restart the agent to serve without TLS")]
    Downgrade { path: PathBuf },
}

/// What one reading of the files says.
struct Current {
    tls: Option<Arc<ServerConfig>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Users,
}

/// The file and what it said last.
pub struct Web {
    path: PathBuf,
    known: Mutex<Known>,
    logins: Logins,
    /// One thread at a time looks at the files, however many peers come.
    turn: Arc<Semaphore>,
}

#[derive(Default)]
struct Known {
    stamps: Option<Stamps>,
    /// None: cannot be used.
    current: Option<Arc<Current>>,
    /// What was logged of the fault that holds.
    fault: Option<String>,
    /// TLS was on once.
    is_tls: bool,
}

/// Reads the file and all that it names, as a start would.
pub fn check(path: &Path) -> Result<(), WebError> {
    let mut stamps = Stamps::default();
    read(path, &mut stamps, &mut Vec::new()).map(drop)
}

/// Whether `text`, as of a file at `path`, is right in itself; what it names is not looked at.
pub fn check_text(path: &Path, text: &str) -> Result<(), WebError> {
    let parsed = file::read(path, text).map(drop);
    parsed.map_err(|fault| WebError::Fault {
        path: path.to_owned(),
        line: fault.line,
        what: fault.what,
    })
}

impl Web {
    /// Reads the files, and logs where that fails: it is tried again when they change.
    pub fn new(path: PathBuf) -> Arc<Web> {
        let web = Web {
            path,
            known: Mutex::default(),
            logins: Logins::new(),
            turn: Arc::new(Semaphore::new(1)),
        };
        web.look();
        Arc::new(web)
    }

    /// What holds now; none while the files cannot be used.
    async fn current(self: &Arc<Web>) -> Option<Arc<Current>> {
        let turn = self.turn.clone().acquire_owned().await.ok()?;
        let web = self.clone();
        let look = tokio::task::spawn_blocking(move || {
            let current = web.look();
            drop(turn);
            current
        });
        look.await.ok().flatten()
    }

    fn look(&self) -> Option<Arc<Current>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.stamps.as_ref().is_some_and(Stamps::still_hold) {
            return known.current.clone();
        }
        let mut stamps = Stamps::default();
        let mut notes = Vec::new();
        let outcome = read(&self.path, &mut stamps, &mut notes);
        let is_same = known
            .stamps
            .as_ref()
            .is_some_and(|old| old.are_equal(&stamps));
        known.stamps = Some(stamps);
        let outcome = outcome.and_then(|current| match (known.is_tls, &current.tls) {
            (true, None) => Err(WebError::Downgrade {
                path: self.path.clone(),
            }),
            _ => Ok(current),
        });
        let path = self.path.display();
        match outcome {
            // Looked at again because the change is so young; nothing to tell twice.
            Ok(current) if is_same && known.current.is_some() => {
                known.current = Some(Arc::new(current));
            }
            Ok(current) => {
                for note in notes {
                    warn!(%path, note, "the web configuration asks for what there is not");
                }
                let tls = current.tls.is_some();
                info!(%path, tls, users = !current.users.are_none(), "web configuration read");
                known.is_tls |= tls;
                known.current = Some(Arc::new(current));
                known.fault = None;
            }
            Err(fault) => {
                let fault = Chain(&fault).to_string();
                if known.fault.as_ref() != Some(&fault) {
                    error!(
                        error = fault,
                        "the metrics listener serves nobody until this is mended"
                    );
                }
                known.current = None;
                known.fault = Some(fault);
            }
        }
        known.current.clone()
    }
}

fn read(path: &Path, stamps: &mut Stamps, notes: &mut Vec<String>) -> Result<Current, WebError> {
    let text = stamped(path, stamps)?;
    let text = String::from_utf8_lossy(&text);
    let file = file::read(path, &text).map_err(|fault| WebError::Fault {
        path: path.to_owned(),
        line: fault.line,
        what: fault.what,
    })?;
    notes.extend(file.notes);
    let tls = match file.tls {
        None => None,
        Some(tls) => {
            let mut pem = |pem: &Pem| match pem {
                Pem::File(path) => stamped(path, stamps),
                Pem::Text(text) => Ok(text.clone().into_bytes()),
            };
            let material = Material {
                cert: pem(&tls.cert)?,
                key: pem(&tls.key)?,
                client_ca: tls.client_ca.as_ref().map(pem).transpose()?,
            };
            let config = tls::config(&tls, &material, notes);
            Some(config.map_err(|source| WebError::Tls {
                path: path.to_owned(),
                source,
            })?)
        }
    };
    Ok(Current {
        tls,
        headers: file.headers,
        users: Users::new(file.users),
    })
}

/// Reads a file of bounded size; its stamp is taken first, so that a change
/// while reading shows as one.
fn stamped(path: &Path, stamps: &mut Stamps) -> Result<Vec<u8>, WebError> {
    use std::io::Read;
    stamps.add(path);
    let failed = |source| WebError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let length = file.take(MAX_FILE + 1).read_to_end(&mut bytes);
    if length.map_err(failed)? as u64 > MAX_FILE {
        return Err(WebError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// The TLS handshake, where the file asks for it.
pub struct Entry(pub Arc<Web>);

impl Door for Entry {
    fn enter(&self, stream: Stream) -> EntryFuture {
        let web = self.0.clone();
        Box::pin(async move {
            let current = web.current().await?;
            let Some(config) = current.tls.clone() else {
                return Some(stream);
            };
            match stream.first_byte().await {
                Ok(Some(HANDSHAKE)) => {}
                Ok(Some(byte)) => {
                    debug!(peer = stream.peer(), "no TLS handshake");
                    if byte.is_ascii_alphabetic() {
                        turn_away(stream).await;
                    }
                    return None;
                }
                Ok(None) | Err(_) => return None,
            }
            let peer = stream.peer();
            match TlsAcceptor::from(config).accept(stream).await {
                Ok(stream) => Some(Stream::Tls(Box::new(stream))),
                Err(error) => {
                    debug!(peer, %error, "TLS handshake failed");
                    None
                }
            }
        })
    }
}

/// Tells a peer that spoke plain HTTP, and reads what it sent: closing before
/// that would take the answer back.
async fn turn_away(mut stream: Stream) {
    let told = async {
        stream.write_all(NOT_TLS).await?;
        stream.shutdown().await?;
        let mut rest = (&mut stream).take(MAX_FILE);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(GOODBYE, told).await;
}
