//! `powersupplyclass`: mains and batteries. Source: /sys/class/power_supply/NAME,
//! the kernel's ABI/testing/sysfs-class-power; millionths and tenths, shown in
//! base units.

use crate::host::roots::Roots;
use crate::metrics::attributes::{attribute, names, number};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::pattern::Pattern;
use std::path::PathBuf;

/// File, and the family's end where it differs; shown as it is.
const PLAIN: &str = "authentic calibrate capacity capacity_alert_max capacity_alert_min \
    cycle_count=cyclecount online present time_to_empty_now=time_to_empty_seconds \
    time_to_full_now=time_to_full_seconds";
/// In millionths.
const MILLIONTHS: &str = "current_boot current_max current_now=current_ampere energy_empty \
    energy_empty_design energy_full energy_full_design energy_now=energy_watthour voltage_boot \
    voltage_max voltage_max_design voltage_min voltage_min_design voltage_now=voltage_volt \
    voltage_ocv charge_control_limit charge_control_limit_max charge_counter charge_empty \
    charge_empty_design charge_full charge_full_design charge_now=charge_ampere \
    charge_term_current constant_charge_current constant_charge_current_max \
    constant_charge_voltage constant_charge_voltage_max precharge_current input_current_limit \
    power_now=power_watt";
/// In tenths of a degree Celsius.
const TENTHS: &str = "temp=temp_celsius temp_alert_max=temp_alert_max_celsius \
    temp_alert_min=temp_alert_min_celsius temp_ambient=temp_ambient_celsius \
    temp_ambient_max=temp_ambient_max_celsius temp_ambient_min=temp_ambient_min_celsius \
    temp_max=temp_max_celsius temp_min=temp_min_celsius";
/// Labels of the info family, named as their files; those without text are left out.
const TEXTS: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];

pub struct PowerSupplyClass {
    class: PathBuf,
    ignored: Pattern,
}

impl PowerSupplyClass {
    pub fn new(roots: &Roots, ignored: &str) -> PowerSupplyClass {
        PowerSupplyClass {
            class: roots.sys.join("class/power_supply"),
            ignored: Pattern::new(ignored),
        }
    }
}

impl Collector for PowerSupplyClass {
    fn name(&self) -> &'static str {
        "powersupplyclass"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        for supply in names(&self.class, "")? {
            if self.ignored.matches(&supply) {
                continue;
            }
            let directory = self.class.join(&supply);
            for (files, divisor) in [(PLAIN, 1.0), (MILLIONTHS, 1e6), (TENTHS, 10.0)] {
                for entry in files.split_ascii_whitespace() {
                    let (file, name) = entry.split_once('=').unwrap_or((entry, entry));
                    if let Some(value) = number(&directory.join(file)) {
                        let help =
                            format!("{name} value of /sys/class/power_supply/<power_supply>.");
                        page.family(&format!("node_power_supply_{name}"), Kind::Gauge, &help)
                            .sample(&[("power_supply", &supply)], value / divisor);
                    }
                }
            }
            let texts = TEXTS.map(|file| attribute(&directory.join(file)).unwrap_or_default());
            let texts = TEXTS.into_iter().zip(texts.iter().map(String::as_str));
            let mut labels: Vec<(&str, &str)> = texts.collect();
            labels.push(("power_supply", &supply));
            labels.retain(|(_, text)| !text.is_empty());
            labels.sort_unstable();
            page.family(
                "node_power_supply_info",
                Kind::Gauge,
                "info of /sys/class/power_supply/<power_supply>.",
            )
            .sample(&labels, 1u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::PowerSupplyClass;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn values_are_shown_in_base_units_and_texts_as_labels() {
        let (_dir, roots) = host(&[
            ("sys/class/power_supply/AC/online", "1\n"),
            ("sys/class/power_supply/AC/type", "Mains\n"),
            ("sys/class/power_supply/BAT0/voltage_now", "11660000\n"),
            ("sys/class/power_supply/BAT0/temp", "-35\n"),
            ("sys/class/power_supply/BAT0/cycle_count", "7\n"),
            ("sys/class/power_supply/BAT0/power_now", "soon\n"),
            ("sys/class/power_supply/BAT1/cycle_count", "8\n"),
        ]);
        let pages = collect(&mut PowerSupplyClass::new(&roots, "^BAT1$"));
        let battery = [("power_supply", "BAT0")];
        expect(&pages, "node_power_supply_voltage_volt", &battery, 11.66);
        expect(&pages, "node_power_supply_temp_celsius", &battery, -3.5);
        expect(&pages, "node_power_supply_cyclecount", &battery, 7.0);
        let mains = [("power_supply", "AC")];
        expect(&pages, "node_power_supply_online", &mains, 1.0);
        let mains = [mains[0], ("type", "Mains")];
        expect(&pages, "node_power_supply_info", &mains, 1.0);
        assert_eq!(pages["node_power_supply_info"].series.len(), 2);
        assert_eq!(pages["node_power_supply_cyclecount"].series.len(), 1);
        assert!(!pages.contains_key("node_power_supply_power_watt"));
    }
}
