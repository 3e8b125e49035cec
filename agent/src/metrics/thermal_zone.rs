//! `thermal_zone`: temperatures and cooling devices. Source: /sys/class/thermal,
//! the kernel's driver-api/thermal/sysfs-api; thousandths of a degree Celsius.

use crate::host::roots::Roots;
use crate::metrics::attributes::{attribute, index, names_if_any, number};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use std::path::PathBuf;

pub struct ThermalZone {
    thermal: PathBuf,
}

impl ThermalZone {
    pub fn new(roots: &Roots) -> ThermalZone {
        ThermalZone {
            thermal: roots.sys.join("class/thermal"),
        }
    }
}

impl Collector for ThermalZone {
    fn name(&self) -> &'static str {
        "thermal_zone"
    }

    fn shows_what_few_have(&self) -> bool {
        true
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        for name in names_if_any(&self.thermal, "")? {
            let device = self.thermal.join(&name);
            let Some(kind) = attribute(&device.join("type")) else {
                continue;
            };
            if let Some(zone) = index(&name, "thermal_zone", "") {
                if let Some(millis) = number(&device.join("temp")) {
                    page.family(
                        "node_thermal_zone_temp",
                        Kind::Gauge,
                        "Zone temperature in Celsius",
                    )
                    .sample(&[("type", &kind), ("zone", zone)], millis / 1000.0);
                }
            } else if let Some(cooler) = index(&name, "cooling_device", "") {
                let labels = [("name", cooler), ("type", &*kind)];
                for (file, family, help) in [
                    (
                        "cur_state",
                        "node_cooling_device_cur_state",
                        "Current throttle state of the cooling device",
                    ),
                    (
                        "max_state",
                        "node_cooling_device_max_state",
                        "Maximum throttle state of the cooling device",
                    ),
                ] {
                    if let Some(state) = number(&device.join(file)) {
                        page.family(family, Kind::Gauge, help)
                            .sample(&labels, state);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ThermalZone;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn a_sensor_that_gives_no_number_costs_only_itself() {
        let (_dir, roots) = host(&[
            ("sys/class/thermal/thermal_zone0/type", "acpitz\n"),
            ("sys/class/thermal/thermal_zone0/temp", "-1500\n"),
            ("sys/class/thermal/thermal_zone1/type", "broken\n"),
            ("sys/class/thermal/thermal_zone1/temp", "\n"),
        ]);
        let pages = collect(&mut ThermalZone::new(&roots));
        let labels = [("type", "acpitz"), ("zone", "0")];
        expect(&pages, "node_thermal_zone_temp", &labels, -1.5);
        assert_eq!(pages["node_thermal_zone_temp"].series.len(), 1);
    }

    #[test]
    fn a_host_without_sensors_succeeds_with_nothing() {
        let (_dir, roots) = host(&[]);
        assert!(collect(&mut ThermalZone::new(&roots)).is_empty());
    }
}
