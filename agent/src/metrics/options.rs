//! What an operator may choose, beyond which collectors are on. Each field
//! stands for a flag of node_exporter; docs/metrics.md has the table.

use crate::metrics::pattern::{
    DISKS, FILESYSTEM_TYPES, MOUNT_POINTS, NETSTAT_FIELDS, UNITS, VMSTAT_FIELDS,
};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Where the page is; begins with `/`.
    pub telemetry_path: String,
    /// Scrapes served or waiting at once; 0: as many as there are connections.
    pub max_requests: usize,
    /// No `process_*` and `promhttp_*`.
    pub disable_exporter_metrics: bool,
    /// TLS, logins and headers (`metrics::web`).
    pub web_config: Option<PathBuf>,
    /// Where other programs leave `*.prom` files; may be globs. Default: none.
    pub textfiles: Vec<PathBuf>,
    /// What older ones say is left out. Default: no age is too high.
    pub textfile_max_age: Option<Duration>,
    pub mount_points: Filter,
    pub fs_types: Filter,
    pub diskstats: Filter,
    pub netdev: Filter,
    pub arp: Filter,
    /// Ask the kernel; else read /proc/net/arp.
    pub arp_netlink: bool,
    /// Expression of the interfaces that `netclass` leaves out.
    pub netclass_ignored: String,
    pub netclass_ignores_invalid_speed: bool,
    pub hwmon_chips: Filter,
    /// Of `CHIP;SENSOR`.
    pub hwmon_sensors: Filter,
    pub infiniband: Filter,
    /// Expression of the power supplies that are left out.
    pub powersupply_ignored: String,
    pub ethtool: Filter,
    /// Expression: which of the drivers' statistics are shown.
    pub ethtool_metrics: String,
    /// Of `TYPE;INFO;DEVICES`.
    pub interrupts: Filter,
    pub interrupts_zeros: bool,
    /// `node_softirqs_total`
    pub stat_softirq: bool,
    /// `node_rapl_joules_total` with the zone as a label, instead of a family per zone.
    pub rapl_zone_label: bool,
    /// Expressions: which statistics are shown.
    pub netstat_fields: String,
    pub vmstat_fields: String,
    /// `node_cpu_guest_seconds_total`
    pub cpu_guest: bool,
    /// `node_cpu_info`
    pub cpu_info: bool,
    /// Expressions of what of the first CPU is shown; with `cpu_info` only.
    pub cpu_flags: Option<String>,
    pub cpu_bugs: Option<String>,
    pub systemd: Units,
}

/// Of which units the `systemd` collector tells, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// Expressions of whole names; a unit is shown that matches the first and not the second.
    pub include: String,
    pub exclude: String,
    /// `node_systemd_unit_tasks_*`
    pub tasks: bool,
    /// `node_systemd_service_restart_total`
    pub restarts: bool,
    /// `node_systemd_unit_start_time_seconds`
    pub start_times: bool,
}

impl Default for Units {
    fn default() -> Units {
        Units {
            include: ".+".into(),
            exclude: UNITS.into(),
            tasks: false,
            restarts: false,
            start_times: false,
        }
    }
}

/// Expressions of names to show or to leave out; at most one of them is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub include: Option<String>,
    pub exclude: Option<String>,
}

impl Filter {
    pub fn excluding(expression: &str) -> Filter {
        Filter {
            include: None,
            exclude: Some(expression.to_owned()),
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            telemetry_path: "/metrics".into(),
            max_requests: 40,
            disable_exporter_metrics: false,
            web_config: None,
            textfiles: Vec::new(),
            textfile_max_age: None,
            mount_points: Filter::excluding(MOUNT_POINTS),
            fs_types: Filter::excluding(FILESYSTEM_TYPES),
            diskstats: Filter::excluding(DISKS),
            netdev: Filter::default(),
            arp: Filter::default(),
            arp_netlink: true,
            netclass_ignored: "^$".into(),
            netclass_ignores_invalid_speed: false,
            hwmon_chips: Filter::default(),
            hwmon_sensors: Filter::default(),
            infiniband: Filter::default(),
            powersupply_ignored: "^$".into(),
            ethtool: Filter::default(),
            ethtool_metrics: ".*".into(),
            interrupts: Filter::default(),
            interrupts_zeros: true,
            stat_softirq: false,
            rapl_zone_label: false,
            netstat_fields: NETSTAT_FIELDS.into(),
            vmstat_fields: VMSTAT_FIELDS.into(),
            cpu_guest: true,
            cpu_info: false,
            systemd: Units::default(),
            cpu_flags: None,
            cpu_bugs: None,
        }
    }
}
