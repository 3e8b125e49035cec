//! One thread makes all pages, one after the other.
//!
//! It waits for a [`Job`], runs the collectors, writes the page and hands the
//! body back; between jobs it sleeps and samples nothing. At most
//! [`places`] jobs wait; a job whose client has gone is skipped.

use crate::metrics::collector::{Collectors, Selection};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::gzip::Gzip;
use crate::metrics::options::Options;
use crate::metrics::process::Process;
use crate::metrics::{Shared, registry};
use bytes::Bytes;
use prometheus::Registry;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;
use tokio::sync::oneshot;

/// Places where no limit is asked for; there are not as many connections.
const UNLIMITED: usize = 1024;

/// Scrapes served or waiting at once, as node_exporter's --web.max-requests.
pub fn places(options: &Options) -> usize {
    match options.max_requests {
        0 => UNLIMITED,
        limit => limit,
    }
}

/// One page that someone waits for.
pub struct Job {
    pub selection: Selection,
    pub deadline: Instant,
    pub gzip: bool,
    pub reply: oneshot::Sender<Body>,
}

/// A page as it goes out.
#[derive(Debug)]
pub struct Body {
    pub bytes: Bytes,
    pub gzip: bool,
}

/// What the thread owns.
pub struct Scraper {
    collectors: Collectors,
    registry: Registry,
    process: Process,
    page: Page,
    text: String,
    gzip: Gzip,
    shared: Arc<Shared>,
    /// Print `process_*` and `promhttp_*`.
    shows_itself: bool,
}

/// Starts the thread; it ends when the returned sender is dropped.
pub fn start(
    collectors: Collectors,
    registry: Registry,
    shared: Arc<Shared>,
    options: &Options,
) -> io::Result<SyncSender<Job>> {
    let (jobs, queue) = sync_channel(places(options));
    let shows_itself = !options.disable_exporter_metrics;
    thread::Builder::new()
        .name("metrics".into())
        .spawn(move || Scraper::new(collectors, registry, shared, shows_itself).serve(&queue))?;
    Ok(jobs)
}

impl Scraper {
    pub fn new(
        collectors: Collectors,
        registry: Registry,
        shared: Arc<Shared>,
        shows_itself: bool,
    ) -> Scraper {
        Scraper {
            collectors,
            registry,
            process: Process::new(),
            page: Page::default(),
            text: String::new(),
            gzip: Gzip::new(),
            shared,
            shows_itself,
        }
    }

    fn serve(mut self, queue: &Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            if job.reply.is_closed() {
                continue;
            }
            let body = self.scrape(&job.selection, job.deadline, job.gzip);
            // The client may have gone meanwhile.
            let _ = job.reply.send(body);
        }
    }

    /// Runs the collectors and prints the page.
    pub fn scrape(&mut self, selection: &Selection, deadline: Instant, gzip: bool) -> Body {
        let start = Instant::now();
        self.page.clear();
        let summary = self.collectors.run_all(&mut self.page, selection, deadline);
        write_build_info(&mut self.page);
        if self.shows_itself {
            self.process.write(&mut self.page);
        }
        registry::write(&mut self.page, &self.registry);
        if self.page.duplicates() > 0 {
            self.shared.gathering_errors.fetch_add(1, Ordering::Relaxed);
        }
        if self.shows_itself {
            self.shared.write(&mut self.page);
        }
        self.text.clear();
        let text = &mut self.text;
        self.page.render(|piece| text.push_str(piece));
        let packed = if gzip {
            self.gzip.compress(self.text.as_bytes())
        } else {
            None
        };
        let body = match packed {
            Some(packed) => Body {
                bytes: packed.into(),
                gzip: true,
            },
            None => Body {
                bytes: Bytes::copy_from_slice(self.text.as_bytes()),
                gzip: false,
            },
        };
        self.shared.note(start.elapsed(), selection, summary);
        body
    }
}

/// The mixin's dashboards select hosts by this family; the version is the agent's.
fn write_build_info(page: &mut Page) {
    let goarch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let labels = [
        ("branch", "unknown"),
        ("goarch", goarch),
        ("goos", std::env::consts::OS),
        ("goversion", "unknown"),
        ("revision", "unknown"),
        ("tags", "unknown"),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    page.family(
        "node_exporter_build_info",
        Kind::Gauge,
        "A metric with a constant '1' value labeled by version, revision, branch, goversion \
         from which node_exporter was built, and the goos and goarch for the build.",
    )
    .sample(&labels, 1u64);
}
