//! `arp`: neighbours per interface. Source: /proc/net/arp, which shows the IPv4
//! neighbours that are not NOARP: the same set that node_exporter makes of its
//! netlink dump, without a second question for the interface names.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;
use std::collections::BTreeMap;

/// Words of a line: address, type, flags, hardware address, mask, device.
const DEVICE: usize = 5;

pub struct Arp {
    source: Source,
}

impl Arp {
    pub fn new(roots: &Roots) -> Arp {
        Arp {
            source: Source::new(roots.proc.join("net/arp")),
        }
    }
}

impl Collector for Arp {
    fn name(&self) -> &'static str {
        "arp"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.source.read()?;
        let mut entries: BTreeMap<&str, u64> = BTreeMap::new();
        for line in text.as_str().lines().skip(1) {
            let device = line.split_ascii_whitespace().nth(DEVICE);
            let device = device.ok_or_else(|| text.malformed("a neighbour without device"))?;
            *entries.entry(device).or_default() += 1;
        }
        let mut family = page.family("node_arp_entries", Kind::Gauge, "ARP entries by device");
        for (device, count) in entries {
            family.sample(&[("device", device)], count);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Arp;
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn neighbours_are_counted_per_device() {
        let text = "IP address  HW type  Flags  HW address  Mask  Device\n\
            10.0.0.1 0x1 0x2 cc:aa:dd:ee:aa:bb * eth0\n\
            10.0.0.2 0x1 0x0 00:00:00:00:00:00 * eth0\n\
            10.0.1.1 0x1 0x2 cc:aa:dd:ee:aa:bc * docker0\n";
        let (_dir, roots) = host(&[("proc/net/arp", text)]);
        let pages = collect(&mut Arp::new(&roots));
        expect(&pages, "node_arp_entries", &[("device", "eth0")], 2.0);
        expect(&pages, "node_arp_entries", &[("device", "docker0")], 1.0);
    }

    #[test]
    fn a_line_that_ends_early_is_an_error() {
        let (_dir, roots) = host(&[("proc/net/arp", "header\n10.0.0.1 0x1\n")]);
        let result = Arp::new(&roots).update(&mut Page::default());
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
