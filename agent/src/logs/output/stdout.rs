//! JSON lines on stdout.
//!
//! A thread of its own writes, so a reader of our stdout that has stopped
//! reading blocks neither the reactor nor the end of the process.

use super::{Ending, Link, json, pause};
use crate::logs::buffer::{Block, Point, Ready};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

/// Read and written at once. Unit: bytes.
const BLOCK: usize = 256 << 10;
/// A checkpoint is made durable at least this often while records flow.
const DURABLE: Duration = Duration::from_secs(1);
const BEAT: Duration = Duration::from_secs(5);

/// Makes the handle to write to; asked again after each failure.
pub type Opener = Box<dyn FnMut() -> io::Result<Box<dyn Write + Send>> + Send>;

/// The process's stdout. Unlike `std::io::stdout` it tells a closed one by an error.
pub(super) fn own_stdout() -> Opener {
    Box::new(|| {
        let fd = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Box::new(File::from(fd)))
    })
}

type Job = (String, oneshot::Sender<io::Result<()>>);

pub(super) async fn run(mut link: Link, opener: Opener) -> Ending {
    let (jobs, queue) = mpsc::channel(1);
    // Not joined: a write to a full pipe may never return.
    let printer = std::thread::Builder::new()
        .name("log stdout".into())
        .spawn(move || print(queue, opener));
    if let Err(error) = printer {
        link.progress
            .failed(format!("cannot start a thread for stdout: {error}"));
        return Ending::Broken;
    }
    let mut step = 0;
    let mut durable = Instant::now();
    let mut committed: Option<Point> = None;
    loop {
        enum Event {
            Stop,
            Beat,
            Ready(Option<Ready>),
        }
        let event = tokio::select! {
            () = link.stop.cancelled() => Event::Stop,
            ready = link.reader.ready() => Event::Ready(ready.ok()),
            () = tokio::time::sleep(if committed.is_some() { DURABLE } else { BEAT }) => Event::Beat,
        };
        link.beat.beat();
        let ending = match event {
            Event::Stop => Some(Ending::Stopped),
            Event::Ready(None) => Some(Ending::Broken),
            Event::Ready(Some(Ready::End)) => Some(Ending::Done),
            Event::Ready(Some(Ready::More)) | Event::Beat => None,
        };
        let idle = ending.is_some() || matches!(event, Event::Beat);
        if let Some(point) = committed
            && (idle || durable.elapsed() >= DURABLE)
        {
            let (back, result) = blocking(link, move |link| link.reader.commit(point, true)).await;
            link = back;
            if let Err(error) = result {
                link.progress
                    .failed(format!("cannot sync the checkpoint: {error}"));
            }
            durable = Instant::now();
            committed = None;
        }
        if let Some(ending) = ending {
            return ending;
        }
        if idle {
            continue;
        }
        let (back, read) = blocking(link, |link| {
            let block = link.reader.read(BLOCK)?;
            Ok(block.map(|block| (render(&block), block.end, block.n_records())))
        })
        .await;
        link = back;
        let outcome = match read {
            Ok(None) => continue,
            Ok(Some((text, end, n_records))) => {
                let (done, written) = oneshot::channel();
                if jobs.send((text, done)).await.is_err() {
                    return Ending::Broken;
                }
                let written = tokio::select! {
                    written = written => written,
                    () = stuck(&link) => return Ending::Stopped,
                };
                match written {
                    Ok(Ok(())) => Ok((end, n_records)),
                    Ok(Err(error)) => Err(format!("cannot write to stdout: {error}")),
                    Err(_) => return Ending::Broken,
                }
            }
            Err(error) => Err(format!("cannot read the log buffer: {error}")),
        };
        match outcome {
            Ok((end, n_records)) => {
                step = 0;
                link.progress.delivered(n_records);
                let (back, result) =
                    blocking(link, move |link| link.reader.commit(end, false)).await;
                link = back;
                match result {
                    Ok(()) => committed = Some(end),
                    Err(error) => link
                        .progress
                        .failed(format!("cannot write the checkpoint: {error}")),
                }
            }
            Err(text) => {
                link.progress.failed(text);
                link.reader.rewind();
                if !pause(&link.progress, &link.beat, &link.stop, step).await {
                    return Ending::Stopped;
                }
                step += 1;
            }
        }
    }
}

/// Ends when told to stop; until then shows that the loop is only waiting.
async fn stuck(link: &Link) {
    loop {
        tokio::select! {
            () = link.stop.cancelled() => return,
            () = tokio::time::sleep(BEAT) => link.beat.beat(),
        }
    }
}

/// File work off the reactor.
pub(super) async fn blocking<T, F>(mut link: Link, work: F) -> (Link, io::Result<T>)
where
    T: Send + 'static,
    F: FnOnce(&mut Link) -> io::Result<T> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(move || {
        let result = work(&mut link);
        (link, result)
    });
    match done.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down.
            Err(_) => std::future::pending().await,
        },
    }
}

fn render(block: &Block) -> String {
    let mut text = String::with_capacity(block.data.len() * 2);
    for piece in &block.pieces {
        if json::lines(block.tag(piece), block.entries(piece), &mut text).is_err() {
            error!(
                record = piece.first_record,
                "stored records are no msgpack entries; not printed"
            );
        }
    }
    text
}

fn print(mut queue: mpsc::Receiver<Job>, mut opener: Opener) {
    let mut handle = None;
    while let Some((text, done)) = queue.blocking_recv() {
        let result = write(&mut handle, &mut opener, &text);
        if result.is_err() {
            handle = None;
        }
        let _ = done.send(result);
    }
}

fn write(
    handle: &mut Option<Box<dyn Write + Send>>,
    opener: &mut Opener,
    text: &str,
) -> io::Result<()> {
    let handle = match handle {
        Some(handle) => handle,
        None => handle.insert(opener()?),
    };
    handle.write_all(text.as_bytes())?;
    handle.flush()
}
