//! `bonding`: links of each bonding interface. Sources: /sys/class/net/bonding_masters
//! and the bond's `slaves`; a link is active when its `mii_status` is up
//! (kernel's networking/bonding).

use crate::host::roots::Roots;
use crate::metrics::attributes::attribute;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;
use std::path::PathBuf;

pub struct Bonding {
    net: PathBuf,
    masters: Source,
}

impl Bonding {
    pub fn new(roots: &Roots) -> Bonding {
        let net = roots.sys.join("class/net");
        Bonding {
            masters: Source::new(net.join("bonding_masters")),
            net,
        }
    }
}

impl Collector for Bonding {
    fn name(&self) -> &'static str {
        "bonding"
    }

    fn shows_what_few_have(&self) -> bool {
        true
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let masters = self.masters.read()?;
        let mut bonds = Vec::new();
        for master in masters.as_str().split_ascii_whitespace() {
            let bond = self.net.join(master);
            let Some(slaves) = attribute(&bond.join("bonding/slaves")) else {
                continue;
            };
            let (mut all, mut active) = (0u64, 0u64);
            for slave in slaves.split_ascii_whitespace() {
                all += 1;
                // Kernels before 3.13 called the link to it slave_NAME.
                let up = ["lower_", "slave_"].iter().find_map(|kind| {
                    attribute(&bond.join(format!("{kind}{slave}/bonding_slave/mii_status")))
                });
                active += u64::from(up.as_deref() == Some("up"));
            }
            bonds.push((master, all, active));
        }
        let mut family = page.family(
            "node_bonding_slaves",
            Kind::Gauge,
            "Number of configured slaves per bonding interface.",
        );
        for (master, all, _) in &bonds {
            family.sample(&[("master", master)], *all);
        }
        let mut family = page.family(
            "node_bonding_active",
            Kind::Gauge,
            "Number of active slaves per bonding interface.",
        );
        for (master, _, active) in &bonds {
            family.sample(&[("master", master)], *active);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Bonding;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn a_link_that_is_down_is_a_slave_but_not_active() {
        let (_dir, roots) = host(&[
            ("sys/class/net/bonding_masters", "bond0\n"),
            ("sys/class/net/bond0/bonding/slaves", "eth0 eth1\n"),
            (
                "sys/class/net/bond0/lower_eth0/bonding_slave/mii_status",
                "up\n",
            ),
            (
                "sys/class/net/bond0/lower_eth1/bonding_slave/mii_status",
                "down\n",
            ),
        ]);
        let pages = collect(&mut Bonding::new(&roots));
        expect(&pages, "node_bonding_slaves", &[("master", "bond0")], 2.0);
        expect(&pages, "node_bonding_active", &[("master", "bond0")], 1.0);
    }
}
