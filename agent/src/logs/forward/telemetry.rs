//! What the forward input counts of itself.

use crate::chain::Chain;
use crate::logs::partial::Cause;
use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tracing::warn;

/// Counters of the forward inputs, `agent_log_*`. Clones count together.
#[derive(Clone)]
pub struct Telemetry {
    pub(super) records: IntCounter,
    pub(super) unparsed: IntCounter,
    pub(super) bad_frames: IntCounterVec,
    pub(super) bad_records: IntCounterVec,
    pub(super) corrected_times: IntCounter,
    pub(super) incomplete: IntCounterVec,
    pub(super) received_bytes: IntCounter,
    pub(super) connections: IntGauge,
}

impl Telemetry {
    /// Registers the families. Where a name is taken already, counting goes on
    /// but is not exposed, and a warning says so.
    pub fn new(registry: &Registry) -> Telemetry {
        Telemetry {
            records: counter(
                registry,
                "agent_log_records_total",
                "Log records taken in, parts joined.",
            ),
            unparsed: counter(
                registry,
                "agent_log_unparsed_total",
                "Log records whose text was no JSON object; kept as they were.",
            ),
            bad_frames: counters(
                registry,
                "agent_log_bad_frames_total",
                "Forward protocol frames refused, by reason.",
                BAD_FRAMES,
            ),
            bad_records: counters(
                registry,
                "agent_log_bad_records_total",
                "Entries of otherwise good frames that are no log record, by reason.",
                &["not_an_entry", "not_a_map", "truncated"],
            ),
            corrected_times: counter(
                registry,
                "agent_log_corrected_times_total",
                "Log records kept whose time was zero, out of range or no time.",
            ),
            incomplete: counters(
                registry,
                "agent_log_partial_incomplete_total",
                "Lines emitted before all their parts were there, by reason.",
                &[
                    Cause::Overflow.as_str(),
                    Cause::Timeout.as_str(),
                    Cause::Closed.as_str(),
                ],
            ),
            received_bytes: counter(
                registry,
                "agent_log_received_bytes_total",
                "Bytes read from log senders.",
            ),
            connections: {
                let gauge = IntGauge::new("agent_log_connections", "Log senders connected now.");
                registered(registry, gauge)
            },
        }
    }

    /// Records taken in since the start.
    pub fn records_in(&self) -> u64 {
        self.records.get()
    }

    /// Records whose text did not parse.
    pub fn records_unparsed(&self) -> u64 {
        self.unparsed.get()
    }

    /// Frames refused, for whatever reason.
    pub fn bad_frames(&self) -> u64 {
        let of = |reason: &&str| self.bad_frames.with_label_values(&[reason]).get();
        BAD_FRAMES.iter().map(of).sum()
    }

    /// Senders connected now.
    pub fn connections(&self) -> usize {
        usize::try_from(self.connections.get()).unwrap_or(0)
    }
}

/// Reasons of `agent_log_bad_frames_total`; all are exposed from the start.
const BAD_FRAMES: &[&str] = &[
    "malformed",
    "too_large",
    "garbage",
    "compression",
    "timeout",
    "cut_off",
    "tag",
    "shape",
    "signal",
];

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, reasons: &[&str]) -> IntCounterVec {
    let family = IntCounterVec::new(Opts::new(name, help), &["reason"]);
    let family = registered(registry, family);
    for reason in reasons {
        family.with_label_values(&[reason]);
    }
    family
}

fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<M>,
) -> M {
    let metric = made.expect("names of metrics are constants, and valid");
    if let Err(error) = registry.register(Box::new(metric.clone())) {
        warn!(error = %Chain(&error), "a log metric is counted but not exposed");
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::Telemetry;
    use prometheus::Registry;

    #[test]
    fn every_reason_is_exposed_from_the_start_and_a_second_registration_is_harmless() {
        let registry = Registry::new();
        let first = Telemetry::new(&registry);
        let second = Telemetry::new(&registry);
        first.bad_frames.with_label_values(&["tag"]).inc();
        second.records.inc();
        assert_eq!((first.bad_frames(), first.records_in()), (1, 0));
        let exposed = registry.gather();
        let bad = exposed
            .iter()
            .find(|family| family.name() == "agent_log_bad_frames_total");
        assert_eq!(bad.unwrap().get_metric().len(), super::BAD_FRAMES.len());
    }
}
