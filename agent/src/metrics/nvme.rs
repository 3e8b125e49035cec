//! `nvme`: controllers and their namespaces. Source: /sys/class/nvme. On EC2 an
//! EBS volume is a controller whose serial is the volume's id without its dash.
//!
//! Sizes multiply the block layer's 512-byte `size` by the logical block size,
//! as node_exporter does; right wherever blocks have 512 bytes, as EBS' have.

use crate::host::roots::Roots;
use crate::metrics::attributes::{Attributes, names_in};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use std::path::{Path, PathBuf};

pub struct Nvme {
    directory: PathBuf,
    attributes: Attributes,
}

/// One namespace of one controller.
struct Namespace {
    device: String,
    id: String,
    ana_state: String,
    used: u64,
    size: u64,
    block: u64,
}

impl Namespace {
    fn size_bytes(&self) -> u64 {
        self.size.saturating_mul(self.block)
    }

    fn used_bytes(&self) -> u64 {
        self.used.saturating_mul(self.block)
    }

    fn block_bytes(&self) -> u64 {
        self.block
    }
}

impl Nvme {
    pub fn new(roots: &Roots) -> Nvme {
        Nvme {
            directory: roots.sys.join("class/nvme"),
            attributes: Attributes::default(),
        }
    }

    fn namespace(&mut self, at: &Path, device: &str, id: &str) -> Result<Namespace, CollectError> {
        let state = self.attributes.get(&at.join("ana_state"))?;
        Ok(Namespace {
            device: device.to_owned(),
            id: id.to_owned(),
            ana_state: state.unwrap_or_else(|| "unknown".to_owned()),
            used: self.attributes.number_or_zero(&at.join("nuse"))?,
            size: self.attributes.number_or_zero(&at.join("size"))?,
            block: self
                .attributes
                .number_or_zero(&at.join("queue/logical_block_size"))?,
        })
    }
}

impl Collector for Nvme {
    fn name(&self) -> &'static str {
        "nvme"
    }

    fn shows_what_few_have(&self) -> bool {
        true
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        self.attributes.begin();
        let devices = names_in(&self.directory)?.ok_or_else(|| CollectError::Absent {
            path: self.directory.clone(),
        })?;
        let mut namespaces = Vec::new();
        let mut family = page.family(
            "node_nvme_info",
            Kind::Gauge,
            "Non-numeric data from /sys/class/nvme/<device>, value is always 1.",
        );
        for device in devices {
            let directory = self.directory.join(&device);
            let Some(children) = names_in(&directory)? else {
                continue; // unplugged since
            };
            let mut label = |file: &str| {
                let value = self.attributes.get(&directory.join(file))?;
                Ok::<String, CollectError>(value.unwrap_or_default())
            };
            let labels = [
                ("cntlid", label("cntlid")?),
                ("device", device.clone()),
                ("firmware_revision", label("firmware_rev")?),
                ("model", label("model")?),
                ("serial", label("serial")?),
                ("state", label("state")?),
            ];
            let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
            family.sample(&labels, 1u64);
            for child in children {
                if let Some(id) = namespace_id(&child) {
                    namespaces.push(self.namespace(&directory.join(&child), &device, id)?);
                }
            }
        }
        write(page, &namespaces);
        Ok(())
    }
}

fn write(page: &mut Page, namespaces: &[Namespace]) {
    let mut family = page.family(
        "node_nvme_namespace_info",
        Kind::Gauge,
        "Information about NVMe namespaces. Value is always 1",
    );
    for one in namespaces {
        let labels = [
            ("ana_state", one.ana_state.as_str()),
            ("device", &one.device),
            ("nsid", &one.id),
        ];
        family.sample(&labels, 1u64);
    }
    for (name, value, help) in [
        (
            "node_nvme_namespace_capacity_bytes",
            Namespace::size_bytes as fn(&Namespace) -> u64,
            "Capacity of the NVMe namespace in bytes. \
             Computed as namespace_size * namespace_logical_block_size",
        ),
        (
            "node_nvme_namespace_size_bytes",
            Namespace::size_bytes,
            "Size of the NVMe namespace in bytes. \
             Available in /sys/class/nvme/<device>/<namespace>/size",
        ),
        (
            "node_nvme_namespace_used_bytes",
            Namespace::used_bytes,
            "Used space of the NVMe namespace in bytes. \
             Available in /sys/class/nvme/<device>/<namespace>/nuse",
        ),
        (
            "node_nvme_namespace_logical_block_size_bytes",
            Namespace::block_bytes,
            "Logical block size of the NVMe namespace in bytes. Usually 4Kb. \
             Available in /sys/class/nvme/<device>/<namespace>/queue/logical_block_size",
        ),
    ] {
        let mut family = page.family(name, Kind::Gauge, help);
        for one in namespaces {
            family.sample(&[("device", &one.device), ("nsid", &one.id)], value(one));
        }
    }
}

/// `nvme0n1`, and with multipath `nvme0c1n1`: the digits after `n`.
fn namespace_id(name: &str) -> Option<&str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (device, id) = name.strip_prefix("nvme")?.rsplit_once('n')?;
    let (device, path) = device.split_once('c').unwrap_or((device, "0"));
    (digits(device) && digits(path) && digits(id)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::{Nvme, namespace_id};
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn a_volume_is_shown_with_its_serial_and_sizes() {
        let at = "sys/class/nvme/nvme1";
        let files = [
            ("cntlid", "1\n"),
            ("firmware_rev", "1.0     \n"),
            ("model", "Amazon Elastic Block Store \n"),
            ("serial", "vol0123456789abcdef0\n"),
            ("state", "live\n"),
            ("nvme1n1/size", "16777216\n"),
            ("nvme1n1/nuse", "8\n"),
            ("nvme1n1/queue/logical_block_size", "512\n"),
        ]
        .map(|(file, text)| (format!("{at}/{file}"), text));
        let files: Vec<(&str, &str)> = files.iter().map(|(f, t)| (f.as_str(), *t)).collect();
        let (_dir, roots) = host(&files);
        let pages = collect(&mut Nvme::new(&roots));
        let labels = [
            ("cntlid", "1"),
            ("device", "nvme1"),
            ("firmware_revision", "1.0"),
            ("model", "Amazon Elastic Block Store"),
            ("serial", "vol0123456789abcdef0"),
            ("state", "live"),
        ];
        expect(&pages, "node_nvme_info", &labels, 1.0);
        let one = [("device", "nvme1"), ("nsid", "1")];
        let bytes = 8.0 * 1024.0 * 1024.0 * 1024.0;
        expect(&pages, "node_nvme_namespace_size_bytes", &one, bytes);
        expect(&pages, "node_nvme_namespace_used_bytes", &one, 4096.0);
        let info = [("ana_state", "unknown"), ("device", "nvme1"), ("nsid", "1")];
        expect(&pages, "node_nvme_namespace_info", &info, 1.0);
    }

    #[test]
    fn a_host_without_nvme_has_no_data() {
        let (_dir, roots) = host(&[]);
        let result = Nvme::new(&roots).update(&mut Page::default());
        assert!(matches!(result, Err(CollectError::Absent { .. })));
    }

    #[test]
    fn only_namespaces_have_an_id() {
        assert_eq!(namespace_id("nvme0n1"), Some("1"));
        assert_eq!(namespace_id("nvme10c3n12"), Some("12"));
        for other in ["ng0n1", "nvme0", "nvme0n1p1", "hwmon1", "nvmen1", "nvme0n"] {
            assert_eq!(namespace_id(other), None, "{other}");
        }
    }
}
