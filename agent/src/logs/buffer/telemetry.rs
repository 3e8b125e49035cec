//! The buffer's own metrics. Gauges are computed when they are scraped.

use super::ledger::Ledger;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use std::sync::Arc;

/// Why records are dropped on purpose.
pub(super) const BUFFER_FULL: &str = "buffer_full";
pub(super) const TOO_LARGE: &str = "too_large";
const REASONS: [&str; 2] = [BUFFER_FULL, TOO_LARGE];

#[derive(Clone)]
pub(super) struct Telemetry {
    /// Records that an output did not deliver: their segment was dropped
    /// (`buffer_full`), or its server refused them for their size (`too_large`).
    pub dropped: IntCounterVec,
    /// Records that an output never saw because they were damaged on disk.
    pub lost: IntCounterVec,
    pub damaged_bytes: IntCounter,
    pub errors: IntCounterVec,
}

impl Telemetry {
    pub fn new(registry: &Registry) -> Result<Telemetry, prometheus::Error> {
        let telemetry = Telemetry {
            dropped: IntCounterVec::new(
                Opts::new(
                    "agent_log_dropped_records_total",
                    "Records dropped on purpose before an output had them, by output and reason.",
                ),
                &["output", "reason"],
            )?,
            lost: IntCounterVec::new(
                Opts::new(
                    "agent_log_lost_records_total",
                    "Records that could not be read back from the buffer, by output.",
                ),
                &["output"],
            )?,
            damaged_bytes: IntCounter::new(
                "agent_log_buffer_damaged_bytes_total",
                "Bytes of the buffer that held no whole frame: torn tails cut, damage stepped over.",
            )?,
            errors: IntCounterVec::new(
                Opts::new(
                    "agent_log_buffer_errors_total",
                    "Failed file operations of the buffer, by operation.",
                ),
                &["operation"],
            )?,
        };
        for operation in ["write", "sync", "read", "checkpoint"] {
            telemetry.errors.with_label_values(&[operation]);
        }
        registry.register(Box::new(telemetry.dropped.clone()))?;
        registry.register(Box::new(telemetry.lost.clone()))?;
        registry.register(Box::new(telemetry.damaged_bytes.clone()))?;
        registry.register(Box::new(telemetry.errors.clone()))?;
        Ok(telemetry)
    }

    pub fn error(&self, operation: &str) {
        self.errors.with_label_values(&[operation]).inc();
    }

    /// Makes an output's counters visible at zero.
    pub fn introduce(&self, output: &str) {
        for reason in REASONS {
            self.dropped.with_label_values(&[output, reason]);
        }
        self.lost.with_label_values(&[output]);
    }

    pub fn forget(&self, output: &str) {
        for reason in REASONS {
            let _ = self.dropped.remove_label_values(&[output, reason]);
        }
        let _ = self.lost.remove_label_values(&[output]);
    }
}

/// Gauges over the ledger.
pub(super) struct Gauges {
    ledger: Arc<Ledger>,
    bytes: IntGauge,
    limit: IntGauge,
    oldest: Gauge,
    pending: IntGaugeVec,
}

impl Gauges {
    pub fn new(ledger: Arc<Ledger>) -> Result<Gauges, prometheus::Error> {
        Ok(Gauges {
            ledger,
            bytes: IntGauge::new(
                "agent_log_buffer_bytes",
                "Bytes of all segment files of the log buffer.",
            )?,
            limit: IntGauge::new(
                "agent_log_buffer_limit_bytes",
                "Most bytes that the log buffer may take.",
            )?,
            oldest: Gauge::new(
                "agent_log_oldest_record_seconds",
                "Age of the oldest record that some output still has to deliver; 0 with none.",
            )?,
            pending: IntGaugeVec::new(
                Opts::new(
                    "agent_log_output_pending_bytes",
                    "Bytes of the buffer that the output still has to deliver.",
                ),
                &["output"],
            )?,
        })
    }
}

impl Collector for Gauges {
    fn desc(&self) -> Vec<&Desc> {
        let mut descs = self.bytes.desc();
        descs.extend(self.limit.desc());
        descs.extend(self.oldest.desc());
        descs.extend(self.pending.desc());
        descs
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = self.ledger.status();
        self.bytes.set(gauge(status.bytes));
        self.limit.set(gauge(status.limit));
        self.oldest
            .set(status.oldest.unwrap_or_default().as_secs_f64());
        self.pending.reset();
        for cursor in &status.cursors {
            self.pending
                .with_label_values(&[&cursor.output])
                .set(gauge(cursor.pending_bytes));
        }
        let mut families = self.bytes.collect();
        families.extend(self.limit.collect());
        families.extend(self.oldest.collect());
        families.extend(self.pending.collect());
        families
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
