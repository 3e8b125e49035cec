//! One request to the agent over its control socket.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Method;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// The largest answer taken. Unit: bytes.
const MAX_ANSWER: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no agent answers on {path}; is it running? (systemctl status agent)")]
    Connect { path: PathBuf, source: io::Error },
    #[error("cannot ask the agent on {path}")]
    Ask {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("no answer from the agent on {path} within {} s", deadline.as_secs())]
    Late { path: PathBuf, deadline: Duration },
}

/// The body of the answer, and whether its status was a success.
pub fn ask(
    path: &Path,
    method: Method,
    route: &str,
    deadline: Duration,
) -> Result<(bool, Bytes), ClientError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Ask {
        path: path.into(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.into()))?;
    let exchange = async {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| ClientError::Connect {
                path: path.into(),
                source,
            })?;
        exchange(stream, method, route).await.map_err(failed)
    };
    let late = |_| ClientError::Late {
        path: path.into(),
        deadline,
    };
    runtime
        .block_on(async { tokio::time::timeout(deadline, exchange).await })
        .map_err(late)?
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    route: &str,
) -> Result<(bool, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::builder()
        .method(method)
        .uri(route)
        .header(hyper::header::HOST, "agent")
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let reply = sender.send_request(request).await?;
        let success = reply.status().is_success();
        let body = Limited::new(reply.into_body(), MAX_ANSWER)
            .collect()
            .await?;
        Ok((success, body.to_bytes()))
    };
    // The connection moves the bytes and never ends before the answer unless it fails.
    tokio::select! {
        answer = answer => answer,
        Err(error) = connection => Err(error.into()),
    }
}
