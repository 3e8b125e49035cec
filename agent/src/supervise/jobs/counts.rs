//! The metrics of jobs.

use super::state::Class;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Not an end of a run, but counted beside them.
pub const SKIPPED: &str = "skipped";

#[derive(Clone)]
pub struct Counts {
    pub runs: IntCounterVec,
    pub missed: IntCounterVec,
    pub running: IntGaugeVec,
    pub last_success: GaugeVec,
    pub last_duration: GaugeVec,
}

impl Counts {
    pub fn new(registry: &Registry) -> Counts {
        let counter = |name, help, labels: &[&str]| {
            let family =
                IntCounterVec::new(Opts::new(name, help), labels).expect("a constant, valid name");
            told(registry.register(Box::new(family.clone())));
            family
        };
        let gauge = |name, help| {
            let family =
                GaugeVec::new(Opts::new(name, help), &["job"]).expect("a constant, valid name");
            told(registry.register(Box::new(family.clone())));
            family
        };
        let running = IntGaugeVec::new(
            Opts::new("agent_job_running", "Runs of the job that are under way."),
            &["job"],
        )
        .expect("a constant, valid name");
        told(registry.register(Box::new(running.clone())));
        Counts {
            runs: counter(
                "agent_job_runs_total",
                "Runs of the job that have ended, by result; skipped: its time came while another was under way.",
                &["job", "result"],
            ),
            missed: counter(
                "agent_job_missed_total",
                "Scheduled times of the job at which nothing ran: the host, the agent or Docker was away.",
                &["job"],
            ),
            running,
            last_success: gauge(
                "agent_job_last_success_timestamp_seconds",
                "When the job last ended well.",
            ),
            last_duration: gauge(
                "agent_job_last_duration_seconds",
                "How long the job's last run took, its retries included.",
            ),
        }
    }

    /// Every series of a job is there before its first run, so that rates see the first one.
    pub fn begin(&self, job: &str) {
        for result in Class::ALL.map(Class::word).into_iter().chain([SKIPPED]) {
            self.runs.with_label_values(&[job, result]);
        }
        self.missed.with_label_values(&[job]);
        self.running.with_label_values(&[job]);
    }

    /// Forgets a job that is no longer in the config. A label that was never set is no fault.
    pub fn forget(&self, job: &str) {
        for result in Class::ALL.map(Class::word).into_iter().chain([SKIPPED]) {
            let _ = self.runs.remove_label_values(&[job, result]);
        }
        let _ = self.missed.remove_label_values(&[job]);
        let _ = self.running.remove_label_values(&[job]);
        let _ = self.last_success.remove_label_values(&[job]);
        let _ = self.last_duration.remove_label_values(&[job]);
    }
}

fn told(registered: prometheus::Result<()>) {
    if let Err(error) = registered {
        tracing::warn!(%error, "metrics of jobs are not exported");
    }
}
