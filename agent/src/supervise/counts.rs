//! The room's own metrics.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// All families of this room. The container's name is the only name of it that
/// is a label.
#[derive(Clone)]
pub struct Counts {
    pub restarts: IntCounterVec,
    pub start_failures: IntCounterVec,
    pub up: IntGaugeVec,
    pub ready: IntGaugeVec,
    pub last_exit_code: IntGaugeVec,
    pub docker_up: IntGauge,
    pub surprises: IntCounter,
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
            let family = IntGaugeVec::new(Opts::new(name, help), &["container"])
                .expect("a constant, valid name");
            told(registry.register(Box::new(family.clone())));
            family
        };
        let docker_up = IntGauge::new(
            "agent_docker_up",
            "Whether Docker answered when it was last asked.",
        )
        .expect("a constant, valid name");
        told(registry.register(Box::new(docker_up.clone())));
        let surprises = IntCounter::new(
            "agent_supervise_surprises_total",
            "Events that made no sense in the state of their container and were ignored.",
        )
        .expect("a constant, valid name");
        told(registry.register(Box::new(surprises.clone())));
        Counts {
            restarts: counter(
                "agent_container_restarts_total",
                "Unplanned ends of a container's main process, each followed by a restart, by reason.",
                &["container", "reason"],
            ),
            start_failures: counter(
                "agent_container_start_failures_total",
                "Starts of a container that failed.",
                &["container"],
            ),
            up: gauge(
                "agent_container_up",
                "Whether the container's main process runs.",
            ),
            ready: gauge(
                "agent_container_ready",
                "Whether the container runs and, where it has a probe, is ready.",
            ),
            last_exit_code: gauge(
                "agent_container_last_exit_code",
                "Exit code of the container's last run; 128 + n for signal n.",
            ),
            docker_up,
            surprises,
        }
    }

    /// Forgets a container that is no longer in the config. A label that was
    /// never set is no fault.
    pub fn forget(&self, container: &str) {
        for gauge in [&self.up, &self.ready, &self.last_exit_code] {
            let _ = gauge.remove_label_values(&[container]);
        }
        let _ = self.start_failures.remove_label_values(&[container]);
        for reason in ["clean", "error", "signal", "oom", "daemon", "removed"] {
            let _ = self.restarts.remove_label_values(&[container, reason]);
        }
    }
}

fn told(registered: prometheus::Result<()>) {
    if let Err(error) = registered {
        tracing::warn!(%error, "supervision metrics are not exported");
    }
}
