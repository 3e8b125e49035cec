//! `diskstats`: I/O of whole disks, and what udev knows of them. Sources:
//! /proc/diskstats (kernel's admin-guide/iostats), /run/udev/data,
//! /sys/block/X/queue/rotational.
//!
//! Sectors there are 512 bytes whatever the disk says, times are milliseconds.
//! A kernel that prints fewer columns gives fewer families.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page, Value};
use crate::metrics::options::Filter;
use crate::metrics::pattern::Sieve;
use crate::metrics::source::Source;
use crate::metrics::udev::Properties;
use std::collections::HashMap;
use std::path::PathBuf;

/// Columns behind major, minor and name.
const COLUMNS: usize = 17;
/// Lines of Linux 2.6's partitions are shorter and mean something else.
const MIN_COLUMNS: usize = 11;

/// What a column counts.
#[derive(Clone, Copy)]
enum Unit {
    One,
    /// 512 bytes, shown in bytes.
    Sectors,
    /// Milliseconds, shown in seconds.
    Millis,
}

const FAMILIES: [(&str, Kind, Unit, &str); COLUMNS] = [
    (
        "node_disk_reads_completed_total",
        Kind::Counter,
        Unit::One,
        "The total number of reads completed successfully.",
    ),
    (
        "node_disk_reads_merged_total",
        Kind::Counter,
        Unit::One,
        "The total number of reads merged.",
    ),
    (
        "node_disk_read_bytes_total",
        Kind::Counter,
        Unit::Sectors,
        "The total number of bytes read successfully.",
    ),
    (
        "node_disk_read_time_seconds_total",
        Kind::Counter,
        Unit::Millis,
        "The total number of seconds spent by all reads.",
    ),
    (
        "node_disk_writes_completed_total",
        Kind::Counter,
        Unit::One,
        "The total number of writes completed successfully.",
    ),
    (
        "node_disk_writes_merged_total",
        Kind::Counter,
        Unit::One,
        "The number of writes merged.",
    ),
    (
        "node_disk_written_bytes_total",
        Kind::Counter,
        Unit::Sectors,
        "The total number of bytes written successfully.",
    ),
    (
        "node_disk_write_time_seconds_total",
        Kind::Counter,
        Unit::Millis,
        "This is the total number of seconds spent by all writes.",
    ),
    (
        "node_disk_io_now",
        Kind::Gauge,
        Unit::One,
        "The number of I/Os currently in progress.",
    ),
    (
        "node_disk_io_time_seconds_total",
        Kind::Counter,
        Unit::Millis,
        "Total seconds spent doing I/Os.",
    ),
    (
        "node_disk_io_time_weighted_seconds_total",
        Kind::Counter,
        Unit::Millis,
        "The weighted # of seconds spent doing I/Os.",
    ),
    (
        "node_disk_discards_completed_total",
        Kind::Counter,
        Unit::One,
        "The total number of discards completed successfully.",
    ),
    (
        "node_disk_discards_merged_total",
        Kind::Counter,
        Unit::One,
        "The total number of discards merged.",
    ),
    (
        "node_disk_discarded_sectors_total",
        Kind::Counter,
        Unit::One,
        "The total number of sectors discarded successfully.",
    ),
    (
        "node_disk_discard_time_seconds_total",
        Kind::Counter,
        Unit::Millis,
        "This is the total number of seconds spent by all discards.",
    ),
    (
        "node_disk_flush_requests_total",
        Kind::Counter,
        Unit::One,
        "The total number of flush requests completed successfully",
    ),
    (
        "node_disk_flush_requests_time_seconds_total",
        Kind::Counter,
        Unit::Millis,
        "This is the total number of seconds spent by all flush requests.",
    ),
];

/// udev property, family, help; printed for ATA disks only.
const ATA: [(&str, &str, &str); 3] = [
    (
        "ID_ATA_ROTATION_RATE_RPM",
        "node_disk_ata_rotation_rate_rpm",
        "ATA disk rotation rate in RPMs (0 for SSDs).",
    ),
    (
        "ID_ATA_WRITE_CACHE",
        "node_disk_ata_write_cache",
        "ATA disk has a write cache.",
    ),
    (
        "ID_ATA_WRITE_CACHE_ENABLED",
        "node_disk_ata_write_cache_enabled",
        "ATA disk has its write cache enabled.",
    ),
];

pub struct Diskstats {
    diskstats: Source,
    block: PathBuf,
    udev: PathBuf,
    shown: Sieve,
    rotational: HashMap<String, Source>,
}

struct Disk {
    name: String,
    major: String,
    minor: String,
    columns: Vec<u64>,
    udev: Properties,
    rotational: bool,
}

impl Diskstats {
    pub fn new(roots: &Roots, devices: &Filter) -> Diskstats {
        Diskstats {
            diskstats: Source::of_short_lines(roots.proc.join("diskstats")),
            block: roots.sys.join("block"),
            udev: roots.udev.clone(),
            shown: Sieve::new(devices),
            rotational: HashMap::new(),
        }
    }

    fn disks(&mut self) -> Result<Vec<Disk>, CollectError> {
        let text = self.diskstats.read()?;
        let mut disks = Vec::new();
        for line in text.as_str().lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(major), Some(minor), Some(name)) = (words.next(), words.next(), words.next())
            else {
                return Err(text.malformed(format!("{line:?} is no disk")));
            };
            if !self.shown.takes(name) {
                continue;
            }
            let mut columns = Vec::with_capacity(COLUMNS);
            for word in words.take(COLUMNS) {
                columns.push(text.number(Some(word))?);
            }
            if columns.len() < MIN_COLUMNS {
                continue;
            }
            let rotational = self.rotational.entry(name.to_owned()).or_insert_with(|| {
                Source::of_one_piece(self.block.join(name).join("queue/rotational"))
            });
            disks.push(Disk {
                name: name.to_owned(),
                major: major.to_owned(),
                minor: minor.to_owned(),
                columns,
                udev: Properties::of_block_device(&self.udev, major, minor),
                // As with node_exporter, no answer reads as an SSD.
                rotational: rotational
                    .read()
                    .is_ok_and(|text| text.as_str().trim() == "1"),
            });
        }
        self.rotational
            .retain(|name, _| disks.iter().any(|disk| disk.name == *name));
        Ok(disks)
    }
}

impl Collector for Diskstats {
    fn name(&self) -> &'static str {
        "diskstats"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let disks = self.disks()?;
        for (index, (name, kind, unit, help)) in FAMILIES.into_iter().enumerate() {
            let mut family = page.family(name, kind, help);
            for disk in &disks {
                if let Some(column) = disk.columns.get(index) {
                    family.sample(&[("device", &disk.name)], shown(*column, unit));
                }
            }
        }
        write_info(page, &disks);
        write_filesystems(page, &disks);
        write_device_mapper(page, &disks);
        for (property, name, help) in ATA {
            let mut family = page.family(name, Kind::Gauge, help);
            for disk in disks
                .iter()
                .filter(|disk| !disk.udev.label("ID_ATA").is_empty())
            {
                if let Some(value) = disk.udev.get(property).and_then(|v| v.parse::<f64>().ok()) {
                    family.sample(&[("device", &disk.name)], value);
                }
            }
        }
        Ok(())
    }
}

fn shown(column: u64, unit: Unit) -> Value {
    match unit {
        Unit::One => Value::Whole(column),
        Unit::Sectors => Value::Whole(column.saturating_mul(512)),
        Unit::Millis => Value::Float(column as f64 * 0.001),
    }
}

fn write_info(page: &mut Page, disks: &[Disk]) {
    let mut family = page.family(
        "node_disk_info",
        Kind::Gauge,
        "Info of /sys/block/<block_device>.",
    );
    for disk in disks {
        let udev = &disk.udev;
        // The first is what is printed on the disk, the last is all that virtio has.
        let serial = udev.first(&["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"]);
        let labels = [
            ("device", disk.name.as_str()),
            ("major", &disk.major),
            ("minor", &disk.minor),
            ("model", udev.label("ID_MODEL")),
            ("path", udev.label("ID_PATH")),
            ("revision", udev.label("ID_REVISION")),
            ("rotational", if disk.rotational { "1" } else { "0" }),
            ("serial", serial),
            ("wwn", udev.label("ID_WWN")),
        ];
        family.sample(&labels, 1u64);
    }
}

fn write_filesystems(page: &mut Page, disks: &[Disk]) {
    let mut family = page.family(
        "node_disk_filesystem_info",
        Kind::Gauge,
        "Info about disk filesystem.",
    );
    for disk in disks {
        let fstype = disk.udev.label("ID_FS_TYPE");
        if fstype.is_empty() {
            continue;
        }
        let labels = [
            ("device", disk.name.as_str()),
            ("type", fstype),
            ("usage", disk.udev.label("ID_FS_USAGE")),
            ("uuid", disk.udev.label("ID_FS_UUID")),
            ("version", disk.udev.label("ID_FS_VERSION")),
        ];
        family.sample(&labels, 1u64);
    }
}

fn write_device_mapper(page: &mut Page, disks: &[Disk]) {
    let mut family = page.family(
        "node_disk_device_mapper_info",
        Kind::Gauge,
        "Info about disk device mapper.",
    );
    for disk in disks {
        let name = disk.udev.label("DM_NAME");
        if name.is_empty() {
            continue;
        }
        let labels = [
            ("device", disk.name.as_str()),
            ("lv_layer", disk.udev.label("DM_LV_LAYER")),
            ("lv_name", disk.udev.label("DM_LV_NAME")),
            ("name", name),
            ("uuid", disk.udev.label("DM_UUID")),
            ("vg_name", disk.udev.label("DM_VG_NAME")),
        ];
        family.sample(&labels, 1u64);
    }
}

#[cfg(test)]
mod tests {
    use super::Diskstats;
    use crate::metrics::options::Options;
    use crate::metrics::tests::{collect, expect, host};

    const LINES: &str = " 259 0 nvme0n1 10 1 20 30 40 4 50 60 7 80 90 11 12 13 140 15 160\n\
        259 1 nvme0n1p1 1 1 1 1 1 1 1 1 1 1 1\n\
        253 0 dm-0 1 0 2 3 4 0 5 6 0 8 9\n\
        7 0 loop0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn sectors_become_bytes_and_milliseconds_seconds() {
        let (_dir, roots) = host(&[("proc/diskstats", LINES)]);
        let pages = collect(&mut Diskstats::new(&roots, &Options::default().diskstats));
        let nvme = [("device", "nvme0n1")];
        expect(&pages, "node_disk_read_bytes_total", &nvme, 10_240.0);
        expect(&pages, "node_disk_written_bytes_total", &nvme, 25_600.0);
        expect(&pages, "node_disk_io_time_seconds_total", &nvme, 0.08);
        expect(&pages, "node_disk_discarded_sectors_total", &nvme, 13.0);
        expect(&pages, "node_disk_flush_requests_total", &nvme, 15.0);
        assert_eq!(pages["node_disk_io_now"].kind, "gauge");
        assert_eq!(pages["node_disk_io_now"].series.len(), 2, "partition shown");
        assert_eq!(pages["node_disk_discards_merged_total"].series.len(), 1);
    }

    #[test]
    fn udev_names_the_disk_and_its_absence_leaves_labels_empty() {
        let (_dir, roots) = host(&[
            ("proc/diskstats", LINES),
            (
                "udev/data/b259:0",
                "E:ID_MODEL=Amazon EBS\nE:ID_SERIAL=vol_1\nE:ID_SERIAL_SHORT=vol1\nE:ID_FS_TYPE=ext4\n",
            ),
            ("sys/block/nvme0n1/queue/rotational", "1\n"),
        ]);
        let pages = collect(&mut Diskstats::new(&roots, &Options::default().diskstats));
        let info = |device, model, rotational, serial, numbers: (&'static str, &'static str)| {
            [
                ("device", device),
                ("major", numbers.0),
                ("minor", numbers.1),
                ("model", model),
                ("path", ""),
                ("revision", ""),
                ("rotational", rotational),
                ("serial", serial),
                ("wwn", ""),
            ]
        };
        let nvme = info("nvme0n1", "Amazon EBS", "1", "vol1", ("259", "0"));
        expect(&pages, "node_disk_info", &nvme, 1.0);
        let dm = info("dm-0", "", "0", "", ("253", "0"));
        expect(&pages, "node_disk_info", &dm, 1.0);
        assert_eq!(pages["node_disk_filesystem_info"].series.len(), 1);
    }
}
