//! `netdev`: traffic, drops and errors per interface. Source: rtnetlink, as
//! node_exporter's default; the fields are merged as /proc/net/dev merges them.

use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::options::Filter;
use crate::metrics::pattern::Sieve;
use crate::metrics::rtnetlink::{Link, Links};

/// node_exporter's statistic, and the fields of struct rtnl_link_stats64 that make it up.
const STATISTICS: [(&str, &[usize]); 17] = [
    ("receive_bytes", &[2]),
    ("receive_compressed", &[21]),
    ("receive_drop", &[6, 15]), // dropped, missed
    ("receive_errs", &[4]),
    ("receive_fifo", &[14]),
    ("receive_frame", &[10, 11, 12, 13]), // length, over, crc, frame
    ("receive_multicast", &[8]),
    ("receive_nohandler", &[23]),
    ("receive_packets", &[0]),
    ("transmit_bytes", &[3]),
    ("transmit_carrier", &[16, 17, 19, 20]), // aborted, carrier, heartbeat, window
    ("transmit_colls", &[9]),
    ("transmit_compressed", &[22]),
    ("transmit_drop", &[7]),
    ("transmit_errs", &[5]),
    ("transmit_fifo", &[18]),
    ("transmit_packets", &[1]),
];

pub struct Netdev {
    links: Links,
    shown: Sieve,
}

impl Netdev {
    pub fn new(devices: &Filter) -> Netdev {
        Netdev {
            links: Links::new(),
            shown: Sieve::new(devices),
        }
    }
}

impl Collector for Netdev {
    fn name(&self) -> &'static str {
        "netdev"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let mut links = self.links.dump().map_err(|source| CollectError::Call {
            call: "rtnetlink link dump",
            source,
        })?;
        links.retain(|link| self.shown.takes(&link.name));
        write(page, &links);
        Ok(())
    }
}

fn write(page: &mut Page, links: &[Link]) {
    for (statistic, fields) in STATISTICS {
        let name = format!("node_network_{statistic}_total");
        let help = format!("Network device statistic {statistic}.");
        let mut family = page.family(&name, Kind::Counter, &help);
        for link in links {
            let value = fields
                .iter()
                .fold(0u64, |sum, field| sum.wrapping_add(link.stats[*field]));
            family.sample(&[("device", &link.name)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Link, Netdev, Page, write};
    use crate::metrics::tests::{collect, expect, parse};

    #[test]
    fn fields_are_merged_as_proc_net_dev_does() {
        // Field n holds 2^n, so every sum tells its parts.
        let link = Link {
            name: "eth0".into(),
            stats: std::array::from_fn(|field| 1 << field),
            ..Link::default()
        };
        let mut page = Page::default();
        write(&mut page, &[link]);
        let pages = parse(&page);
        assert_eq!(pages.len(), 17);
        for (name, fields) in [
            ("receive_drop", vec![6, 15]),
            ("receive_frame", vec![10, 11, 12, 13]),
            ("transmit_carrier", vec![16, 17, 19, 20]),
            ("transmit_drop", vec![7]),
            ("receive_nohandler", vec![23]),
        ] {
            let sum: u32 = fields.iter().map(|field| 1 << field).sum();
            let name = format!("node_network_{name}_total");
            expect(&pages, &name, &[("device", "eth0")], f64::from(sum));
        }
    }

    #[test]
    fn lo_of_this_host_is_on_the_page() {
        let pages = collect(&mut Netdev::new(&Filter::default()));
        let labels = [("device".to_owned(), "lo".to_owned())].into();
        assert!(
            pages["node_network_receive_bytes_total"]
                .series
                .contains_key(&labels)
        );
    }
}
