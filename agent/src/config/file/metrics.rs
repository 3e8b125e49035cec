//! `[metrics]` beyond collectors and paths: what node_exporter has flags for.

use crate::config::fault::quoted;
use crate::config::read::{Item, Table, Wrong};
use crate::metrics::{Filter, Options, check_pattern};

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
    let netstat = table
        .take("netstat")
        .table(|table| expression(&table.take("fields")));
    let vmstat = table
        .take("vmstat")
        .table(|table| expression(&table.take("fields")));
    let (cpu_guest, cpu_info) = table
        .take("cpu")
        .table(|table| (table.take("guest").bool(), table.take("info").bool()));
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
        netstat_fields: netstat.unwrap_or(default.netstat_fields),
        vmstat_fields: vmstat.unwrap_or(default.vmstat_fields),
        cpu_guest: cpu_guest.unwrap_or(default.cpu_guest),
        cpu_info: cpu_info.unwrap_or(default.cpu_info),
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
    item.parse("a regular expression", |text| match check_pattern(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(what) => {
            let wrong = Wrong::new(format!("{} is no regular expression: {what}", quoted(text)));
            Err(wrong.help("the syntax is RE2's, without Unicode classes such as \\pL"))
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
