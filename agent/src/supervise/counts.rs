//! The room's own metrics.

use super::{ContainerStatus, ExitClass, Phase};
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use std::time::{SystemTime, UNIX_EPOCH};

/// All families of this room. The container's name is the only name of it that
/// is a label.
#[derive(Clone)]
pub struct Counts {
    pub restarts: IntCounterVec,
    pub start_failures: IntCounterVec,
    pub up: IntGaugeVec,
    pub ready: IntGaugeVec,
    pub last_exit_code: IntGaugeVec,
    pub crash_loop: IntGaugeVec,
    pub paused: IntGaugeVec,
    pub update_pending: IntGaugeVec,
    pub rollbacks: IntCounterVec,
    pub probe_failures: IntCounterVec,
    pub backoff: GaugeVec,
    pub start_time: GaugeVec,
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
        let seconds = |name, help| {
            let family = GaugeVec::new(Opts::new(name, help), &["container"])
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
            crash_loop: gauge(
                "agent_container_crash_loop",
                "Whether the container has ended unplanned five times within ten minutes.",
            ),
            paused: gauge(
                "agent_container_paused",
                "Whether the operator has the container left alone.",
            ),
            update_pending: gauge(
                "agent_container_update_pending",
                "Whether the container runs in another shape than the config says.",
            ),
            rollbacks: counter(
                "agent_container_rollbacks_total",
                "New shapes of a container that were no good.",
                &["container"],
            ),
            probe_failures: counter(
                "agent_container_probe_failures_total",
                "Bad answers to a probe of the container; what counts as unknown is none.",
                &["container", "probe"],
            ),
            backoff: seconds(
                "agent_container_backoff_seconds",
                "Wait before the container's next start, as it was decided; 0 while there is none.",
            ),
            start_time: seconds(
                "agent_container_start_time_seconds",
                "When the container's main process was started, since the epoch; 0 while it does not run.",
            ),
            docker_up,
            surprises,
        }
    }

    /// Shows one container's line of the status.
    pub fn show(&self, status: &ContainerStatus, up: bool) {
        let ready = up && status.ready != Some(false) && status.phase == Phase::Running;
        let pending = status.update.is_some() || status.rolled_back;
        for (gauge, is) in [
            (&self.up, up),
            (&self.ready, ready),
            (&self.crash_loop, status.crash_loop),
            (&self.paused, status.paused),
            (&self.update_pending, pending),
        ] {
            gauge
                .with_label_values(&[status.name.as_str()])
                .set(i64::from(is));
        }
    }

    /// Shows what of it is a time.
    pub fn show_times(&self, status: &ContainerStatus, now: SystemTime) {
        let name = [status.name.as_str()];
        let waits = status.phase == Phase::Backoff;
        let until = status.retry_at.filter(|_| waits);
        let left = until.and_then(|until| until.duration_since(now).ok());
        let left = left.unwrap_or_default().as_secs_f64();
        self.backoff.with_label_values(&name).set(left);
        let started = status
            .started_at
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let started = started.unwrap_or_default().as_secs_f64();
        self.start_time.with_label_values(&name).set(started);
    }

    /// Forgets a container that is no longer in the config. A label that was
    /// never set is no fault.
    pub fn forget(&self, container: &str) {
        for gauge in [
            &self.up,
            &self.ready,
            &self.crash_loop,
            &self.paused,
            &self.update_pending,
            &self.last_exit_code,
        ] {
            let _ = gauge.remove_label_values(&[container]);
        }
        for gauge in [&self.backoff, &self.start_time] {
            let _ = gauge.remove_label_values(&[container]);
        }
        for probe in ["startup", "readiness", "liveness"] {
            let _ = self.probe_failures.remove_label_values(&[container, probe]);
        }
        let _ = self.start_failures.remove_label_values(&[container]);
        let _ = self.rollbacks.remove_label_values(&[container]);
        let classes = ExitClass::ALL.map(ExitClass::word);
        for reason in classes
            .into_iter()
            .chain(["removed", "startup", "liveness"])
        {
            let _ = self.restarts.remove_label_values(&[container, reason]);
        }
    }
}

fn told(registered: prometheus::Result<()>) {
    if let Err(error) = registered {
        tracing::warn!(%error, "supervision metrics are not exported");
    }
}
