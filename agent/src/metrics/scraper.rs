//! The worker: runs collectors as the desk gives them out, and turns what they
//! wrote into pages, one after the other.
//!
//! Between jobs it sleeps and samples nothing. At most [`places`] jobs wait; a
//! job whose client has gone is skipped. Pages that no client has taken yet are
//! bounded by [`MAX_UNSENT`].

use crate::metrics::collector::Selection;
use crate::metrics::desk::{Brought, Desk, Finish, Outcome, Step};
use crate::metrics::exposition::{Kind, MAX_TEXT, Order, Page, Part, render};
use crate::metrics::gzip::Gzip;
use crate::metrics::left_out::LEFT_OUT;
use crate::metrics::netstat::Octets;
use crate::metrics::options::Options;
use crate::metrics::process::Process;
use crate::metrics::{Shared, registry};
use bytes::Bytes;
use prometheus::Registry;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Places where no limit is asked for; there are not as many connections.
const UNLIMITED: usize = 1024;
/// Bytes of pages that clients have asked for and not taken; while there are more, no page
/// is begun. One page more may be under way.
pub const MAX_UNSENT: usize = MAX_TEXT;

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
#[derive(Debug, Clone)]
pub struct Body {
    pub bytes: Bytes,
    pub gzip: bool,
}

/// What the worker needs beside the collectors; the next one takes it over.
pub struct Tools {
    registry: Registry,
    process: Process,
    gzip: Gzip,
    shared: Arc<Shared>,
    /// Print `process_*` and `promhttp_*`.
    shows_itself: bool,
    /// Of the last page, for its memory.
    page: Option<Page>,
    order: Order,
    /// Memory for what follows the collectors.
    last: Part,
    /// What the last plain page took.
    length: usize,
}

/// Starts the worker of that number; it ends when it is set aside or the desk closes.
pub fn start(desk: Arc<Desk>, worker: u64) -> io::Result<()> {
    thread::Builder::new()
        .name("metrics".into())
        .spawn(move || work(&desk, worker))
        .map(drop)
}

/// Until the desk sends the worker home.
pub fn work(desk: &Desk, worker: u64) {
    let mut brought = Brought::Nothing;
    loop {
        brought = match desk.step(worker, brought) {
            Step::Leave => return,
            Step::Collect(mut turn) => {
                let result = turn.collector.update(&mut turn.page);
                Brought::Collected(turn, result)
            }
            Step::Finish(mut finish) => {
                finish.send();
                Brought::Finished(finish)
            }
        };
    }
}

impl Finish {
    /// Writes what follows the collectors, renders the page and sends it to all who wait.
    fn send(&mut self) {
        let Finish { round, page, tools } = self;
        page.cut(std::mem::take(&mut tools.last));
        round.results.extend(left_out(&round.selection));
        write_outcomes(page, &round.results);
        write_build_info(page);
        if tools.shows_itself {
            tools.process.write(page);
        }
        registry::write(page, &tools.registry);
        let duplicates: u64 = round.parts().map(Part::duplicates).sum();
        if duplicates + page.duplicates() > 0 {
            tools
                .shared
                .gathering_errors
                .fetch_add(1, Ordering::Relaxed);
        }
        if tools.shows_itself {
            tools.shared.write(page);
        }
        let last = page.cut(Part::default());
        let parts = || round.parts().chain([&last]);
        let packed = round.gzip.then(|| {
            render(parts(), &mut tools.order, |piece| {
                tools.gzip.push(piece.as_bytes())
            });
            tools.gzip.finish()
        });
        let (bytes, gzip) = match packed.flatten() {
            Some(packed) => (packed, true),
            None => {
                let mut plain = Vec::with_capacity(tools.length + tools.length / 16);
                render(parts(), &mut tools.order, |piece| {
                    plain.extend_from_slice(piece.as_bytes());
                });
                tools.length = plain.len();
                (plain, false)
            }
        };
        let bytes = Unsent::counted(bytes, &tools.shared);
        let body = Body { bytes, gzip };
        let (took, count) = (round.begun.elapsed(), round.replies.len() as u64);
        let shared = &tools.shared;
        shared.note(
            took,
            count,
            &round.selection,
            std::mem::take(&mut round.summary),
        );
        for reply in round.replies.drain(..) {
            // The client may have gone meanwhile.
            let _ = reply.send(body.clone());
        }
        tools.last = last;
        tools.last.clear();
    }
}

impl Tools {
    pub fn new(
        registry: Registry,
        shared: Arc<Shared>,
        octets: Octets,
        shows_itself: bool,
    ) -> Tools {
        Tools {
            registry,
            process: Process::new(octets),
            gzip: Gzip::new(),
            shared,
            shows_itself,
            page: None,
            order: Order::default(),
            last: Part::default(),
            length: 0,
        }
    }

    /// Whether clients leave too much of what they asked for.
    pub fn is_full(&self) -> bool {
        self.shared.is_full()
    }

    /// A page with the last one's memory.
    pub fn page(&mut self) -> Page {
        self.page.take().unwrap_or_default()
    }

    pub fn keep(&mut self, page: Page) {
        self.page = Some(page);
    }
}

/// The bytes of a page, counted until the last client has taken or left it.
struct Unsent {
    bytes: Vec<u8>,
    shared: Arc<Shared>,
}

impl Unsent {
    fn counted(mut bytes: Vec<u8>, shared: &Arc<Shared>) -> Bytes {
        bytes.shrink_to_fit();
        shared.unsent.fetch_add(bytes.len(), Ordering::Relaxed);
        Bytes::from_owner(Unsent {
            bytes,
            shared: shared.clone(),
        })
    }
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        let counted: &AtomicUsize = &self.shared.unsent;
        counted.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// Asked for by name, collectors that we leave out answer as there on a host
/// that lacks their source.
fn left_out(selection: &Selection) -> impl Iterator<Item = Outcome> {
    let is_asked = |name: &str| match selection {
        Selection::Only(names) => names.iter().any(|asked| asked == name),
        Selection::All | Selection::Except(_) => false,
    };
    LEFT_OUT
        .iter()
        .filter(move |one| one.is_on_there && is_asked(one.name))
        .map(|one| Outcome {
            collector: one.name,
            took: Duration::ZERO,
            success: false,
        })
}

fn write_outcomes(page: &mut Page, outcomes: &[Outcome]) {
    let mut family = page.family(
        "node_scrape_collector_duration_seconds",
        Kind::Gauge,
        "node_exporter: Duration of a collector scrape.",
    );
    for one in outcomes {
        family.sample(&[("collector", one.collector)], one.took.as_secs_f64());
    }
    let mut family = page.family(
        "node_scrape_collector_success",
        Kind::Gauge,
        "node_exporter: Whether a collector succeeded.",
    );
    for one in outcomes {
        family.sample(&[("collector", one.collector)], one.success);
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
