//! The HTTP side: `/`, `/metrics` and cAdvisor's `/healthz`, and the thread behind them.

use super::sampler::Sampler;
use crate::http::{Handler, Reply, ReplyFuture, Request, reply};
use crate::metrics::gzip;
use crate::metrics::scraper::Body;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::error;

const PAGE_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";
/// Scrapes that wait; more are refused with 503.
const WAITING: usize = 16;
/// Half of Prometheus' own default; a page takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);

const LANDING: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
<title>Container metrics</title></head>\n<body>\n<h1>Container metrics</h1>\n\
<p>This host's containers under cAdvisor's names: \
<a href=\"/metrics\">Metrics</a></p>\n</body>\n</html>\n";

struct Job {
    gzip: bool,
    reply: oneshot::Sender<Body>,
}

/// Answers requests; pages come from a thread of its own.
pub struct ContainerMetrics {
    /// `None` where the thread could not be started; every scrape then answers 503.
    jobs: Option<SyncSender<Job>>,
}

impl ContainerMetrics {
    pub fn new(sampler: Sampler) -> ContainerMetrics {
        let jobs = start(sampler)
            .inspect_err(|error| error!(%error, "cannot start the container metrics thread"))
            .ok();
        ContainerMetrics { jobs }
    }

    fn begin(&self, request: &Request) -> Option<oneshot::Receiver<Body>> {
        let gzip = (request.headers().get_all(ACCEPT_ENCODING).iter())
            .filter_map(|value| value.to_str().ok())
            .any(gzip::is_accepted);
        let (reply, body) = oneshot::channel();
        let jobs = self.jobs.as_ref()?;
        jobs.try_send(Job { gzip, reply }).ok()?;
        Some(body)
    }
}

impl Handler for ContainerMetrics {
    fn handle(&self, request: Request) -> ReplyFuture {
        let now = match request.uri().path() {
            "/" => reply(200, "text/html; charset=utf-8", LANDING),
            "/healthz" => reply(200, TEXT_TYPE, "ok"),
            "/metrics" => match self.begin(&request) {
                Some(body) => return Box::pin(finish(body)),
                None => reply(
                    503,
                    TEXT_TYPE,
                    "Too many scrapes at once, try again later.\n",
                ),
            },
            _ => reply(404, TEXT_TYPE, "404 page not found\n"),
        };
        Box::pin(std::future::ready(now))
    }
}

async fn finish(body: oneshot::Receiver<Body>) -> Reply {
    match tokio::time::timeout(DEADLINE, body).await {
        Ok(Ok(body)) => {
            let mut page = reply(200, PAGE_TYPE, body.bytes);
            if body.gzip {
                let gzip = HeaderValue::from_static("gzip");
                page.headers_mut().insert(CONTENT_ENCODING, gzip);
            }
            page
        }
        Ok(Err(_)) => reply(500, TEXT_TYPE, "The container metrics thread has ended.\n"),
        Err(_) => reply(503, TEXT_TYPE, "No page in time.\n"),
    }
}

/// Ends when the sender is dropped.
fn start(mut sampler: Sampler) -> io::Result<SyncSender<Job>> {
    let (jobs, queue): (_, Receiver<Job>) = sync_channel(WAITING);
    let serve = move || {
        while let Ok(job) = queue.recv() {
            if !job.reply.is_closed() {
                // The client may go meanwhile.
                let _ = job.reply.send(sampler.scrape(job.gzip));
            }
        }
    };
    thread::Builder::new()
        .name("container pages".into())
        .spawn(serve)?;
    Ok(jobs)
}
