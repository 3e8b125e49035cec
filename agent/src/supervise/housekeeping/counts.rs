//! The room's own metrics.

use prometheus::core::Collector;
use prometheus::{Gauge, IntCounter, Registry};

pub struct Counts {
    pub removed: IntCounter,
    pub freed: IntCounter,
    used: Gauge,
    registry: Registry,
    /// A share that nobody has measured is not shown as zero.
    shown: bool,
}

impl Counts {
    pub fn new(registry: &Registry) -> Counts {
        let counter = |name, help| {
            let family = IntCounter::new(name, help).expect("a constant, valid name");
            told(registry, family.clone());
            family
        };
        Counts {
            removed: counter(
                "agent_images_removed_total",
                "Images removed because the disk of Docker's root was full.",
            ),
            freed: counter(
                "agent_image_bytes_freed_total",
                "Bytes by which the disk of Docker's root got emptier with the removal of images.",
            ),
            used: Gauge::new(
                "agent_docker_disk_used_ratio",
                "Used share of the file system that Docker's root lies on, as df shows it.",
            )
            .expect("a constant, valid name"),
            registry: registry.clone(),
            shown: false,
        }
    }

    /// None: it cannot be measured.
    pub fn show(&mut self, ratio: Option<f64>) {
        if let Some(ratio) = ratio {
            self.used.set(ratio);
        }
        if self.shown != ratio.is_some() {
            self.shown = ratio.is_some();
            if self.shown {
                told(&self.registry, self.used.clone());
            } else if let Err(error) = self.registry.unregister(Box::new(self.used.clone())) {
                tracing::debug!(%error, "a metric of housekeeping stays");
            }
        }
    }
}

fn told(registry: &Registry, family: impl Collector + 'static) {
    if let Err(error) = registry.register(Box::new(family)) {
        tracing::warn!(%error, "metrics of housekeeping are not exported");
    }
}
