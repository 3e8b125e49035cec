//! `time`: the clock, its zone and its clock sources. Sources: the system clock,
//! `etc/localtime` below the root file system (TZif, read once), and
//! /sys/devices/system/clocksource.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

pub struct Time {
    zone: TimeZone,
    clocksources: PathBuf,
    devices: Vec<Device>,
}

/// One `clocksourceN` directory.
struct Device {
    number: String,
    available: Source,
    current: Source,
}

impl Time {
    pub fn new(roots: &Roots) -> Time {
        let zone = std::fs::read(roots.rootfs.join("etc/localtime"))
            .ok()
            .and_then(|tzif| TimeZone::tzif("local", &tzif).ok())
            .unwrap_or(TimeZone::UTC);
        Time {
            zone,
            clocksources: roots.sys.join("devices/system/clocksource"),
            devices: Vec::new(),
        }
    }

    /// Looks for the directories until there is one; they do not change after boot.
    fn find_devices(&mut self) -> Result<(), CollectError> {
        if !self.devices.is_empty() {
            return Ok(());
        }
        let failed = |error| CollectError::read(&self.clocksources, error);
        for entry in std::fs::read_dir(&self.clocksources).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|n| n.strip_prefix("clocksource")) else {
                continue;
            };
            self.devices.push(Device {
                number: number.to_owned(),
                available: Source::of_one_piece(entry.path().join("available_clocksource")),
                current: Source::of_one_piece(entry.path().join("current_clocksource")),
            });
        }
        self.devices.sort_by(|a, b| a.number.cmp(&b.number));
        Ok(())
    }
}

impl Collector for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.family(
            "node_time_seconds",
            Kind::Gauge,
            "System time in seconds since epoch (1970).",
        )
        .bare(seconds.as_secs_f64());
        let timestamp = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
        let zone = self.zone.to_offset_info(timestamp);
        page.family(
            "node_time_zone_offset_seconds",
            Kind::Gauge,
            "System time zone offset in seconds.",
        )
        .sample(
            &[("time_zone", zone.abbreviation())],
            f64::from(zone.offset().seconds()),
        );

        self.find_devices()?;
        let mut family = page.family(
            "node_time_clocksource_available_info",
            Kind::Gauge,
            "Available clocksources read from '/sys/devices/system/clocksource'.",
        );
        for device in &mut self.devices {
            for clocksource in device.available.read()?.as_str().split_ascii_whitespace() {
                let labels = [("clocksource", clocksource), ("device", &*device.number)];
                family.sample(&labels, 1u64);
            }
        }
        let mut family = page.family(
            "node_time_clocksource_current_info",
            Kind::Gauge,
            "Current clocksource read from '/sys/devices/system/clocksource'.",
        );
        for device in &mut self.devices {
            let current = device.current.read()?;
            let labels = [
                ("clocksource", current.as_str().trim()),
                ("device", &*device.number),
            ];
            family.sample(&labels, 1u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Time;
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host, parse};
    use std::time::{SystemTime, UNIX_EPOCH};

    const CLOCKSOURCE: &str = "sys/devices/system/clocksource/clocksource0";

    #[test]
    fn clock_sources_and_utc_are_shown() {
        let (_dir, roots) = host(&[
            (
                &format!("{CLOCKSOURCE}/available_clocksource"),
                "tsc hpet \n",
            ),
            (&format!("{CLOCKSOURCE}/current_clocksource"), "tsc\n"),
        ]);
        let pages = collect(&mut Time::new(&roots));
        let name = "node_time_clocksource_available_info";
        expect(
            &pages,
            name,
            &[("clocksource", "hpet"), ("device", "0")],
            1.0,
        );
        let name = "node_time_clocksource_current_info";
        expect(
            &pages,
            name,
            &[("clocksource", "tsc"), ("device", "0")],
            1.0,
        );
        let name = "node_time_zone_offset_seconds";
        expect(&pages, name, &[("time_zone", "UTC")], 0.0);
        let shown = pages["node_time_seconds"].series.values().sum::<f64>();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!((now.as_secs_f64() - shown).abs() < 60.0);
    }

    #[test]
    fn without_sysfs_the_clock_is_still_shown() {
        let (_dir, roots) = host(&[]);
        let mut page = Page::default();
        let result = Time::new(&roots).update(&mut page);
        assert!(matches!(result, Err(CollectError::Absent { .. })));
        assert!(parse(&page).contains_key("node_time_seconds"));
    }
}
