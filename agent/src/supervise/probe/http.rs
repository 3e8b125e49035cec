//! A GET from the agent: 200..=399 is success.
//!
//! Each probe is a connection of its own, closed after it. At most 64 KiB of
//! headers and 64 KiB of body are read, all within the probe's timeout.

use super::address;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Most that is read of an answer's body, and of its head. Unit: bytes.
const LIMIT: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("host {0:?} is neither an IP address nor localhost")]
    Host(String),
    #[error("path {0:?} is not a path")]
    Path(String),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("answered {status}, but its body did not end within {limit:?}")]
    Endless { status: u16, limit: Duration },
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("cannot read the answer")]
    Answer(#[source] hyper::Error),
    #[error("answered {0}")]
    Status(u16),
}

/// One GET, the whole of it within `limit`.
pub async fn once(host: &str, port: u16, path: &str, limit: Duration) -> Result<(), HttpError> {
    let address = address(host).ok_or_else(|| HttpError::Host(host.into()))?;
    // 0: none yet.
    let status = AtomicU16::new(0);
    let asked = get((address, port).into(), path, &status);
    match (timeout(limit, asked).await, status.into_inner()) {
        (Ok(Err(error)), _) => Err(error),
        (Ok(Ok(())), 200..400) => Ok(()),
        (Ok(Ok(())), status) => Err(HttpError::Status(status)),
        (Err(_), 0) => Err(HttpError::Late(limit)),
        (Err(_), status) => Err(HttpError::Endless { status, limit }),
    }
}

async fn get(address: SocketAddr, path: &str, status: &AtomicU16) -> Result<(), HttpError> {
    let uri: Uri = path.parse().map_err(|_| HttpError::Path(path.into()))?;
    let request = Request::get(uri)
        .header(header::HOST, address.to_string())
        .header(
            header::USER_AGENT,
            concat!("agent/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| HttpError::Path(path.into()))?;
    let stream = TcpStream::connect(address)
        .await
        .map_err(HttpError::Connect)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(LIMIT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(HttpError::Answer)?;
    let exchange = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(HttpError::Answer)?;
        status.store(answer.status().as_u16(), Ordering::Relaxed);
        // Read to the end, so that the container does not see a reset; a body
        // beyond the limit does not change what the status said.
        let _ = Limited::new(answer.into_body(), LIMIT).collect().await;
        Ok(())
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        answered = &mut exchange => answered,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(HttpError::Answer(error)),
        },
    }
}
