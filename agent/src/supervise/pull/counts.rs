//! What pulls are measured by. No label has a name of an image: there may be many.

use super::verdict::Kind;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};
use tokio::time::Instant;

#[derive(Clone)]
pub struct Counts {
    pulls: IntCounterVec,
    seconds: Histogram,
    bytes: IntCounter,
}

/// A pull under way; dropped before its end it counts as cancelled.
pub struct Underway {
    counts: Counts,
    begun: Instant,
    result: &'static str,
}

impl Counts {
    pub fn new(registry: &Registry) -> Counts {
        let pulls = IntCounterVec::new(
            Opts::new(
                "agent_image_pulls_total",
                "Pulls of an image, by how they ended; what was here already is no pull.",
            ),
            &["result"],
        )
        .expect("a constant, valid name");
        let seconds = Histogram::with_opts(
            HistogramOpts::new(
                "agent_image_pull_seconds",
                "How long pulls took, failed ones too, the wait for their turn not included.",
            )
            .buckets(vec![0.5, 2.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0]),
        )
        .expect("a constant, valid name");
        let bytes = IntCounter::new(
            "agent_image_pull_bytes_total",
            "Bytes of layers that registries sent, as Docker tells of them.",
        )
        .expect("a constant, valid name");
        for family in [
            registry.register(Box::new(pulls.clone())),
            registry.register(Box::new(seconds.clone())),
            registry.register(Box::new(bytes.clone())),
        ] {
            if let Err(error) = family {
                tracing::warn!(%error, "image pull metrics are not exported");
            }
        }
        for result in results() {
            pulls.with_label_values(&[result]);
        }
        Counts {
            pulls,
            seconds,
            bytes,
        }
    }

    pub fn begin(&self) -> Underway {
        Underway {
            counts: self.clone(),
            begun: Instant::now(),
            result: "cancelled",
        }
    }
}

/// Every value of the label; a pull that the policy forbids never begins.
pub fn results() -> impl Iterator<Item = &'static str> {
    let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Never);
    ["ok", "cancelled"].into_iter().chain(kinds.map(Kind::word))
}

impl Underway {
    pub fn received(&self, bytes: u64) {
        self.counts.bytes.inc_by(bytes);
    }

    pub fn ended(mut self, failed: Option<Kind>) {
        self.result = failed.map_or("ok", Kind::word);
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.counts.pulls.with_label_values(&[self.result]).inc();
        self.counts.seconds.observe(seconds);
    }
}
