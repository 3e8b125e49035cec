//! The one HTTP/1.1 server loop behind metrics, heartbeat and control.
//!
//! It knows nothing of routes: a room gives a [`Handler`]. Limits are here:
//! a request head must arrive within [`HEAD_TIMEOUT`], and at most
//! [`MAX_CONNECTIONS`] peers are served at once. One more takes the place of the
//! peer that has been there longest without a request in hand: idle, slow to
//! send, slow to read. So stuck peers starve nobody; only where all are being
//! answered the next waits in the backlog. A stop waits [`STOP_GRACE`] for peers.

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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long a peer may take to send a request head; also the keep-alive limit.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections served at once by one listener.
pub const MAX_CONNECTIONS: usize = 64;
/// How long a stop waits for peers that have yet to send or read something.
pub const STOP_GRACE: Duration = Duration::from_secs(2);
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

/// One connection, as the loop knows it.
struct Peer {
    task: AbortHandle,
    /// Requests that the handler is at.
    in_hand: Arc<AtomicUsize>,
}

impl Peer {
    fn is_answered_now(&self) -> bool {
        self.in_hand.load(Ordering::Relaxed) > 0
    }
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
        Accepted(io::Result<Stream>),
        Closed,
    }
    let mut connections = JoinSet::new();
    // In the order of their coming.
    let mut peers: Vec<Peer> = Vec::new();
    let mut tick = tokio::time::interval(BEAT);
    loop {
        let has_place = peers.len() < MAX_CONNECTIONS || !peers.iter().all(Peer::is_answered_now);
        let event = tokio::select! {
            () = stop.cancelled() => Event::Stop,
            _ = tick.tick() => Event::Beat,
            Some(_) = connections.join_next() => Event::Closed,
            accepted = listener.accept(), if has_place => Event::Accepted(accepted),
        };
        match event {
            Event::Stop => break,
            Event::Beat => beat.beat(),
            Event::Closed => peers.retain(|peer| !peer.task.is_finished()),
            Event::Accepted(Ok(stream)) => {
                if peers.len() >= MAX_CONNECTIONS
                    && let Some(stuck) = peers.iter().position(|peer| !peer.is_answered_now())
                {
                    debug!(
                        listener = listener.address(),
                        "connection closed for a newer one"
                    );
                    peers.remove(stuck).task.abort();
                }
                let in_hand = Arc::default();
                let connection =
                    connection(stream, handler.clone(), Arc::clone(&in_hand), stop.clone());
                let task = connections.spawn(connection);
                peers.push(Peer { task, in_hand });
            }
            Event::Accepted(Err(error)) => {
                warn!(listener = listener.address(), %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(STOP_GRACE, ended).await.is_ok() {
        return;
    }
    for peer in peers.iter().filter(|peer| !peer.is_answered_now()) {
        peer.task.abort();
    }
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: Stream,
    handler: Arc<dyn Handler>,
    in_hand: Arc<AtomicUsize>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request| {
        let reply = handler.handle(request);
        let in_hand = in_hand.clone();
        async move {
            in_hand.fetch_add(1, Ordering::Relaxed);
            let reply = reply.await;
            in_hand.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, Infallible>(reply)
        }
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
    use super::{HEAD_TIMEOUT, Handler, MAX_CONNECTIONS, ReplyFuture, Request, serve, text};
    use crate::listener::Listener;
    use crate::pulse::Pulse;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;
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

    #[tokio::test]
    async fn stuck_peers_neither_starve_the_next_one_nor_hold_up_a_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let beat = Pulse::default().register("http", Duration::from_secs(60));
        let server = serve(Listener::Tcp(listener), Arc::new(Slow), beat, stop.clone());
        let client = async {
            let mut stuck = Vec::new();
            for _ in 0..MAX_CONNECTIONS + 8 {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(b"GET /half HT").await.unwrap();
                stuck.push(stream);
            }
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            stop.cancel();
            (stuck, answer)
        };
        let both = async { tokio::join!(server, client) };
        let ((), (_stuck, answer)) = timeout(HEAD_TIMEOUT / 4, both).await.unwrap();
        assert!(answer.ends_with("/hello\n"), "{answer}");
    }
}
