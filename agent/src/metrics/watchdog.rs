//! `watchdog`: hardware watchdogs and how they are set. Source:
//! /sys/class/watchdog, the kernel's ABI/testing/sysfs-class-watchdog.

use crate::host::roots::Roots;
use crate::metrics::attributes::{attribute, names, number};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use std::path::PathBuf;

/// File and what the family's name adds to it: times are seconds.
const NUMBERS: [(&str, &str); 7] = [
    ("access_cs0", ""),
    ("bootstatus", ""),
    ("fw_version", ""),
    ("nowayout", ""),
    ("pretimeout", "_seconds"),
    ("timeleft", "_seconds"),
    ("timeout", "_seconds"),
];

pub struct Watchdog {
    watchdogs: PathBuf,
}

impl Watchdog {
    pub fn new(roots: &Roots) -> Watchdog {
        Watchdog {
            watchdogs: roots.sys.join("class/watchdog"),
        }
    }
}

impl Collector for Watchdog {
    fn name(&self) -> &'static str {
        "watchdog"
    }

    fn shows_what_few_have(&self) -> bool {
        true
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        for name in names(&self.watchdogs, "")? {
            let device = self.watchdogs.join(&name);
            for (file, unit) in NUMBERS {
                if let Some(value) = number(&device.join(file)) {
                    let family = format!("node_watchdog_{file}{unit}");
                    let help = format!("Value of /sys/class/watchdog/<watchdog>/{file}");
                    page.family(&family, Kind::Gauge, &help)
                        .sample(&[("name", &name)], value);
                }
            }
            let text = |file| attribute(&device.join(file)).unwrap_or_default();
            page.family(
                "node_watchdog_info",
                Kind::Gauge,
                "Info of /sys/class/watchdog/<watchdog>",
            )
            .sample(
                &[
                    ("identity", &text("identity")),
                    ("name", &name),
                    ("options", &text("options")),
                    ("pretimeout_governor", &text("pretimeout_governor")),
                    ("state", &text("state")),
                    ("status", &text("status")),
                ],
                1u64,
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Watchdog;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn times_are_seconds_and_what_a_watchdog_lacks_is_left_out() {
        let (_dir, roots) = host(&[
            ("sys/class/watchdog/watchdog0/timeout", "60\n"),
            ("sys/class/watchdog/watchdog0/state", "active\n"),
        ]);
        let pages = collect(&mut Watchdog::new(&roots));
        let labels = [("name", "watchdog0")];
        expect(&pages, "node_watchdog_timeout_seconds", &labels, 60.0);
        assert_eq!(pages.len(), 2);
    }
}
