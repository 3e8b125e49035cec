//! The families, under cAdvisor's names, types and help texts.
//!
//! One row per container; labels are `id`, `image`, `name` and those of the
//! family. What cAdvisor prints beside them, and why it is not here, stands in
//! docs/container-metrics.md.

use super::stats::{Cpu, Disk, Interface, Memory, Stats, Usage};
use crate::metrics::exposition::{Kind, Page, Value};
use std::time::{SystemTime, UNIX_EPOCH};

/// One container of one page.
#[derive(Debug)]
pub struct Row {
    /// `id`, `image`, `name`, and container labels where they are asked for.
    pub labels: Vec<(String, String)>,
    pub stats: Stats,
    pub last_seen: SystemTime,
    pub started_at: Option<SystemTime>,
    pub oom_events: u64,
    pub restarts: u64,
    /// False: it ended; of it only the OOM kills are printed.
    pub runs: bool,
}

/// Adds every family that some container has.
pub fn write(page: &mut Page, rows: &[Row]) {
    let mut writer = Writer { page, rows };
    writer.life();
    writer.cpu();
    writer.memory();
    writer.disks();
    writer.network();
}

/// Takes a family's own labels and a value.
type Emit<'a> = &'a mut dyn FnMut(&[(&str, &str)], Value);

struct Writer<'a> {
    page: &'a mut Page,
    rows: &'a [Row],
}

impl Writer<'_> {
    fn each(&mut self, name: &str, kind: Kind, help: &str, values: impl Fn(&Row, Emit<'_>)) {
        let mut family = self.page.family(name, kind, help);
        for row in self.rows {
            values(row, &mut |own, value| {
                let of_row = row.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                let mut labels: Vec<(&str, &str)> = of_row.chain(own.iter().copied()).collect();
                labels.sort_unstable();
                family.sample(&labels, value);
            });
        }
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Fn(&Row) -> Option<Value>) {
        self.each(name, kind, help, |row, emit| {
            if let Some(value) = value(row) {
                emit(&[], value);
            }
        });
    }

    fn life(&mut self) {
        self.one(
            "container_last_seen",
            Kind::Gauge,
            "Last time a container was seen by the exporter",
            |row| row.runs.then(|| seconds(row.last_seen)),
        );
        self.one(
            "container_start_time_seconds",
            Kind::Gauge,
            "Start time of the container since unix epoch in seconds.",
            |row| row.started_at.map(seconds),
        );
        self.one(
            "container_oom_events_total",
            Kind::Counter,
            "Count of out of memory events observed for the container",
            |row| Some(row.oom_events.into()),
        );
        self.one(
            "container_restarts_total",
            Kind::Counter,
            "Restarts of the container by Docker's restart policy and by the agent.",
            |row| row.runs.then(|| row.restarts.into()),
        );
    }

    fn cpu(&mut self) {
        let cpu = |value: fn(&Cpu) -> Option<Value>| {
            move |row: &Row| row.stats.cpu.as_ref().and_then(value)
        };
        self.each(
            "container_cpu_usage_seconds_total",
            Kind::Counter,
            "Cumulative cpu time consumed in seconds.",
            |row, emit| match row.stats.cpu.as_ref().map(|cpu| &cpu.usage) {
                Some(Usage::Total(total)) => emit(&[("cpu", "total")], (*total).into()),
                Some(Usage::PerCpu(cpus)) => {
                    // CPUs that never ran it are left out, as cAdvisor does.
                    let used = cpus.iter().enumerate().filter(|(_, used)| **used > 0.0);
                    for (number, seconds) in used {
                        emit(&[("cpu", &format!("cpu{number:02}"))], (*seconds).into());
                    }
                }
                None => {}
            },
        );
        self.one(
            "container_cpu_user_seconds_total",
            Kind::Counter,
            "Cumulative user cpu time consumed in seconds.",
            cpu(|cpu| cpu.user.map(Value::from)),
        );
        self.one(
            "container_cpu_system_seconds_total",
            Kind::Counter,
            "Cumulative system cpu time consumed in seconds.",
            cpu(|cpu| cpu.system.map(Value::from)),
        );
        // As cAdvisor, only where there is a quota.
        self.one(
            "container_cpu_cfs_periods_total",
            Kind::Counter,
            "Number of elapsed enforcement period intervals.",
            cpu(|cpu| cpu.quota.and(cpu.throttling).map(|t| t.periods.into())),
        );
        self.one(
            "container_cpu_cfs_throttled_periods_total",
            Kind::Counter,
            "Number of throttled period intervals.",
            cpu(|cpu| {
                cpu.quota
                    .and(cpu.throttling)
                    .map(|t| t.throttled_periods.into())
            }),
        );
        self.one(
            "container_cpu_cfs_throttled_seconds_total",
            Kind::Counter,
            "Total time duration the container has been throttled.",
            cpu(|cpu| cpu.quota.and(cpu.throttling).map(|t| t.seconds.into())),
        );
        self.one(
            "container_spec_cpu_period",
            Kind::Gauge,
            "CPU period of the container.",
            cpu(|cpu| cpu.period.map(Value::from)),
        );
        self.one(
            "container_spec_cpu_quota",
            Kind::Gauge,
            "CPU quota of the container.",
            cpu(|cpu| cpu.quota.map(Value::from)),
        );
        self.one(
            "container_spec_cpu_shares",
            Kind::Gauge,
            "CPU share of the container.",
            cpu(|cpu| cpu.shares.map(Value::from)),
        );
    }

    fn memory(&mut self) {
        type Column = (&'static str, Kind, &'static str, fn(&Memory) -> Option<u64>);
        let columns: [Column; 11] = [
            (
                "container_memory_cache",
                Kind::Gauge,
                "Number of bytes of page cache memory.",
                |memory| Some(memory.cache),
            ),
            (
                "container_memory_rss",
                Kind::Gauge,
                "Size of RSS in bytes.",
                |memory| Some(memory.rss),
            ),
            (
                "container_memory_mapped_file",
                Kind::Gauge,
                "Size of memory mapped files in bytes.",
                |memory| Some(memory.mapped_file),
            ),
            (
                "container_memory_swap",
                Kind::Gauge,
                "Container swap usage in bytes.",
                |memory| Some(memory.swap),
            ),
            (
                "container_memory_failcnt",
                Kind::Counter,
                "Number of memory usage hits limits",
                |memory| memory.fail_count,
            ),
            (
                "container_memory_usage_bytes",
                Kind::Gauge,
                "Current memory usage in bytes, including all memory regardless of when it was accessed",
                |memory| Some(memory.usage),
            ),
            (
                "container_memory_max_usage_bytes",
                Kind::Gauge,
                "Maximum memory usage recorded in bytes",
                |memory| memory.max_usage,
            ),
            (
                "container_memory_working_set_bytes",
                Kind::Gauge,
                "Current working set in bytes.",
                |memory| Some(memory.working_set()),
            ),
            (
                "container_spec_memory_limit_bytes",
                Kind::Gauge,
                "Memory limit for the container.",
                |memory| memory.limit,
            ),
            (
                "container_spec_memory_swap_limit_bytes",
                Kind::Gauge,
                "Memory swap limit for the container.",
                |memory| memory.swap_limit,
            ),
            (
                "container_spec_memory_reservation_limit_bytes",
                Kind::Gauge,
                "Memory reservation limit for the container.",
                |memory| memory.reservation,
            ),
        ];
        for (name, kind, help, column) in columns {
            self.one(name, kind, help, |row| {
                row.stats.memory.as_ref().and_then(column).map(Value::from)
            });
        }
        self.each(
            "container_memory_failures_total",
            Kind::Counter,
            "Cumulative count of memory allocation failures.",
            |row, emit| {
                let Some(memory) = &row.stats.memory else {
                    return;
                };
                for (kind, [own, all]) in [
                    ("pgfault", memory.page_faults),
                    ("pgmajfault", memory.major_page_faults),
                ] {
                    emit(
                        &[("failure_type", kind), ("scope", "container")],
                        own.into(),
                    );
                    emit(
                        &[("failure_type", kind), ("scope", "hierarchy")],
                        all.into(),
                    );
                }
            },
        );
    }

    fn disks(&mut self) {
        type Column = (&'static str, &'static str, fn(&Disk) -> u64);
        let columns: [Column; 4] = [
            (
                "container_fs_reads_bytes_total",
                "Cumulative count of bytes read",
                |disk| disk.read_bytes,
            ),
            (
                "container_fs_writes_bytes_total",
                "Cumulative count of bytes written",
                |disk| disk.written_bytes,
            ),
            (
                "container_fs_reads_total",
                "Cumulative count of reads completed",
                |disk| disk.reads,
            ),
            (
                "container_fs_writes_total",
                "Cumulative count of writes completed",
                |disk| disk.writes,
            ),
        ];
        for (name, help, column) in columns {
            self.each(name, Kind::Counter, help, |row, emit| {
                for disk in &row.stats.disks {
                    emit(&[("device", &disk.device)], column(disk).into());
                }
            });
        }
    }

    fn network(&mut self) {
        type Column = (&'static str, &'static str, fn(&Interface) -> u64);
        let columns: [Column; 8] = [
            (
                "container_network_receive_bytes_total",
                "Cumulative count of bytes received",
                |each| each.received.bytes,
            ),
            (
                "container_network_receive_packets_total",
                "Cumulative count of packets received",
                |each| each.received.packets,
            ),
            (
                "container_network_receive_packets_dropped_total",
                "Cumulative count of packets dropped while receiving",
                |each| each.received.dropped,
            ),
            (
                "container_network_receive_errors_total",
                "Cumulative count of errors encountered while receiving",
                |each| each.received.errors,
            ),
            (
                "container_network_transmit_bytes_total",
                "Cumulative count of bytes transmitted",
                |each| each.sent.bytes,
            ),
            (
                "container_network_transmit_packets_total",
                "Cumulative count of packets transmitted",
                |each| each.sent.packets,
            ),
            (
                "container_network_transmit_packets_dropped_total",
                "Cumulative count of packets dropped while transmitting",
                |each| each.sent.dropped,
            ),
            (
                "container_network_transmit_errors_total",
                "Cumulative count of errors encountered while transmitting",
                |each| each.sent.errors,
            ),
        ];
        for (name, help, column) in columns {
            self.each(name, Kind::Counter, help, |row, emit| {
                for interface in &row.stats.interfaces {
                    emit(&[("interface", &interface.name)], column(interface).into());
                }
            });
        }
    }
}

/// Whole seconds, as cAdvisor.
fn seconds(time: SystemTime) -> Value {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().into()
}
