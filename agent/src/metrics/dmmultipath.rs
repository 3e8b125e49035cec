//! `dmmultipath`: multipath devices of the device mapper and their paths.
//! Source: /sys/block/dm-N, the kernel's ABI/testing/sysfs-block-dm; those whose
//! UUID begins with `mpath-`.

use crate::host::roots::Roots;
use crate::metrics::attributes::{attribute, names, names_if_any, number};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use std::path::PathBuf;

/// The block layer counts in these, whatever the device's own blocks.
const SECTOR: f64 = 512.0;

pub struct DmMultipath {
    block: PathBuf,
}

impl DmMultipath {
    pub fn new(roots: &Roots) -> DmMultipath {
        DmMultipath {
            block: roots.sys.join("block"),
        }
    }

    fn write(&self, page: &mut Page, sysfs_name: &str, uuid: &str) -> Result<(), CollectError> {
        let directory = self.block.join(sysfs_name);
        let device = attribute(&directory.join("dm/name")).unwrap_or_default();
        page.family(
            "node_dmmultipath_device_info",
            Kind::Gauge,
            "Non-numeric information about a DM-multipath device.",
        )
        .sample(
            &[
                ("device", &device),
                ("sysfs_name", sysfs_name),
                ("uuid", uuid),
            ],
            1u64,
        );
        let (mut paths, mut active) = (0.0, 0.0);
        for path in names_if_any(&directory.join("slaves"), "")? {
            let state = self.block.join(&path).join("device/state");
            let state = attribute(&state).unwrap_or_default();
            paths += 1.0;
            // Of SCSI and of NVMe.
            active += f64::from(u8::from(state == "running" || state == "live"));
            page.family(
                "node_dmmultipath_path_state",
                Kind::Gauge,
                "Reports the underlying device state for a multipath path, \
                 as read from /sys/block/<dev>/device/state.",
            )
            .sample(
                &[("device", &device), ("path", &path), ("state", &state)],
                1u64,
            );
        }
        let is_active = number(&directory.join("dm/suspended")).map(|n| f64::from(n != 1.0));
        let bytes = number(&directory.join("size")).map(|sectors| sectors * SECTOR);
        for (name, value, help) in [
            (
                "device_active",
                is_active,
                "Whether the multipath device-mapper device is active (1) or suspended (0).",
            ),
            (
                "device_size_bytes",
                bytes,
                "Size of the multipath device in bytes, read from /sys/block/<dm>/size.",
            ),
            (
                "device_paths",
                Some(paths),
                "Number of paths for a multipath device.",
            ),
            (
                "device_paths_active",
                Some(active),
                "Number of paths in active state (SCSI running or NVMe live) \
                 for a multipath device.",
            ),
            (
                "device_paths_failed",
                Some(paths - active),
                "Number of paths not in active state for a multipath device.",
            ),
        ] {
            if let Some(value) = value {
                page.family(&format!("node_dmmultipath_{name}"), Kind::Gauge, help)
                    .sample(&[("device", &device), ("sysfs_name", sysfs_name)], value);
            }
        }
        Ok(())
    }
}

impl Collector for DmMultipath {
    fn name(&self) -> &'static str {
        "dmmultipath"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        for name in names(&self.block, "dm-")? {
            let uuid = attribute(&self.block.join(&name).join("dm/uuid"));
            if let Some(uuid) = uuid.filter(|uuid| uuid.starts_with("mpath-")) {
                self.write(page, &name, &uuid)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::DmMultipath;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn paths_are_counted_by_whether_they_work() {
        let (_dir, roots) = host(&[
            ("sys/block/dm-0/dm/uuid", "LVM-abc\n"),
            ("sys/block/dm-5/dm/uuid", "mpath-36\n"),
            ("sys/block/dm-5/dm/name", "mpathA\n"),
            ("sys/block/dm-5/dm/suspended", "0\n"),
            ("sys/block/dm-5/size", "8\n"),
            ("sys/block/dm-5/slaves/sda/x", ""),
            ("sys/block/dm-5/slaves/nvme1n1/x", ""),
            ("sys/block/dm-5/slaves/sdb/x", ""),
            ("sys/block/sda/device/state", "running\n"),
            ("sys/block/nvme1n1/device/state", "live\n"),
            ("sys/block/sdb/device/state", "offline\n"),
        ]);
        let pages = collect(&mut DmMultipath::new(&roots));
        let labels = [("device", "mpathA"), ("sysfs_name", "dm-5")];
        for (name, value) in [
            ("active", 1.0),
            ("size_bytes", 4096.0),
            ("paths", 3.0),
            ("paths_active", 2.0),
            ("paths_failed", 1.0),
        ] {
            let name = format!("node_dmmultipath_device_{name}");
            expect(&pages, &name, &labels, value);
        }
        let path = [("device", "mpathA"), ("path", "sdb"), ("state", "offline")];
        expect(&pages, "node_dmmultipath_path_state", &path, 1.0);
        assert_eq!(pages["node_dmmultipath_device_info"].series.len(), 1);
    }
}
