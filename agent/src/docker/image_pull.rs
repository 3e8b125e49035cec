//! One pull: its request, its progress, an eye on silence.
//!
//! The request is made here and not by the client library, which encodes
//! `X-Registry-Auth` with the standard alphabet of Base64 where Docker reads
//! the one for URLs (RFC 4648 section 5): a password with `?`, `>` or `~` at an
//! unlucky place would make Docker ask the registry as nobody, without a word.
//!
//! Invariants: one connection a pull, closed when the pull is dropped, which
//! makes Docker end it; memory is bounded by the longest line and by the number
//! of layers; `percent` never goes down.

use super::error::{Cause, Error};
use super::image::{Reference, check_reference};
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

/// Layers whose progress is kept; an image has at most 127.
const LAYER_LIMIT: usize = 256;
/// Longest line of progress, and longest refusal. Unit: bytes.
const LINE_LIMIT: usize = 64 << 10;
const CALL: &str = "pull image";

/// Who the registry is told that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: Secret,
    /// In place of the password: what `docker login` was given for it.
    pub identity_token: Option<Secret>,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes of layers that are here, and of those whose size is known.
    pub done: u64,
    pub total: u64,
    /// 0 to 99, over all layers; those of unknown size count as the mean of
    /// the others. None before the first size is known. Never goes down.
    pub percent: Option<u8>,
    /// Every layer is here and is being unpacked.
    pub unpacking: bool,
}

/// A pull under way. Dropping it ends it.
pub struct Pull {
    image: String,
    body: Incoming,
    /// Drives the connection.
    _connection: JoinSet<()>,
    unread: BytesMut,
    layers: Layers,
    stall: Duration,
    moved_at: Instant,
}

/// One line of Docker's answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    status: Option<String>,
    id: Option<String>,
    #[serde(rename = "progressDetail")]
    detail: Option<Detail>,
    #[serde(rename = "errorDetail")]
    error_detail: Option<Refusal>,
    error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: Option<i64>,
    total: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    message: String,
}

/// Where a pull is asked for.
pub(super) struct Way<'a> {
    pub socket: &'a Path,
    /// The API version agreed on: `1.41`.
    pub version: String,
    /// For the connection to the daemon.
    pub deadline: Duration,
    /// Longest time without a byte from the registry.
    pub stall: Duration,
}

impl Pull {
    pub(super) async fn begin(
        way: Way<'_>,
        image: &str,
        login: Option<&Login>,
    ) -> Result<Pull, Error> {
        check_reference(image)?;
        let failed = |cause| Error::new(CALL, image, cause);
        let stream = match timeout(way.deadline, UnixStream::connect(way.socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(Cause::Absent(error.to_string()))),
            Err(_) => return Err(failed(Cause::Late(way.deadline))),
        };
        let lost = |error: hyper::Error| failed(Cause::Lost(super::error::root(&error)));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its error is that of the body, too.
            let _ = connection.await;
        });
        let request = request(&way.version, image, login)
            .map_err(|error| failed(Cause::Other(error.to_string())))?;
        // Docker's first byte comes when the registry has answered.
        let answer = match timeout(way.stall, sender.send_request(request)).await {
            Ok(answer) => answer.map_err(lost)?,
            Err(_) => return Err(failed(Cause::Stalled(way.stall))),
        };
        let (status, body) = (answer.status(), answer.into_body());
        if status != StatusCode::OK {
            return Err(failed(refusal(status, body, way.deadline).await));
        }
        Ok(Pull {
            image: image.to_owned(),
            body,
            _connection: driver,
            unread: BytesMut::new(),
            layers: Layers::default(),
            stall: way.stall,
            moved_at: Instant::now(),
        })
    }

    /// Waits for the next sign of life; None when the image is here. Errors:
    /// the registry's word, or no byte for as long as was agreed.
    pub async fn next(&mut self) -> Result<Option<Progress>, Error> {
        match self.step().await {
            Ok(progress) => Ok(progress),
            Err(cause) => Err(Error::new(CALL, &self.image, cause)),
        }
    }

    /// Bytes of layers that came over the network so far, for a second try too.
    pub fn received(&self) -> u64 {
        self.layers.received
    }

    async fn step(&mut self) -> Result<Option<Progress>, Cause> {
        loop {
            while let Some(line) = take_line(&mut self.unread) {
                let Ok(line) = serde_json::from_slice::<Line>(&line) else {
                    continue;
                };
                if let Some(text) = line
                    .error_detail
                    .map(|detail| detail.message)
                    .or(line.error)
                {
                    return Err(Cause::Other(super::error::printable(&text)));
                }
                let status = line.status.unwrap_or_default();
                let detail = line.detail.unwrap_or_default();
                if self
                    .layers
                    .note(&line.id.unwrap_or_default(), &status, &detail)
                {
                    self.moved_at = Instant::now();
                }
                return Ok(Some(self.layers.progress()));
            }
            if self.unread.len() > LINE_LIMIT {
                return Err(Cause::Other("a line of progress without an end".into()));
            }
            let frame = match self.layers.all_here() {
                // Unpacking asks nothing of the registry and may be silent for long.
                true => self.body.frame().await,
                false => timeout_at(self.moved_at + self.stall, self.body.frame())
                    .await
                    .map_err(|_| Cause::Stalled(self.stall))?,
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Cause::Lost(super::error::root(&error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// `POST /images/create`. Nothing of a checked reference needs escaping in a query but `+`.
fn request(
    version: &str,
    image: &str,
    login: Option<&Login>,
) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let reference = Reference::of(image);
    let path = format!(
        "/v{version}/images/create?fromImage={}&tag={}",
        reference.name.replace('+', "%2B"),
        reference.wanted().replace('+', "%2B"),
    );
    let mut request = Request::post(path).header(header::HOST, "docker");
    if let Some(login) = login {
        let mut value = HeaderValue::try_from(login.header(reference.registry()))?;
        value.set_sensitive(true);
        request = request.header("X-Registry-Auth", value);
    }
    request.body(Empty::new())
}

impl Login {
    fn header(&self, registry: &str) -> String {
        let address = match registry {
            super::image::DOCKER_HUB => "https://index.docker.io/v1/",
            registry => registry,
        };
        let auth = match &self.identity_token {
            Some(token) => serde_json::json!({
                "username": self.username,
                "identitytoken": token.expose(),
                "serveraddress": address,
            }),
            None => serde_json::json!({
                "username": self.username,
                "password": self.password.expose(),
                "serveraddress": address,
            }),
        };
        URL_SAFE.encode(auth.to_string())
    }
}

async fn refusal(status: StatusCode, body: Incoming, deadline: Duration) -> Cause {
    let read = timeout(deadline, Limited::new(body, LINE_LIMIT).collect()).await;
    let text = match read {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) | Err(_) => Bytes::new(),
    };
    let message = match serde_json::from_slice::<Refusal>(&text) {
        Ok(refusal) => refusal.message,
        Err(_) => String::from_utf8_lossy(&text).into_owned(),
    };
    Cause::Answer {
        status: status.as_u16(),
        message: super::error::printable(&message),
    }
}

fn take_line(unread: &mut BytesMut) -> Option<Bytes> {
    let end = unread.iter().position(|byte| *byte == b'\n')?;
    let line = unread.split_to(end).freeze();
    unread.advance(1);
    Some(line)
}

/// What Docker has told of each layer.
#[derive(Default)]
struct Layers {
    known: HashMap<String, Layer>,
    received: u64,
    percent: Option<u8>,
}

#[derive(Default, Clone, Copy)]
struct Layer {
    /// Of this try; a second one begins anew.
    current: u64,
    done: u64,
    /// 0: not known.
    total: u64,
    here: bool,
    was_here: bool,
}

impl Layers {
    /// Takes a line in; whether it shows that something moves.
    fn note(&mut self, id: &str, status: &str, detail: &Detail) -> bool {
        let begins = ["Pulling fs layer", "Waiting"].contains(&status);
        let fetched = ["Verifying Checksum", "Download complete", "Pull complete"];
        let fetched = fetched.contains(&status);
        let is_layer = begins
            || fetched
            || ["Downloading", "Extracting", "Already exists"].contains(&status)
            || status.starts_with("Retrying in");
        if !is_layer {
            return true;
        }
        if self.known.len() >= LAYER_LIMIT && !self.known.contains_key(id) {
            return true;
        }
        let n_before = self.known.len();
        let layer = self.known.entry(id.to_owned()).or_default();
        let bytes = |number: Option<i64>| number.and_then(|n| u64::try_from(n).ok());
        match status {
            "Downloading" => {
                let current = bytes(detail.current).unwrap_or(layer.current);
                let moved = current != layer.current;
                self.received += current.saturating_sub(layer.current);
                layer.current = current;
                layer.done = layer.done.max(current);
                layer.total = layer
                    .total
                    .max(bytes(detail.total).unwrap_or(0))
                    .max(layer.done);
                moved
            }
            "Already exists" => {
                layer.here = true;
                layer.was_here = true;
                true
            }
            "Extracting" => {
                layer.here = true;
                true
            }
            _ if fetched => {
                if !layer.here {
                    self.received += layer.total.saturating_sub(layer.current);
                    layer.current = layer.total;
                }
                layer.done = layer.total;
                layer.here = true;
                true
            }
            // Docker counts down to its own next try: nothing moves.
            _ if !begins => {
                layer.current = 0;
                false
            }
            _ => n_before < self.known.len(),
        }
    }

    fn all_here(&self) -> bool {
        !self.known.is_empty() && self.known.values().all(|layer| layer.here)
    }

    fn progress(&mut self) -> Progress {
        let wanted = || self.known.values().filter(|layer| !layer.was_here);
        let done: u64 = wanted().map(|layer| layer.done).sum();
        let total: u64 = wanted().map(|layer| layer.total).sum();
        let n_sized = wanted().filter(|layer| layer.total > 0).count() as u64;
        let n_unknown = wanted()
            .filter(|layer| layer.total == 0 && !layer.here)
            .count() as u64;
        let guess = (total / n_sized.max(1)).saturating_mul(n_unknown);
        let percent = done.saturating_mul(100) / total.saturating_add(guess).max(1);
        if total > 0 {
            let percent = u8::try_from(percent.min(99)).ok();
            self.percent = self.percent.max(percent);
        }
        Progress {
            done,
            total,
            percent: self.percent,
            unpacking: self.all_here() && wanted().count() > 0,
        }
    }
}

#[cfg(test)]
mod tests;
