//! Client of the forward protocol.
//!
//! Names are resolved on each connect and every address is tried, in order.
//! Several frames may wait for their acks; they come back in any order, matched
//! by id. After an ack that is late or unknown the connection is dropped and all
//! that was not committed is sent again under the same ids. Without
//! `require_ack` records count as delivered once the kernel has them.
//!
//! A record that alone is over the limit of a frame may be more than the server
//! takes, and would be tried for ever. After [`REFUSALS`] connections in a row
//! that the server ended while it had that record to acknowledge, it is left
//! out, counted and named. A server that is silent or not there refuses nothing.

use super::stdout::blocking;
use super::wire::{Answer, Frame, answer, frames};
use super::{Ending, Forward, Link, pause};
use crate::chain::Chain;
use crate::dns::Resolver;
use crate::logs::buffer::{Point, Ready};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout};
use tracing::{error, info};

/// Read from the buffer at once. Unit: bytes.
const BLOCK: usize = 1 << 20;
/// Sent and not yet acknowledged, before more is read. Unit: bytes.
const WINDOW: usize = 4 << 20;
/// An answer is never longer. Unit: bytes.
const ANSWER: usize = 64 << 10;
/// A connection without work is closed after this time.
const IDLE: Duration = Duration::from_secs(30);
/// A connection is replaced at this age, so that new addresses are found.
const AGE: Duration = Duration::from_secs(300);
/// How long a server that is not asked for acks may take to ask for a handshake.
const HELO_WAIT: Duration = Duration::from_millis(100);
const BEAT: Duration = Duration::from_secs(5);
/// A checkpoint is made durable at least this often while acks flow.
const DURABLE: Duration = Duration::from_secs(1);

/// Connections that a server may end over the same giant record: with the
/// pauses between them over a minute, so a short trouble costs no record.
pub(super) const REFUSALS: u32 = 10;

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot resolve {host}")]
    Resolve { host: String, source: io::Error },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("cannot connect to {address}")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("no server is configured")]
    NoServer,
    #[error("cannot send to {peer}")]
    Send { peer: SocketAddr, source: io::Error },
    #[error("cannot read acks from {peer}")]
    Receive { peer: SocketAddr, source: io::Error },
    #[error("{peer} closed the connection with acks outstanding")]
    Closed { peer: SocketAddr },
    #[error("no ack from {peer} within {} s", .after.as_secs_f64())]
    AckTimeout { peer: SocketAddr, after: Duration },
    #[error("{peer} acknowledged {id:?}, which was not sent")]
    UnknownAck { peer: SocketAddr, id: String },
    #[error(
        "{peer} asks for a shared key (HELO), which this output does not have: use a server without security or another port"
    )]
    Handshake { peer: SocketAddr },
    #[error("{peer} answers, but not in the forward protocol")]
    Strange { peer: SocketAddr },
    #[error("cannot read the log buffer")]
    Buffer(#[source] io::Error),
    #[error("cannot write the checkpoint")]
    Checkpoint(#[source] io::Error),
}

impl Fault {
    /// The server ended the connection, as it does with a frame that it does not take.
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            Fault::Closed { .. } | Fault::Send { .. } | Fault::Receive { .. }
        )
    }
}

/// The giant record that the server refused last, by its frame's id.
#[derive(Default)]
struct Giant {
    id: String,
    refusals: u32,
}

impl Giant {
    fn is_given_up(&self, frame: &Frame) -> bool {
        frame.giant && self.refusals >= REFUSALS && self.id == frame.id
    }

    fn refused(&mut self, id: &str) {
        if self.id != id {
            *self = Giant {
                id: id.into(),
                refusals: 0,
            };
        }
        self.refusals += 1;
    }
}

enum Outcome {
    Ended(Ending),
    /// Nothing to do, or old: a later connection goes on.
    Closed,
    Failed(Fault),
}

pub(super) async fn run(settings: Forward, mut link: Link) -> Ending {
    let mut step = 0;
    let mut giant = Giant::default();
    loop {
        enum Event {
            Stop,
            Beat,
            Ready(Option<Ready>),
        }
        let event = tokio::select! {
            () = link.stop.cancelled() => Event::Stop,
            ready = link.reader.ready() => Event::Ready(ready.ok()),
            () = tokio::time::sleep(BEAT) => Event::Beat,
        };
        link.beat.beat();
        match event {
            Event::Beat => continue,
            Event::Stop => return Ending::Stopped,
            Event::Ready(None) => return Ending::Broken,
            Event::Ready(Some(Ready::End)) => return Ending::Done,
            Event::Ready(Some(Ready::More)) => {}
        }
        let connected = tokio::select! {
            connected = connect(&settings, &link.resolver) => Some(connected),
            () = link.stop.cancelled() => None,
        };
        let before = link.progress.records();
        let outcome = match connected {
            None => Outcome::Ended(Ending::Stopped),
            Some(Err(fault)) => Outcome::Failed(fault),
            Some(Ok((stream, peer))) => {
                let session = Session::new(&settings, &mut giant, link, stream, peer);
                let (back, outcome) = session.run().await;
                link = back;
                outcome
            }
        };
        if link.progress.records() > before {
            step = 0;
        }
        link.reader.rewind();
        match outcome {
            Outcome::Ended(ending) => return ending,
            Outcome::Closed => {}
            Outcome::Failed(fault) => {
                link.progress.failed(Chain(&fault).to_string());
                if !pause(&link.progress, &link.beat, &link.stop, step).await {
                    return Ending::Stopped;
                }
                step += 1;
            }
        }
    }
}

async fn connect(
    settings: &Forward,
    resolver: &Resolver,
) -> Result<(TcpStream, SocketAddr), Fault> {
    let mut last = Fault::NoServer;
    for server in &settings.servers {
        let host = server.host.clone();
        let addresses = match resolver.lookup(&host).await {
            Ok(addresses) => addresses,
            Err(source) => {
                last = Fault::Resolve { host, source };
                continue;
            }
        };
        last = Fault::NoAddress { host };
        for ip in addresses {
            let address = SocketAddr::new(ip, server.port);
            let connected = timeout(settings.connect_timeout, TcpStream::connect(address))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .and_then(|stream| stream.set_nodelay(true).map(|()| stream));
            match connected {
                Ok(stream) => return Ok((stream, address)),
                Err(source) => last = Fault::Connect { address, source },
            }
        }
    }
    Err(last)
}

/// One connection.
struct Session<'a> {
    settings: &'a Forward,
    giant: &'a mut Giant,
    link: Option<Link>,
    peer: SocketAddr,
    write: OwnedWriteHalf,
    answers: Answers,
    sent: VecDeque<Sent>,
    /// Everything is read and the writer has ended.
    at_end: bool,
    durable: Instant,
}

/// A block whose frames are on their way.
struct Sent {
    unacked: Vec<String>,
    giants: Vec<String>,
    bytes: usize,
    end: Point,
    n_records: u64,
    since: Instant,
}

impl<'a> Session<'a> {
    fn new(
        settings: &'a Forward,
        giant: &'a mut Giant,
        link: Link,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Session<'a> {
        info!(output = link.progress.name, %peer, "output connected");
        let (read, write) = stream.into_split();
        Session {
            settings,
            giant,
            link: Some(link),
            peer,
            write,
            answers: Answers {
                read,
                bytes: Vec::new(),
            },
            sent: VecDeque::new(),
            at_end: false,
            durable: Instant::now(),
        }
    }

    async fn run(mut self) -> (Link, Outcome) {
        let outcome = match self.work().await {
            Ok(outcome) => outcome,
            Err(fault) => {
                if fault.is_refusal() {
                    self.blame();
                }
                Outcome::Failed(fault)
            }
        };
        match self.link {
            Some(link) => (link, outcome),
            // Only while file work runs, which is always awaited.
            None => std::future::pending().await,
        }
    }

    async fn work(&mut self) -> Result<Outcome, Fault> {
        enum Event {
            Stop,
            Due,
            Answer(io::Result<Option<Answer>>),
            Ready(Option<Ready>),
        }
        let peer = self.peer;
        let born = Instant::now();
        let mut idle = Instant::now();
        if !self.settings.require_ack
            && let Ok(answer) = timeout(HELO_WAIT, self.answers.next()).await
        {
            self.take(answer)?;
        }
        loop {
            let in_flight: usize = self.sent.iter().map(|sent| sent.bytes).sum();
            if self.sent.is_empty() {
                if self.at_end {
                    return Ok(Outcome::Ended(Ending::Done));
                }
                if idle.elapsed() >= IDLE || born.elapsed() >= AGE {
                    return Ok(Outcome::Closed);
                }
            } else {
                idle = Instant::now();
            }
            let late = self
                .sent
                .front()
                .map(|sent| sent.since + self.settings.ack_timeout);
            let beat = Instant::now() + BEAT;
            let due = late.map_or(beat, |late| late.min(beat));
            let may_send = !self.at_end && in_flight < WINDOW && born.elapsed() < AGE;
            let Some(link) = self.link.as_mut() else {
                return Ok(Outcome::Ended(Ending::Broken));
            };
            let event = tokio::select! {
                () = link.stop.cancelled() => Event::Stop,
                answer = self.answers.next() => Event::Answer(answer),
                ready = link.reader.ready(), if may_send => Event::Ready(ready.ok()),
                () = tokio::time::sleep_until(due) => Event::Due,
            };
            link.beat.beat();
            match event {
                Event::Stop => return Ok(Outcome::Ended(Ending::Stopped)),
                Event::Due if late.is_some_and(|late| late <= Instant::now()) => {
                    let after = self.settings.ack_timeout;
                    return Err(Fault::AckTimeout { peer, after });
                }
                Event::Due => {}
                Event::Answer(Ok(None)) if self.sent.is_empty() => return Ok(Outcome::Closed),
                Event::Answer(answer) => {
                    self.take(answer)?;
                    self.commit().await?;
                }
                Event::Ready(None) => return Ok(Outcome::Ended(Ending::Broken)),
                Event::Ready(Some(Ready::End)) => self.at_end = true,
                Event::Ready(Some(Ready::More)) => {
                    if !self.send().await? {
                        return Ok(Outcome::Ended(Ending::Stopped));
                    }
                    self.commit().await?;
                }
            }
        }
    }

    /// Holds the oldest giant record that is not acknowledged responsible.
    fn blame(&mut self) {
        let oldest = self
            .sent
            .iter()
            .find_map(|sent| sent.giants.iter().find(|id| sent.unacked.contains(id)));
        if let Some(id) = oldest {
            self.giant.refused(id);
        }
    }

    /// Sends the next block. False: told to stop meanwhile.
    async fn send(&mut self) -> Result<bool, Fault> {
        let peer = self.peer;
        let ack = self.settings.require_ack;
        let packed = self
            .file_work(move |link| {
                let block = link.reader.read(BLOCK)?;
                Ok(block.map(|block| (frames(&block, ack), block.end, block.n_records())))
            })
            .await
            .map_err(Fault::Buffer)?;
        let Some((mut frames, end, mut n_records)) = packed else {
            return Ok(true);
        };
        let Some(link) = &self.link else {
            return Ok(false);
        };
        if let Some(at) = frames
            .iter()
            .position(|frame| self.giant.is_given_up(frame))
        {
            let frame = frames.remove(at);
            link.reader.count_too_large(1);
            n_records -= 1;
            error!(
                output = link.progress.name, %peer, bytes = frame.bytes.len(), chunk = frame.id,
                "the server refuses a record of this size: it is dropped"
            );
        }
        let ids = |wanted: fn(&Frame) -> bool| {
            let found = frames.iter().filter(|frame| ack && wanted(frame));
            found.map(|frame| frame.id.clone()).collect()
        };
        // Before it is sent, so that it is known when the server ends the connection meanwhile.
        self.sent.push_back(Sent {
            unacked: ids(|_| true),
            giants: ids(|frame| frame.giant),
            bytes: frames.iter().map(|frame| frame.bytes.len()).sum(),
            end,
            n_records,
            since: Instant::now(),
        });
        for frame in &frames {
            let written = tokio::select! {
                written = timeout(self.settings.ack_timeout, self.write.write_all(&frame.bytes)) => written,
                () = link.stop.cancelled() => return Ok(false),
            };
            link.beat.beat();
            written
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .map_err(|source| Fault::Send { peer, source })?;
        }
        if let Some(sent) = self.sent.back_mut() {
            sent.since = Instant::now();
        }
        Ok(true)
    }

    /// Ticks an ack off.
    fn take(&mut self, answer: io::Result<Option<Answer>>) -> Result<(), Fault> {
        let peer = self.peer;
        match answer.map_err(|source| Fault::Receive { peer, source })? {
            None => Err(Fault::Closed { peer }),
            Some(Answer::Helo) => Err(Fault::Handshake { peer }),
            Some(Answer::Strange) => Err(Fault::Strange { peer }),
            Some(Answer::Ack(id)) => {
                for sent in &mut self.sent {
                    let found = sent.unacked.iter().position(|known| known.as_bytes() == id);
                    if let Some(at) = found {
                        sent.unacked.swap_remove(at);
                        return Ok(());
                    }
                }
                let id = String::from_utf8_lossy(&id).into_owned();
                Err(Fault::UnknownAck { peer, id })
            }
        }
    }

    /// Commits what is acknowledged from the oldest on.
    async fn commit(&mut self) -> Result<(), Fault> {
        let mut done = None;
        while let Some(sent) = self.sent.pop_front_if(|sent| sent.unacked.is_empty()) {
            if let Some(link) = &self.link {
                link.progress.delivered(sent.n_records);
            }
            done = Some(sent.end);
        }
        let Some(end) = done else {
            return Ok(());
        };
        let durable = self.sent.is_empty() || self.durable.elapsed() >= DURABLE;
        if durable {
            self.durable = Instant::now();
        }
        self.file_work(move |link| link.reader.commit(end, durable))
            .await
            .map_err(Fault::Checkpoint)
    }

    async fn file_work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Link) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let Some(link) = self.link.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (link, result) = blocking(link, work).await;
        self.link = Some(link);
        result
    }
}

/// The server's side of the connection.
struct Answers {
    read: OwnedReadHalf,
    bytes: Vec<u8>,
}

impl Answers {
    /// None: closed. Cancel-safe.
    async fn next(&mut self) -> io::Result<Option<Answer>> {
        loop {
            if let Some((answer, len)) = answer(&self.bytes) {
                self.bytes.drain(..len);
                return Ok(Some(answer));
            }
            if self.bytes.len() > ANSWER {
                return Ok(Some(Answer::Strange));
            }
            if self.read.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        }
    }
}
