//! `dmi`: what the firmware says of the machine; on EC2 the instance type is
//! `product_name`. Source: /sys/class/dmi/id, read once, it does not change.
//!
//! Files that only root may read (serials, the UUID) are left out: an agent that
//! runs as root would otherwise publish what an unprivileged exporter never did.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Label, file.
const LABELS: [(&str, &str); 20] = [
    ("bios_date", "bios_date"),
    ("bios_release", "bios_release"),
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("board_asset_tag", "board_asset_tag"),
    ("board_name", "board_name"),
    ("board_serial", "board_serial"),
    ("board_vendor", "board_vendor"),
    ("board_version", "board_version"),
    ("chassis_asset_tag", "chassis_asset_tag"),
    ("chassis_serial", "chassis_serial"),
    ("chassis_vendor", "chassis_vendor"),
    ("chassis_version", "chassis_version"),
    ("product_family", "product_family"),
    ("product_name", "product_name"),
    ("product_serial", "product_serial"),
    ("product_sku", "product_sku"),
    ("product_uuid", "product_uuid"),
    ("product_version", "product_version"),
    ("system_vendor", "sys_vendor"),
];
/// Others may read.
const PUBLIC: u32 = 0o004;

pub struct Dmi {
    directory: PathBuf,
    labels: Option<Vec<(&'static str, String)>>,
}

impl Dmi {
    pub fn new(roots: &Roots) -> Dmi {
        Dmi {
            directory: roots.sys.join("class/dmi/id"),
            labels: None,
        }
    }
}

fn read(directory: &Path) -> Result<Vec<(&'static str, String)>, CollectError> {
    directory
        .metadata()
        .map_err(|error| CollectError::read(directory, error))?;
    let mut labels = Vec::new();
    for (label, file) in LABELS {
        let path = directory.join(file);
        let bytes =
            path.metadata()
                .and_then(|metadata| match metadata.permissions().mode() & PUBLIC {
                    0 => Err(io::ErrorKind::PermissionDenied.into()),
                    _ => std::fs::read(&path),
                });
        match bytes {
            Ok(bytes) => labels.push((label, String::from_utf8_lossy(&bytes).trim().to_owned())),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {}
                _ => return Err(CollectError::read(&path, error)),
            },
        }
    }
    Ok(labels)
}

impl Collector for Dmi {
    fn name(&self) -> &'static str {
        "dmi"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let labels = match &mut self.labels {
            Some(labels) => labels,
            empty => empty.insert(read(&self.directory)?),
        };
        let labels: Vec<(&str, &str)> = labels.iter().map(|(l, v)| (*l, v.as_str())).collect();
        page.family(
            "node_dmi_info",
            Kind::Gauge,
            "A metric with a constant '1' value labeled by bios_date, bios_release, bios_vendor, \
             bios_version, board_asset_tag, board_name, board_serial, board_vendor, \
             board_version, chassis_asset_tag, chassis_serial, chassis_vendor, chassis_version, \
             product_family, product_name, product_serial, product_sku, product_uuid, \
             product_version, system_vendor if provided by DMI.",
        )
        .sample(&labels, 1u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Dmi;
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn labels_are_the_public_files_and_no_others() {
        let (dir, roots) = host(&[
            ("sys/class/dmi/id/product_name", "m5.large\n"),
            ("sys/class/dmi/id/sys_vendor", "Amazon EC2\n"),
            ("sys/class/dmi/id/product_uuid", "ec2e1916\n"),
        ]);
        let secret = dir.path().join("sys/class/dmi/id/product_uuid");
        set_permissions(secret, Permissions::from_mode(0o400)).unwrap();
        let pages = collect(&mut Dmi::new(&roots));
        let labels = [
            ("product_name", "m5.large"),
            ("system_vendor", "Amazon EC2"),
        ];
        expect(&pages, "node_dmi_info", &labels, 1.0);
    }

    #[test]
    fn a_machine_without_dmi_has_no_data() {
        let (_dir, roots) = host(&[]);
        let result = Dmi::new(&roots).update(&mut Page::default());
        assert!(matches!(result, Err(CollectError::Absent { .. })));
    }
}
