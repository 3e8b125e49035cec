//! The one HTTP/1.1 server loop behind metrics, heartbeat and control.
//!
//! It knows nothing of routes: a room gives a [`Handler`]. Limits are here:
//! a request head must arrive within [`HEAD_TIMEOUT`], and at most
//! [`MAX_CONNECTIONS`] peers are served at once, the rest wait in the backlog.

use crate::listener::{Listener, Stream};
use crate::pulse::Beat;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long a peer may take to send a request head; also the keep-alive limit.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections served at once by one listener.
pub const MAX_CONNECTIONS: usize = 64;
/// Wait after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often an idle loop shows that it turns.
pub const BEAT: Duration = Duration::from_secs(5);

pub type Request = hyper::Request<Incoming>;
pub type Reply = hyper::Response<Full<Bytes>>;
pub type ReplyFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Answers one request. Failures are replies too.
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request) -> ReplyFuture;
}

/// Serves `listener` until `stop`; open connections then end with their current request.
pub async fn serve(
    listener: Listener,
    handler: Arc<dyn Handler>,
    beat: Beat,
    stop: CancellationToken,
) {
    enum Event {
        Stop,
        Beat,
        Accepted(io::Result<Stream>, OwnedSemaphorePermit),
        Closed,
    }
    let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut tick = tokio::time::interval(BEAT);
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => Event::Stop,
            _ = tick.tick() => Event::Beat,
            Some(_) = connections.join_next() => Event::Closed,
            (accepted, permit) = accept(&listener, &limit) => Event::Accepted(accepted, permit),
        };
        match event {
            Event::Stop => break,
            Event::Beat => beat.beat(),
            Event::Closed => {}
            Event::Accepted(Ok(stream), permit) => {
                let connection = connection(stream, handler.clone(), stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Event::Accepted(Err(error), _) => {
                warn!(listener = listener.address(), %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Takes a place, then a connection. Cancel-safe: a place given up is free again.
async fn accept(
    listener: &Listener,
    limit: &Arc<Semaphore>,
) -> (io::Result<Stream>, OwnedSemaphorePermit) {
    let Ok(permit) = limit.clone().acquire_owned().await else {
        return std::future::pending().await;
    };
    (listener.accept().await, permit)
}

async fn connection(stream: Stream, handler: Arc<dyn Handler>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let reply = handler.handle(request);
        async move { Ok::<_, Infallible>(reply.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = stop.cancelled() => None,
    };
    let result = match served {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "connection ended early");
    }
}

/// A plain reply with a content type.
pub fn reply(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Reply::new(Full::new(body.into()));
    *reply.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(content_type),
    );
    reply
}

/// A one-line text reply, ended with a newline.
pub fn text(status: u16, line: &str) -> Reply {
    reply(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

#[cfg(test)]
mod tests {
    use super::{Handler, ReplyFuture, Request, serve, text};
    use crate::listener::Listener;
    use crate::pulse::Pulse;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    struct Slow;

    impl Handler for Slow {
        fn handle(&self, request: Request) -> ReplyFuture {
            let path = request.uri().path().to_owned();
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                text(200, &path)
            })
        }
    }

    #[tokio::test]
    async fn a_stop_lets_the_current_request_finish_and_then_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let beat = Pulse::default().register("http", Duration::from_secs(60));
        let server = serve(Listener::Tcp(listener), Arc::new(Slow), beat, stop.clone());
        let client = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
            stream.write_all(request).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            stop.cancel();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let ((), answer) = tokio::join!(server, client);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("/hello\n"), "{answer}");
        assert!(TcpStream::connect(address).await.is_err());
    }
}
