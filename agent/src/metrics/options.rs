//! What an operator may choose, beyond which collectors are on. Each field
//! stands for a flag of node_exporter; docs/metrics.md has the table.

use crate::metrics::pattern::{
    DISKS, FILESYSTEM_TYPES, MOUNT_POINTS, NETSTAT_FIELDS, VMSTAT_FIELDS,
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
    /// Expressions: which statistics are shown.
    pub netstat_fields: String,
    pub vmstat_fields: String,
    /// `node_cpu_guest_seconds_total`
    pub cpu_guest: bool,
    /// `node_cpu_info`
    pub cpu_info: bool,
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
            netstat_fields: NETSTAT_FIELDS.into(),
            vmstat_fields: VMSTAT_FIELDS.into(),
            cpu_guest: true,
            cpu_info: false,
        }
    }
}
