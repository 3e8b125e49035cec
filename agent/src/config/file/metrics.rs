//! `[metrics]` beyond collectors and paths: what node_exporter has flags for.

use crate::config::fault::quoted;
use crate::config::read::{Item, Table, Wrong};
use crate::metrics::{Filter, Options, Units, check_pattern, whole};

/// More at once than any host is scraped by; each takes memory for a page.
const MOST_REQUESTS: i64 = 1000;

pub fn options(table: &mut Table<'_>) -> Options {
    let default = Options::default();
    let path = table.take("telemetry_path");
    let telemetry_path = path
        .parse("a path such as \"/metrics\"", telemetry_path)
        .unwrap_or(default.telemetry_path);
    let max_requests = table.take("max_requests").integer(0, MOST_REQUESTS);
    let disable_exporter_metrics = table.take("disable_exporter_metrics").bool();
    let web_config = table.take("web_config").path_buf();
    let (textfiles, textfile_max_age) = table.take("textfile").table(|table| {
        let directories = table.take("directories").list().unwrap_or_default();
        let directories = directories.iter().filter_map(|item| item.path_buf());
        (directories.collect(), table.take("max_age").duration())
    });
    let (mount_points, fs_types) = table.take("filesystem").table(|table| {
        let points = ("mount_points_include", "mount_points_exclude");
        let types = ("fs_types_include", "fs_types_exclude");
        (
            filter(table, points, default.mount_points),
            filter(table, types, default.fs_types),
        )
    });
    let devices = |table: &mut Table<'_>, default| {
        filter(table, ("device_include", "device_exclude"), default)
    };
    let diskstats = table
        .take("diskstats")
        .table(|table| devices(table, default.diskstats));
    let netdev = table
        .take("netdev")
        .table(|table| devices(table, default.netdev));
    let (arp, arp_netlink) = table.take("arp").table(|table| {
        let netlink = table.take("netlink").bool();
        (devices(table, default.arp), netlink)
    });
    let infiniband = table
        .take("infiniband")
        .table(|table| devices(table, default.infiniband));
    let (ethtool, ethtool_metrics) = table.take("ethtool").table(|table| {
        let metrics = expression(&table.take("metrics_include"));
        (devices(table, default.ethtool), metrics)
    });
    let (netclass_ignored, ignores_invalid_speed) = table.take("netclass").table(|table| {
        let ignored = expression(&table.take("ignored_devices"));
        (ignored, table.take("ignore_invalid_speed").bool())
    });
    let (hwmon_chips, hwmon_sensors) = table.take("hwmon").table(|table| {
        let chips = ("chip_include", "chip_exclude");
        let sensors = ("sensor_include", "sensor_exclude");
        (
            filter(table, chips, default.hwmon_chips),
            filter(table, sensors, default.hwmon_sensors),
        )
    });
    let (interrupts, interrupts_zeros) = table.take("interrupts").table(|table| {
        let zeros = table.take("include_zeros").bool();
        let names = ("name_include", "name_exclude");
        (filter(table, names, default.interrupts), zeros)
    });
    let powersupply_ignored = table
        .take("powersupply")
        .table(|table| expression(&table.take("ignored_supplies")));
    let rapl_zone_label = table
        .take("rapl")
        .table(|table| table.take("enable_zone_label").bool());
    let stat_softirq = table
        .take("stat")
        .table(|table| table.take("softirq").bool());
    let netstat = table
        .take("netstat")
        .table(|table| expression(&table.take("fields")));
    let vmstat = table
        .take("vmstat")
        .table(|table| expression(&table.take("fields")));
    let (cpu_guest, cpu_info, [cpu_flags, cpu_bugs]) = table.take("cpu").table(|table| {
        let words = ["info_flags_include", "info_bugs_include"];
        let words = words.map(|key| expression(&table.take(key)).filter(|text| !text.is_empty()));
        (table.take("guest").bool(), table.take("info").bool(), words)
    });
    let systemd = table
        .take("systemd")
        .table(|table| units(table, default.systemd));
    Options {
        telemetry_path,
        max_requests: max_requests
            .and_then(|number| usize::try_from(number).ok())
            .unwrap_or(default.max_requests),
        disable_exporter_metrics: disable_exporter_metrics
            .unwrap_or(default.disable_exporter_metrics),
        web_config,
        textfiles,
        textfile_max_age,
        mount_points,
        fs_types,
        diskstats,
        netdev,
        arp,
        arp_netlink: arp_netlink.unwrap_or(default.arp_netlink),
        netclass_ignored: netclass_ignored.unwrap_or(default.netclass_ignored),
        netclass_ignores_invalid_speed: ignores_invalid_speed
            .unwrap_or(default.netclass_ignores_invalid_speed),
        hwmon_chips,
        hwmon_sensors,
        infiniband,
        powersupply_ignored: powersupply_ignored.unwrap_or(default.powersupply_ignored),
        ethtool,
        ethtool_metrics: ethtool_metrics.unwrap_or(default.ethtool_metrics),
        interrupts,
        interrupts_zeros: interrupts_zeros.unwrap_or(default.interrupts_zeros),
        stat_softirq: stat_softirq.unwrap_or(default.stat_softirq),
        rapl_zone_label: rapl_zone_label.unwrap_or(default.rapl_zone_label),
        netstat_fields: netstat.unwrap_or(default.netstat_fields),
        vmstat_fields: vmstat.unwrap_or(default.vmstat_fields),
        cpu_guest: cpu_guest.unwrap_or(default.cpu_guest),
        // As there: who asks for its flags asks for it.
        cpu_info: cpu_info.unwrap_or(default.cpu_info) || cpu_flags.is_some() || cpu_bugs.is_some(),
        cpu_flags,
        cpu_bugs,
        systemd,
    }
}

/// Unlike elsewhere both expressions hold, and each is of whole names.
fn units(table: &mut Table<'_>, default: Units) -> Units {
    let mut names = |key| checked(&table.take(key), whole);
    let (include, exclude) = (names("unit_include"), names("unit_exclude"));
    let mut flag = |key| table.take(key).bool();
    Units {
        include: include.unwrap_or(default.include),
        exclude: exclude.unwrap_or(default.exclude),
        tasks: flag("enable_task_metrics").unwrap_or(default.tasks),
        restarts: flag("enable_restarts_metrics").unwrap_or(default.restarts),
        start_times: flag("enable_start_time_metrics").unwrap_or(default.start_times),
    }
}

fn telemetry_path(text: &str) -> Result<String, Wrong> {
    let fits = |c: char| c.is_ascii_graphic() && !"?#%\"<>".contains(c);
    match text.starts_with('/') && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => {
            let wrong = Wrong::new(format!("{} is no path of a URL", quoted(text)));
            Err(wrong.help("such as \"/metrics\""))
        }
    }
}

/// Names to show, or names to leave out: both together would leave open which
/// wins. The empty expression is none. Who includes has no default exclusion.
fn filter(table: &mut Table<'_>, keys: (&'static str, &'static str), default: Filter) -> Filter {
    let (include_item, exclude_item) = (table.take(keys.0), table.take(keys.1));
    let include = expression(&include_item).filter(|text| !text.is_empty());
    let exclude = expression(&exclude_item).filter(|text| !text.is_empty());
    if include.is_some() && exclude.is_some() {
        let text = format!("cannot be together with {}", keys.1);
        let help = "keep one of the two";
        table.fault_at(include_item.place(), keys.0, &text, help);
    }
    match (include, exclude_item.is_there()) {
        (None, false) => default,
        (Some(include), _) => Filter {
            include: Some(include),
            exclude: None,
        },
        (None, true) => Filter {
            include: None,
            exclude,
        },
    }
}

fn expression(item: &Item<'_>) -> Option<String> {
    checked(item, str::to_owned)
}

/// An expression that is one also as it is used.
fn checked(item: &Item<'_>, used: impl Fn(&str) -> String) -> Option<String> {
    item.parse("a regular expression", |text| {
        match check_pattern(&used(text)) {
            Ok(()) => Ok(text.to_owned()),
            Err(what) => {
                let wrong =
                    Wrong::new(format!("{} is no regular expression: {what}", quoted(text)));
                Err(wrong.help("the syntax is RE2's, without Unicode classes such as \\pL"))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::options;
    use crate::config::document;
    use crate::config::read::{self, Report};
    use crate::metrics::Options;

    fn chosen(text: &str) -> (Options, Vec<String>) {
        let (entries, faults) = document::parse(0, text);
        assert_eq!(faults, []);
        let report = Report::default();
        let options = read::root(&entries, &report, options);
        let faults = report.faults().into_iter();
        let faults = faults.map(|f| f.text + " / " + &f.help.unwrap_or_default());
        (options, faults.collect())
    }

    #[test]
    fn who_includes_has_no_default_exclusion_and_empty_is_none() {
        let default = Options::default();
        assert_eq!(chosen("").0, default);
        let disks = chosen("diskstats = { device_include = '^sda$' }")
            .0
            .diskstats;
        assert_eq!(
            (disks.include.as_deref(), disks.exclude),
            (Some("^sda$"), None)
        );
        let disks = chosen("diskstats = { device_exclude = '' }").0.diskstats;
        assert_eq!((disks.include, disks.exclude), (None, None));
        let both = "diskstats = { device_include = 'a', device_exclude = '' }";
        assert_eq!(chosen(both).1, [""; 0]);
    }

    #[test]
    fn who_asks_for_flags_or_bugs_of_the_cpu_asks_for_its_info() {
        let (options, faults) = chosen("cpu = { info_flags_include = '^avx', info = false }");
        assert!(options.cpu_info && faults.is_empty());
        assert_eq!(options.cpu_flags.as_deref(), Some("^avx"));
        assert!(!chosen("cpu = { info_bugs_include = '' }").0.cpu_info);
    }

    #[test]
    fn faults_name_the_key() {
        for (text, fault) in [
            (
                "netdev = { device_include = 'a', device_exclude = 'b' }",
                "netdev.device_include: cannot be together with device_exclude / keep one of the two",
            ),
            (
                "telemetry_path = 'metrics'",
                "telemetry_path: \"metrics\" is no path of a URL / such as \"/metrics\"",
            ),
            (
                "max_requests = -1",
                "max_requests: -1 is not within 0 to 1000 / ",
            ),
        ] {
            assert_eq!(chosen(text).1, [fault], "{text}");
        }
        let unclosed = chosen("vmstat = { fields = '(' }").1;
        assert!(unclosed[0].starts_with("vmstat.fields: \"(\" is no regular expression: "));
    }
}
