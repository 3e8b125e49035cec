//! The room's own metrics.

use super::Status;
use crate::host::bus::update1::Operation;
use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use std::time::SystemTime;

#[derive(Clone)]
pub struct Counts {
    bus_up: IntGauge,
    inhibits: IntGauge,
    leaving: IntGauge,
    reboot_required: IntGauge,
    /// Without a series where update_engine does not run, as the one below.
    update: IntGaugeVec,
    last_checked: IntGaugeVec,
    pub revivals: IntCounterVec,
}

impl Counts {
    pub fn new(registry: &Registry) -> Counts {
        let gauge = |name, help| {
            let family = IntGauge::new(name, help).expect("a constant, valid name");
            told(registry, family.clone());
            family
        };
        let gauges = |name, help, labels: &[&str]| {
            let family =
                IntGaugeVec::new(Opts::new(name, help), labels).expect("a constant, valid name");
            told(registry, family.clone());
            family
        };
        let revivals = IntCounterVec::new(
            Opts::new(
                "agent_docker_revivals_total",
                "Orders to systemd to start a unit of Docker's that it had given up, by answer.",
            ),
            &["unit", "result"],
        )
        .expect("a constant, valid name");
        told(registry, revivals.clone());
        Counts {
            bus_up: gauge(
                "agent_host_bus_up",
                "Whether the system bus answered when it was last asked.",
            ),
            inhibits: gauge(
                "agent_host_shutdown_inhibited",
                "Whether a shutdown of the host would wait for the containers to stop.",
            ),
            leaving: gauge(
                "agent_host_shutting_down",
                "Whether the host shuts down and the containers are stopped for it.",
            ),
            reboot_required: gauge(
                "agent_host_reboot_required",
                "Whether an installed update or /run/reboot-required waits for a reboot.",
            ),
            update: gauges(
                "agent_host_update_status",
                "1 for what update_engine is at, else 0. Absent where it does not run.",
                &["operation"],
            ),
            last_checked: gauges(
                "agent_host_update_last_checked_timestamp_seconds",
                "When update_engine last looked for an update. Absent where it never has.",
                &[],
            ),
            revivals,
        }
    }

    pub fn show(&self, status: &Status) {
        self.bus_up.set((status.bus == Some(true)).into());
        self.inhibits.set(status.inhibits.into());
        self.leaving.set(status.leaving.into());
        let required = status.reboot_reason().is_some();
        self.reboot_required.set(required.into());
        let Some(update) = &status.update else {
            self.update.reset();
            self.last_checked.reset();
            return;
        };
        for operation in Operation::ALL {
            let is = (operation == update.operation).into();
            self.update.with_label_values(&[operation.word()]).set(is);
        }
        let seconds = update
            .last_checked
            .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_secs()).ok());
        match seconds {
            Some(seconds) => self
                .last_checked
                .with_label_values::<&str>(&[])
                .set(seconds),
            None => self.last_checked.reset(),
        }
    }
}

fn told(registry: &Registry, family: impl Collector + 'static) {
    if let Err(error) = registry.register(Box::new(family)) {
        tracing::warn!(%error, "metrics of the host are not exported");
    }
}
