//! The one HTTP/1.1 server loop behind metrics, heartbeat and control.
//!
//! It knows nothing of routes: a room gives a [`Handler`], and a [`Door`] where
//! a connection has to pass one, as with TLS. Limits are here, so that no peer
//! can keep another out: at most [`MAX_CONNECTIONS`] are served at once, and
//! while more wait, whoever did nothing for [`SPARED`], or else came first and
//! is between two requests, leaves. A request head
//! has at most [`MAX_HEAD`] bytes and arrives within [`HEAD_TIMEOUT`]; a peer
//! that reads nothing of its answer for [`STALL_TIMEOUT`] is cut off. A stop
//! waits [`STOP_GRACE`] for peers that have yet to send or read something.

mod places;
mod stall;

#[cfg(test)]
mod tests;

use crate::listener::{Listener, Stream};
use crate::pulse::Beat;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use places::{Activity, Places};
use stall::Stall;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{Id, JoinSet};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long a peer may take to send a request head; also the keep-alive limit.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a request head; more answers 431. Also bounds what is kept per connection.
pub const MAX_HEAD: usize = 32 << 10;
/// How long a peer may read nothing while an answer waits for it.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long passing the [`Door`] may take.
pub const DOOR_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections served at once by one listener.
pub const MAX_CONNECTIONS: usize = 64;
/// A connection younger than this keeps its place though others wait.
pub const SPARED: Duration = Duration::from_millis(200);
/// How long a stop waits for peers without a request in work.
pub const STOP_GRACE: Duration = Duration::from_secs(2);
/// Wait after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often an idle loop shows that it turns.
pub const BEAT: Duration = Duration::from_secs(5);
/// How often a peer that waits for a place looks for one.
const LOOK: Duration = Duration::from_millis(50);

pub type Request = hyper::Request<Incoming>;
pub type Reply = hyper::Response<Full<Bytes>>;
pub type ReplyFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;
pub type EntryFuture = Pin<Box<dyn Future<Output = Option<Stream>> + Send>>;

/// Answers one request. Failures are replies too.
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request) -> ReplyFuture;
}

/// What a connection passes before its first request.
pub trait Door: Send + Sync + 'static {
    /// The stream to serve. `None`: turned away, and told why where it can be told.
    fn enter(&self, stream: Stream) -> EntryFuture;
}

/// Serves `listener` until `stop`; open connections then end with their current
/// request. Without a `door` what was accepted is served as it is.
pub async fn serve(
    listener: Listener,
    door: Option<Arc<dyn Door>>,
    handler: Arc<dyn Handler>,
    beat: Beat,
    stop: CancellationToken,
) {
    enum Event {
        Stop,
        Beat,
        Look,
        Accepted(io::Result<Stream>),
        Closed(Id),
    }
    let mut connections: JoinSet<()> = JoinSet::new();
    let mut places = Places::new(MAX_CONNECTIONS);
    // Accepted while all places were taken. The next one waits in the kernel.
    let mut waiting: Option<Stream> = None;
    let mut tick = tokio::time::interval(BEAT);
    let mut look = tokio::time::interval(LOOK);
    // Nobody looks while nobody waits; that is not made up for.
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => Event::Stop,
            _ = tick.tick() => Event::Beat,
            Some(ended) = connections.join_next_with_id() => Event::Closed(match ended {
                Ok((id, ())) => id,
                Err(error) => error.id(),
            }),
            _ = look.tick(), if waiting.is_some() => Event::Look,
            accepted = listener.accept(), if waiting.is_none() => Event::Accepted(accepted),
        };
        match event {
            Event::Stop => break,
            Event::Beat => beat.beat(),
            Event::Look => {}
            Event::Closed(id) => places.free(id),
            Event::Accepted(Ok(stream)) => waiting = Some(stream),
            Event::Accepted(Err(error)) => {
                warn!(listener = listener.address(), %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        let has_place = waiting.is_some() && (!places.are_full() || places.evict(SPARED));
        if has_place && let Some(stream) = waiting.take() {
            let activity = Activity::new();
            let connection = Connection {
                door: door.clone(),
                handler: handler.clone(),
                activity: activity.clone(),
                stop: stop.clone(),
            };
            let task = connections.spawn(connection.serve(stream));
            places.take(activity, task);
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(STOP_GRACE, ended).await.is_ok() {
        return;
    }
    while places.evict(Duration::ZERO) {}
    while connections.join_next().await.is_some() {}
}

struct Connection {
    door: Option<Arc<dyn Door>>,
    handler: Arc<dyn Handler>,
    activity: Activity,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: Stream) {
        let stream = match self.door {
            None => Some(stream),
            Some(door) => {
                let entry = timeout(DOOR_TIMEOUT, door.enter(stream));
                tokio::select! {
                    entered = entry => entered.unwrap_or_default(),
                    () = self.stop.cancelled() => None,
                }
            }
        };
        let Some(stream) = stream else { return };
        let (handler, activity) = (self.handler, self.activity);
        let service = service_fn(move |request| {
            activity.begin();
            let reply = handler.handle(request);
            let activity = activity.clone();
            async move {
                let reply = reply.await;
                activity.end();
                Ok::<_, Infallible>(reply)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(Stall::new(stream, STALL_TIMEOUT)), service);
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            result = connection.as_mut() => Some(result),
            () = self.stop.cancelled() => None,
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
