//! `hwmon`: sensors of the hardware. Source: /sys/class/hwmon/hwmonN and its
//! `device`, the kernel's hwmon/sysfs-interface: files `TYPE NUMBER _ PROPERTY`
//! in thousandths or millionths, shown in base units. Most guests have none.

use crate::host::roots::Roots;
use crate::metrics::attributes::names;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::options::Options;
use crate::metrics::pattern::Sieve;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Sensor types that are shown.
const TYPES: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];
/// A value is looked at no further than this, as there.
const MAX_VALUE: usize = 128;

pub struct Hwmon {
    class: PathBuf,
    chips: Sieve,
    /// Of `CHIP;SENSOR`.
    sensors: Sieve,
}

/// One directory and what its chip is called.
struct Chip {
    directory: PathBuf,
    name: String,
    /// The text of its file `name`, empty without one.
    own_name: String,
}

/// Values by property; the one without a property is under "".
type Sensor = BTreeMap<String, String>;
/// With type and sensors by name: `temp` and `temp1`.
type Sensors = BTreeMap<String, (&'static str, Sensor)>;

impl Hwmon {
    pub fn new(roots: &Roots, options: &Options) -> Hwmon {
        Hwmon {
            class: roots.sys.join("class/hwmon"),
            chips: Sieve::new(&options.hwmon_chips),
            sensors: Sieve::new(&options.hwmon_sensors),
        }
    }

    fn write(&mut self, page: &mut Page, chip: &Chip) -> Result<(), CollectError> {
        let mut sensors = Sensors::new();
        add_sensors(&chip.directory, &mut sensors)?;
        let device = chip.directory.join("device");
        if device.exists() {
            add_sensors(&device, &mut sensors)?;
        }
        let own_name = clean(&chip.own_name);
        if !own_name.is_empty() {
            page.family(
                "node_hwmon_chip_names",
                Kind::Gauge,
                "Annotation metric for human-readable chip names",
            )
            .sample(&[("chip", &chip.name), ("chip_name", &own_name)], 1u64);
        }
        for (name, (kind, values)) in &sensors {
            if self.sensors.takes(&format!("{};{name}", chip.name)) {
                write_sensor(page, [("chip", &chip.name), ("sensor", name)], kind, values);
            }
        }
        Ok(())
    }
}

impl Collector for Hwmon {
    fn name(&self) -> &'static str {
        "hwmon"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let mut chips = Vec::new();
        for name in names(&self.class, "")? {
            let directory = self.class.join(name);
            if directory.is_dir()
                && let Some(name) = chip_name(&directory)
            {
                let own_name = fs::read(directory.join("name")).unwrap_or_default();
                chips.push(Chip {
                    own_name: String::from_utf8_lossy(&own_name).trim().to_owned(),
                    directory,
                    name,
                });
            }
        }
        tell_apart(&mut chips);
        let mut result = Ok(());
        for chip in &chips {
            if self.chips.takes(&chip.name)
                && let Err(error) = self.write(page, chip)
            {
                result = Err(error);
            }
        }
        result
    }
}

/// A name that stays while the numbers of hwmonN change with the order in which modules load:
/// the device's, else the chip's own, else the directory's.
fn chip_name(directory: &Path) -> Option<String> {
    let last = |path: &Path| clean(&path.file_name().unwrap_or_default().to_string_lossy());
    if let Ok(device) = fs::canonicalize(directory.join("device")) {
        let bus = device.parent().map(last).unwrap_or_default();
        let device = last(&device);
        match (bus.is_empty(), device.is_empty()) {
            (false, false) => return Some(format!("{bus}_{device}")),
            (true, false) => return Some(device),
            _ => {}
        }
    }
    let own = fs::read(directory.join("name")).unwrap_or_default();
    let own = clean(&String::from_utf8_lossy(&own));
    let name = match own.is_empty() {
        false => own,
        true => last(&fs::canonicalize(directory).ok()?),
    };
    (!name.is_empty()).then_some(name)
}

/// Several chips of one device share its name: then their own name is added, or the
/// directory's where that does not tell them apart either.
fn tell_apart(chips: &mut [Chip]) {
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let mut by_both: HashMap<(String, String), usize> = HashMap::new();
    for chip in &*chips {
        *by_name.entry(chip.name.clone()).or_default() += 1;
        let both = (chip.name.clone(), chip.own_name.clone());
        *by_both.entry(both).or_default() += 1;
    }
    for chip in chips {
        if by_name[&chip.name] < 2 {
            continue;
        }
        let mut suffix = clean(&chip.own_name);
        if suffix.is_empty() || by_both[&(chip.name.clone(), chip.own_name.clone())] > 1 {
            let directory = chip.directory.file_name().unwrap_or_default();
            suffix = clean(&directory.to_string_lossy());
        }
        chip.name = format!("{}_{suffix}", chip.name);
    }
}

fn add_sensors(directory: &Path, sensors: &mut Sensors) -> Result<(), CollectError> {
    for file in names(directory, "")? {
        let Some((kind, number, property)) = parts(&file) else {
            continue;
        };
        let Some(kind) = TYPES.into_iter().find(|known| *known == kind) else {
            continue;
        };
        // A driver that is broken or asleep refuses: that costs this value.
        if let Ok(value) = read_once(&directory.join(&file)) {
            let sensor = sensors
                .entry(format!("{kind}{number}"))
                .or_insert_with(|| (kind, Sensor::new()));
            sensor.1.insert(property.to_owned(), value);
        }
    }
    Ok(())
}

/// Type, number (0 without one), property ("" without one) of a file name.
fn parts(file: &str) -> Option<(&str, u32, &str)> {
    let digits = file.find(|c: char| c.is_ascii_digit());
    let Some(digits) = digits else {
        return (!file.is_empty()).then_some((file, 0, ""));
    };
    let (kind, rest) = file.split_at(digits);
    let end = rest.find(|c: char| !c.is_ascii_digit());
    let (number, rest) = rest.split_at(end.unwrap_or(rest.len()));
    let property = match rest {
        "" => "",
        rest => rest.strip_prefix('_').filter(|rest| !rest.is_empty())?,
    };
    (!kind.is_empty()).then_some((kind, number.parse().ok()?, property))
}

/// One read(2) and no second: some drivers answer EAGAIN for ever.
fn read_once(path: &Path) -> io::Result<String> {
    let mut buffer = [0; MAX_VALUE];
    let length = File::open(path)?.read(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    Ok(text.trim_matches('\n').to_owned())
}

/// In small letters, with `_` for what a family name may not hold, none of them at the ends.
fn clean(name: &str) -> String {
    let clean: String = name
        .to_lowercase()
        .chars()
        .map(|c| match c {
            'a'..='z' | '0'..='9' | ':' | '_' => c,
            _ => '_',
        })
        .collect();
    clean.trim_matches('_').to_owned()
}

fn write_sensor(page: &mut Page, labels: [(&str, &str); 2], kind: &str, values: &Sensor) {
    if let Some(label) = values.get("label") {
        let labels = [labels[0], ("label", label), labels[1]];
        page.family(
            "node_hwmon_sensor_label",
            Kind::Gauge,
            "Label for given chip and sensor",
        )
        .sample(&labels, 1u64);
    }
    let whole = values.get("").map_or("", String::as_str);
    let single = match kind {
        "beep_enable" => Some(("beep_enabled", "Hardware beep enabled", 1.0)),
        "vrm" => Some((
            "voltage_regulator_version",
            "Hardware voltage regulator",
            1.0,
        )),
        "update_interval" => Some((
            "update_interval_seconds",
            "Hardware monitor update interval",
            0.001,
        )),
        _ => None,
    };
    if let Some((name, help, unit)) = single {
        let value = match kind {
            "beep_enable" => Some(f64::from(u8::from(whole == "1"))),
            _ => whole.parse().ok(),
        };
        if let Some(value) = value {
            let name = format!("node_hwmon_{name}");
            page.family(&name, Kind::Gauge, help)
                .sample(&labels, value * unit);
        }
        return;
    }
    for (element, value) in values.iter().filter(|(element, _)| *element != "label") {
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        if kind == "freq" && element == "input" {
            // Only where the driver says whose frequency it is, under that name.
            if let Some(label) = values.get("label") {
                let labels = [labels[0], ("sensor", &*clean(label))];
                page.family(
                    "node_hwmon_freq_freq_mhz",
                    Kind::Gauge,
                    "Hardware monitor for GPU frequency in MHz",
                )
                .sample(&labels, value / 1e6);
            }
            continue;
        }
        let mut name = format!("node_hwmon_{kind}");
        if element == "input" {
            // The value itself.
            if values.contains_key("") {
                name.push_str("_input");
            }
        } else if !element.is_empty() {
            name.push('_');
            name.push_str(&clean(element));
        }
        let shown = show(kind, element, value);
        name.push_str(shown.suffix);
        page.family(&name, shown.kind, &shown.help)
            .sample(&labels, shown.value);
    }
}

/// How one value is shown.
struct Shown {
    /// The unit, of the family's name.
    suffix: &'static str,
    kind: Kind,
    help: String,
    value: f64,
}

fn show(kind: &str, element: &str, value: f64) -> Shown {
    let gauge = |suffix, help: String, value| Shown {
        suffix,
        kind: Kind::Gauge,
        help,
        value,
    };
    let of = |what: &str| format!("Hardware monitor {what} ({element})");
    let milli = value * 0.001;
    let micro = value / 1_000_000.0;
    match (kind, element) {
        (_, "fault" | "alarm") => gauge(
            "",
            format!("Hardware sensor {element} status ({kind})"),
            value,
        ),
        (_, "beep") => {
            let help = "Hardware monitor sensor has beeping enabled";
            gauge("_enabled", help.to_owned(), value)
        }
        ("in" | "cpu", _) => gauge("_volts", of("for voltage"), milli),
        ("temp", "") => {
            let help = "Hardware monitor for temperature (input)";
            gauge("_celsius", help.to_owned(), milli)
        }
        ("temp", element) if element != "type" => gauge("_celsius", of("for temperature"), milli),
        ("curr", _) => gauge("_amps", of("for current"), milli),
        ("energy", _) => Shown {
            kind: Kind::Counter,
            ..gauge("_joule_total", of("for joules used so far"), micro)
        },
        ("power", "accuracy") => {
            let help = "Hardware monitor power meter accuracy, as a ratio";
            gauge("", help.to_owned(), micro)
        }
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            gauge("_seconds", of("power usage update interval"), milli)
        }
        ("power", _) => gauge("_watt", of("for power usage in watts"), micro),
        ("humidity", _) => {
            let what = "for humidity, as a ratio (multiply with 100.0 to get the humidity \
                        as a percentage)";
            gauge("", of(what), micro)
        }
        ("fan", "input" | "min" | "max" | "target") => {
            gauge("_rpm", of("for fan revolutions per minute"), value)
        }
        _ => {
            let help = format!("Hardware monitor {kind} element {element}");
            gauge("", help, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Hwmon, clean, parts};
    use crate::metrics::options::{Filter, Options};
    use crate::metrics::tests::{collect, expect, host};
    use std::os::unix::fs::symlink;

    #[test]
    fn file_names_come_apart() {
        for (file, expected) in [
            ("temp1_input", Some(("temp", 1, "input"))),
            ("pwm12", Some(("pwm", 12, ""))),
            (
                "power1_average_interval",
                Some(("power", 1, "average_interval")),
            ),
            ("update_interval", Some(("update_interval", 0, ""))),
            ("temp1input", None),
            ("temp1_", None),
            ("1_input", None),
            ("temp99999999999_input", None),
        ] {
            assert_eq!(parts(file), expected, "{file}");
        }
        assert_eq!(clean("_Core 0.1\n"), "core_0_1");
    }

    #[test]
    fn sensors_are_shown_in_base_units_under_their_devices_name() {
        let (dir, roots) = host(&[
            ("sys/devices/platform/coretemp.0/uevent", ""),
            ("sys/class/hwmon/hwmon0/name", "coretemp\n"),
            ("sys/class/hwmon/hwmon0/temp1_input", "55000\n"),
            ("sys/class/hwmon/hwmon0/temp1_label", "Core 0\n"),
            ("sys/class/hwmon/hwmon0/temp1_crit_alarm", "0\n"),
            ("sys/class/hwmon/hwmon0/temp2_input", "no number\n"),
            ("sys/class/hwmon/hwmon0/fan1_input", "1200\n"),
            ("sys/class/hwmon/hwmon0/energy1_input", "2500000\n"),
            ("sys/class/hwmon/hwmon0/in0_alarm", "1\n"),
            ("sys/class/hwmon/hwmon0/subsystem9", "1\n"),
            ("sys/class/hwmon/hwmon1/fan1_input", "900\n"),
        ]);
        let device = dir.path().join("sys/class/hwmon/hwmon0/device");
        symlink("../../../devices/platform/coretemp.0", device).unwrap();
        let pages = collect(&mut Hwmon::new(&roots, &Options::default()));
        let chip = ("chip", "platform_coretemp_0");
        let sensor = |name| [chip, ("sensor", name)];
        let name = "node_hwmon_chip_names";
        expect(&pages, name, &[chip, ("chip_name", "coretemp")], 1.0);
        let label = [chip, ("label", "Core 0"), ("sensor", "temp1")];
        expect(&pages, "node_hwmon_sensor_label", &label, 1.0);
        for (family, of, value) in [
            ("node_hwmon_temp_celsius", "temp1", 55.0),
            ("node_hwmon_temp_crit_alarm_celsius", "temp1", 0.0),
            ("node_hwmon_fan_rpm", "fan1", 1200.0),
            ("node_hwmon_energy_joule_total", "energy1", 2.5),
            ("node_hwmon_in_alarm", "in0", 1.0),
        ] {
            expect(&pages, family, &sensor(of), value);
        }
        assert_eq!(pages["node_hwmon_energy_joule_total"].kind, "counter");
        let other = [("chip", "hwmon1"), ("sensor", "fan1")];
        expect(&pages, "node_hwmon_fan_rpm", &other, 900.0);
    }

    #[test]
    fn chips_of_one_device_are_told_apart_and_can_be_left_out() {
        let (dir, roots) = host(&[
            ("sys/devices/platform/wmi/uevent", ""),
            ("sys/class/hwmon/hwmon0/name", "asus\n"),
            ("sys/class/hwmon/hwmon0/pwm1", "1\n"),
            ("sys/class/hwmon/hwmon1/name", "fans\n"),
            ("sys/class/hwmon/hwmon1/pwm1", "2\n"),
            ("sys/class/hwmon/hwmon1/pwm2", "3\n"),
            ("sys/class/hwmon/hwmon2/name", "fans\n"),
            ("sys/class/hwmon/hwmon2/pwm1", "4\n"),
        ]);
        for number in 0..3 {
            let device = format!("sys/class/hwmon/hwmon{number}/device");
            symlink("../../../devices/platform/wmi", dir.path().join(device)).unwrap();
        }
        let options = Options {
            hwmon_chips: Filter::excluding("_hwmon2$"),
            hwmon_sensors: Filter::excluding("^platform_wmi_hwmon1;pwm2$"),
            ..Options::default()
        };
        let pages = collect(&mut Hwmon::new(&roots, &options));
        let chips: Vec<(&str, f64)> = pages["node_hwmon_pwm"]
            .series
            .iter()
            .map(|(labels, value)| (labels["chip"].as_str(), *value))
            .collect();
        let expected = [("platform_wmi_asus", 1.0), ("platform_wmi_hwmon1", 2.0)];
        assert_eq!(chips, expected);
    }
}
