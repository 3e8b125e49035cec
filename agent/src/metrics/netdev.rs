//! `netdev`: traffic, drops and errors per interface. Source: rtnetlink, as
//! node_exporter's default; the fields are merged as /proc/net/dev merges them.

use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::options::Filter;
use crate::metrics::pattern::Sieve;
use crate::metrics::rtnetlink::{Link, SharedLinks};

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
    links: SharedLinks,
    shown: Sieve,
}

impl Netdev {
    pub fn new(devices: &Filter, links: SharedLinks) -> Netdev {
        Netdev {
            links,
            shown: Sieve::new(devices),
        }
    }
}

impl Collector for Netdev {
    fn name(&self) -> &'static str {
        "netdev"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let links = self.links.since(page.begun());
        let links = links.map_err(|source| CollectError::Call {
            call: "rtnetlink link dump",
            source,
        })?;
        let shown = links.iter().filter(|link| self.shown.takes(&link.name));
        write(page, &shown.collect::<Vec<_>>());
        Ok(())
    }
}

fn write(page: &mut Page, links: &[&Link]) {
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
    use super::{Filter, Link, Netdev, Page, SharedLinks, write};
    use crate::metrics::exposition::MAX_TEXT;
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
        write(&mut page, &[&link]);
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
    fn ten_thousand_interfaces_fit_on_a_page() {
        let links: Vec<Link> = (0..10_000)
            .map(|n| Link {
                name: format!("veth{n:011x}"),
                stats: [u64::MAX; 24],
                ..Link::default()
            })
            .collect();
        let mut page = Page::default();
        write(&mut page, &links.iter().collect::<Vec<_>>());
        assert!(!page.overflowed());
        let mut length = 0;
        page.render(|piece| length += piece.len());
        assert!(length < MAX_TEXT / 3, "{length}");
    }

    #[test]
    fn lo_of_this_host_is_on_the_page() {
        let pages = collect(&mut Netdev::new(&Filter::default(), SharedLinks::new()));
        let labels = [("device".to_owned(), "lo".to_owned())].into();
        assert!(
            pages["node_network_receive_bytes_total"]
                .series
                .contains_key(&labels)
        );
    }
}
