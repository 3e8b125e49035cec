//! `arp`: IPv4 neighbours per interface. Source: a dump of rtnetlink(7)'s
//! RTM_GETNEIGH without the entries that want no ARP; where that is refused,
//! or switched off, the lines of /proc/net/arp.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::netlink::{Netlink, u16_at, u32_at};
use crate::metrics::options::Options;
use crate::metrics::pattern::Sieve;
use crate::metrics::source::Source;
use std::collections::BTreeMap;
use std::io;

const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
/// struct ndmsg.
const NDMSG: usize = 12;
/// State of a neighbour whose address is known without asking.
const NUD_NOARP: u16 = 0x40;
/// Words of a line: address, type, flags, hardware address, mask, device.
const DEVICE: usize = 5;

/// Neighbours by interface.
type Entries = BTreeMap<String, u64>;

pub struct Arp {
    netlink: Option<Netlink>,
    source: Source,
    devices: Sieve,
}

impl Arp {
    pub fn new(roots: &Roots, options: &Options) -> Arp {
        Arp {
            netlink: options.arp_netlink.then(Netlink::route),
            source: Source::new(roots.proc.join("net/arp")),
            devices: Sieve::new(&options.arp),
        }
    }

    fn read_file(&mut self) -> Result<Entries, CollectError> {
        let text = self.source.read()?;
        let mut entries = Entries::new();
        for line in text.as_str().lines().skip(1) {
            let device = line.split_ascii_whitespace().nth(DEVICE);
            let device = device.ok_or_else(|| text.malformed("a neighbour without device"))?;
            *entries.entry(device.to_owned()).or_default() += 1;
        }
        Ok(entries)
    }
}

impl Collector for Arp {
    fn name(&self) -> &'static str {
        "arp"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let dumped = self.netlink.as_mut().map(from_kernel);
        let entries = match dumped {
            Some(Ok(entries)) => entries,
            Some(Err(source)) => self.read_file().map_err(|_| CollectError::Call {
                call: "rtnetlink neighbour dump",
                source,
            })?,
            None => self.read_file()?,
        };
        let mut family = page.family("node_arp_entries", Kind::Gauge, "ARP entries by device");
        for (device, count) in entries {
            if self.devices.takes(&device) {
                family.sample(&[("device", &device)], count);
            }
        }
        Ok(())
    }
}

fn from_kernel(netlink: &mut Netlink) -> io::Result<Entries> {
    let mut question = [0; NDMSG];
    question[0] = libc::AF_INET as u8;
    let by_index = netlink.dump(RTM_GETNEIGH, &question, count)?;
    let named = by_index
        .into_iter()
        .filter_map(|(index, count)| Some((netlink.interface(index)?, count)));
    Ok(named.collect())
}

/// Adds one neighbour to the counts by interface number.
fn count(entries: &mut BTreeMap<u32, u64>, kind: u16, body: &[u8]) -> io::Result<()> {
    let family = body.first().copied().map(libc::c_int::from);
    if kind == RTM_NEWNEIGH && family == Some(libc::AF_INET) && u16_at(body, 8)? & NUD_NOARP == 0 {
        *entries.entry(u32_at(body, 4)?).or_default() += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Arp, BTreeMap, NDMSG, NUD_NOARP, RTM_NEWNEIGH, count, from_kernel};
    use crate::host::roots::Roots;
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::netlink::Netlink;
    use crate::metrics::options::{Filter, Options};
    use crate::metrics::tests::{collect, expect, host};
    use proptest::prelude::{any, proptest};

    fn by_file() -> Options {
        Options {
            arp_netlink: false,
            arp: Filter::excluding("^veth"),
            ..Options::default()
        }
    }

    #[test]
    fn neighbours_are_counted_per_device() {
        let text = "IP address  HW type  Flags  HW address  Mask  Device\n\
            10.0.0.1 0x1 0x2 cc:aa:dd:ee:aa:bb * eth0\n\
            10.0.0.2 0x1 0x0 00:00:00:00:00:00 * eth0\n\
            10.0.2.1 0x1 0x2 cc:aa:dd:ee:aa:bd * veth7\n\
            10.0.1.1 0x1 0x2 cc:aa:dd:ee:aa:bc * docker0\n";
        let (_dir, roots) = host(&[("proc/net/arp", text)]);
        let pages = collect(&mut Arp::new(&roots, &by_file()));
        expect(&pages, "node_arp_entries", &[("device", "eth0")], 2.0);
        expect(&pages, "node_arp_entries", &[("device", "docker0")], 1.0);
        assert_eq!(pages["node_arp_entries"].series.len(), 2);
    }

    #[test]
    fn a_line_that_ends_early_is_an_error() {
        let (_dir, roots) = host(&[("proc/net/arp", "header\n10.0.0.1 0x1\n")]);
        let result = Arp::new(&roots, &by_file()).update(&mut Page::default());
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }

    #[test]
    fn the_dump_leaves_out_other_families_and_who_wants_no_arp() {
        let neighbour = |family: i32, index: u32, state: u16| {
            let mut body = [0; NDMSG];
            body[0] = family as u8;
            body[4..8].copy_from_slice(&index.to_ne_bytes());
            body[8..10].copy_from_slice(&state.to_ne_bytes());
            body
        };
        let mut entries = BTreeMap::new();
        for body in [
            neighbour(libc::AF_INET, 2, 0x2),
            neighbour(libc::AF_INET, 2, 0x4),
            neighbour(libc::AF_INET, 1, NUD_NOARP),
            neighbour(libc::AF_INET6, 2, 0x2),
        ] {
            count(&mut entries, RTM_NEWNEIGH, &body).unwrap();
        }
        assert_eq!(entries, [(2, 2)].into());
    }

    #[test]
    fn the_running_kernels_dump_is_what_its_file_shows() {
        let roots = Roots::default();
        let mut arp = Arp::new(&roots, &by_file());
        let mut netlink = Netlink::route();
        // A neighbour may come or go between the two questions.
        let same = (0..100).any(|_| from_kernel(&mut netlink).unwrap() == arp.read_file().unwrap());
        assert!(same);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_counts_or_an_error(kind in 27u16..30, body in any::<Vec<u8>>()) {
            let _ = count(&mut BTreeMap::new(), kind, &body);
        }
    }
}
