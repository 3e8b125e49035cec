//! `btrfs`: space by layout, commits and devices of each mounted file system.
//! Sources: /sys/fs/btrfs/UUID, the kernel's ABI/testing/sysfs-fs-btrfs; errors,
//! size and unused space per device by ioctl at its mount point (`devices`).
//! Where that cannot be opened, sysfs gives the devices' sizes only.

mod devices;

use crate::host::roots::Roots;
use crate::metrics::attributes::{Attributes, names_in};
use crate::metrics::btrfs::devices::{Asker, Device, ERRORS, mount_points};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;
use std::path::{Path, PathBuf};

/// The block layer counts in these, whatever the device's own blocks.
const SECTOR: u64 = 512;

pub struct Btrfs {
    directory: PathBuf,
    attributes: Attributes,
    mountinfo: Source,
    /// Read where `mountinfo` cannot be.
    own_mountinfo: Source,
    rootfs: PathBuf,
    asker: Asker,
}

impl Btrfs {
    pub fn new(roots: &Roots) -> Btrfs {
        Btrfs {
            directory: roots.sys.join("fs/btrfs"),
            attributes: Attributes::default(),
            mountinfo: Source::new(roots.proc.join("1/mountinfo")),
            own_mountinfo: Source::new(roots.proc.join("self/mountinfo")),
            rootfs: roots.rootfs.clone(),
            asker: Asker::new(),
        }
    }
}

impl Collector for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn shows_what_few_have(&self) -> bool {
        true
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        self.attributes.begin();
        // As with node_exporter, a host without btrfs is no failure.
        let mut names = names_in(&self.directory)?.unwrap_or_default();
        names.retain(|name| name.contains('-'));
        if names.is_empty() {
            return Ok(());
        }
        let text = match self.mountinfo.read() {
            Ok(text) => Ok(text),
            Err(_) => self.own_mountinfo.read(),
        };
        let points = text.map(|text| mount_points(text.as_str(), &self.rootfs));
        let devices = self.asker.ask(points.unwrap_or_default());
        for name in &names {
            let mut one = FileSystem {
                directory: self.directory.join(name),
                attributes: &mut self.attributes,
                page,
            };
            one.write(name, devices.get(&name.replace('-', "")))?;
        }
        Ok(())
    }
}

struct FileSystem<'a> {
    directory: PathBuf,
    attributes: &'a mut Attributes,
    page: &'a mut Page,
}

impl FileSystem<'_> {
    fn write(&mut self, name: &str, told: Option<&Vec<Device>>) -> Result<(), CollectError> {
        let Some(devices) = names_in(&self.directory.join("devices"))? else {
            return Ok(()); // unmounted since
        };
        let uuid = self.attributes.get(&self.directory.join("metadata_uuid"))?;
        let uuid = uuid.filter(|uuid| !uuid.is_empty());
        let uuid = uuid.as_deref().unwrap_or(name);
        let label = self.attributes.get(&self.directory.join("label"))?;
        self.page
            .family("node_btrfs_info", Kind::Gauge, "Filesystem information")
            .sample(
                &[("label", &label.unwrap_or_default()), ("uuid", uuid)],
                1u64,
            );
        let reserve = self.number("allocation/global_rsv_size")?;
        self.page
            .family(
                "node_btrfs_global_rsv_size_bytes",
                Kind::Gauge,
                "Size of global reserve.",
            )
            .sample(&[("uuid", uuid)], reserve);
        self.write_commits(uuid)?;
        for block_group in ["data", "metadata", "system"] {
            self.write_allocation(uuid, block_group, devices.len())?;
        }
        if let Some(told) = told {
            for device in told {
                self.write_device(uuid, device);
            }
            return Ok(());
        }
        for device in &devices {
            let sectors = self.number(format!("devices/{device}/size"))?;
            self.page
                .family(
                    "node_btrfs_device_size_bytes",
                    Kind::Gauge,
                    "Size of a device that is part of the filesystem.",
                )
                .sample(
                    &[("device", device), ("uuid", uuid)],
                    sectors.saturating_mul(SECTOR),
                );
        }
        Ok(())
    }

    fn write_device(&mut self, uuid: &str, device: &Device) {
        let labels = [
            ("btrfs_dev_uuid", device.uuid.as_str()),
            ("device", &device.name),
            ("uuid", uuid),
        ];
        self.page
            .family(
                "node_btrfs_device_size_bytes",
                Kind::Gauge,
                "Size of a device that is part of the filesystem.",
            )
            .sample(&labels, device.size);
        self.page
            .family(
                "node_btrfs_device_unused_bytes",
                Kind::Gauge,
                "Unused bytes unused on a device that is part of the filesystem.",
            )
            .sample(&labels, device.size.saturating_sub(device.used));
        let mut family = self.page.family(
            "node_btrfs_device_errors_total",
            Kind::Counter,
            "Errors reported for the device",
        );
        for (kind, count) in ERRORS.iter().zip(device.errors) {
            family.sample(&[labels[0], labels[1], ("type", kind), labels[2]], count);
        }
    }

    /// Kernels before 6.0 do not count commits; their numbers are 0.
    fn write_commits(&mut self, uuid: &str) -> Result<(), CollectError> {
        let text = self.attributes.get(&self.directory.join("commit_stats"))?;
        let text = text.unwrap_or_default();
        let number = |key: &str| -> u64 {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
                .unwrap_or(0)
        };
        let labels = [("uuid", uuid)];
        self.page
            .family(
                "node_btrfs_commits_total",
                Kind::Counter,
                "The total number of commits that have occurred.",
            )
            .sample(&labels, number("commits"));
        for (name, kind, key, help) in [
            (
                "node_btrfs_last_commit_seconds",
                Kind::Gauge,
                "last_commit_ms",
                "Duration of the most recent commit, in seconds.",
            ),
            (
                "node_btrfs_max_commit_seconds",
                Kind::Gauge,
                "max_commit_ms",
                "Duration of the slowest commit, in seconds.",
            ),
            (
                "node_btrfs_commit_seconds_total",
                Kind::Counter,
                "total_commit_ms",
                "Sum of the duration of all commits, in seconds.",
            ),
        ] {
            self.page
                .family(name, kind, help)
                .sample(&labels, number(key) as f64 / 1000.0);
        }
        Ok(())
    }

    fn write_allocation(
        &mut self,
        uuid: &str,
        group: &str,
        devices: usize,
    ) -> Result<(), CollectError> {
        let directory = format!("allocation/{group}");
        let reserved = self.number(format!("{directory}/bytes_reserved"))?;
        self.page
            .family(
                "node_btrfs_reserved_bytes",
                Kind::Gauge,
                "Amount of space reserved for a data type",
            )
            .sample(&[("block_group_type", group), ("uuid", uuid)], reserved);
        let path = self.directory.join(&directory);
        for mode in names_in(&path)?.unwrap_or_default() {
            if !path.join(&mode).is_dir() {
                continue;
            }
            let total = self.number(format!("{directory}/{mode}/total_bytes"))?;
            let used = self.number(format!("{directory}/{mode}/used_bytes"))?;
            let labels = [
                ("block_group_type", group),
                ("mode", mode.as_str()),
                ("uuid", uuid),
            ];
            self.page
                .family(
                    "node_btrfs_used_bytes",
                    Kind::Gauge,
                    "Amount of used space by a layout/data type",
                )
                .sample(&labels, used);
            self.page
                .family(
                    "node_btrfs_size_bytes",
                    Kind::Gauge,
                    "Amount of space allocated for a layout/data type",
                )
                .sample(&labels, total);
            self.page
                .family(
                    "node_btrfs_allocation_ratio",
                    Kind::Gauge,
                    "Data allocation ratio for a layout/data type",
                )
                .sample(&labels, ratio(&mode, devices));
        }
        Ok(())
    }

    fn number(&mut self, file: impl AsRef<Path>) -> Result<u64, CollectError> {
        self.attributes.number_or_zero(&self.directory.join(file))
    }
}

/// Bytes on disk per byte stored; 0 for layouts that node_exporter does not know.
fn ratio(mode: &str, devices: usize) -> f64 {
    let devices = devices as f64;
    match mode {
        "single" | "raid0" => 1.0,
        "dup" | "raid1" | "raid10" => 2.0,
        "raid5" => devices / (devices - 1.0),
        "raid6" => devices / (devices - 2.0),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Btrfs, ratio};
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn a_file_system_is_shown_by_layout_and_device() {
        let files = [
            ("features/x", ""),
            ("label", "USR-A\n"),
            ("metadata_uuid", "12-34\n"),
            (
                "commit_stats",
                "commits 7\nlast_commit_ms 1500\nmax_commit_ms 0\n",
            ),
            ("allocation/global_rsv_size", "4096\n"),
            ("allocation/data/bytes_reserved", "1\n"),
            ("allocation/data/single/total_bytes", "1024\n"),
            ("allocation/data/single/used_bytes", "512\n"),
            ("devices/vda3/size", "8\n"),
        ]
        .map(|(file, text)| (format!("sys/fs/btrfs/12-34/{file}"), text));
        let mut files: Vec<(&str, &str)> = files.iter().map(|(f, t)| (f.as_str(), *t)).collect();
        files.push(("sys/fs/btrfs/features/big_metadata", "0\n"));
        let (_dir, roots) = host(&files);
        let pages = collect(&mut Btrfs::new(&roots));
        let uuid = ("uuid", "12-34");
        expect(&pages, "node_btrfs_info", &[("label", "USR-A"), uuid], 1.0);
        expect(&pages, "node_btrfs_commits_total", &[uuid], 7.0);
        expect(&pages, "node_btrfs_last_commit_seconds", &[uuid], 1.5);
        let layout = [("block_group_type", "data"), ("mode", "single"), uuid];
        expect(&pages, "node_btrfs_used_bytes", &layout, 512.0);
        expect(&pages, "node_btrfs_allocation_ratio", &layout, 1.0);
        let device = [("device", "vda3"), uuid];
        expect(&pages, "node_btrfs_device_size_bytes", &device, 4096.0);
    }

    #[test]
    fn a_host_without_btrfs_shows_nothing_and_is_fine() {
        let (_dir, roots) = host(&[]);
        assert!(collect(&mut Btrfs::new(&roots)).is_empty());
    }

    #[test]
    fn parity_costs_by_the_number_of_devices() {
        assert_eq!(ratio("raid5", 4), 4.0 / 3.0);
        assert_eq!(ratio("raid6", 4), 2.0);
        assert_eq!(ratio("raid1c3", 3), 0.0);
    }
}
