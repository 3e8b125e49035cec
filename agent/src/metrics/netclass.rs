//! `netclass`: properties of each interface. Source: one rtnetlink dump for all
//! of them; of /sys/class/net only the five attributes that the dump lacks.
//!
//! Those five are remembered per interface number: three never change while the
//! address stays, speed and duplex are read again when the link changed, or
//! after [`TRUSTED`]. An interface that vanishes meanwhile lacks them and costs
//! nothing else. Where /sys is moved, all is read there, as it may show another
//! network namespace than this process'.

use crate::host::roots::Roots;
use crate::metrics::attributes::names_in;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::options::Options;
use crate::metrics::pattern::Pattern;
use crate::metrics::rtnetlink::{Link, SharedLinks};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest that speed and duplex are shown from memory while the link rests.
const TRUSTED: Duration = Duration::from_secs(60);
/// netdevice(7). Flags of the moment, which sysfs' `flags` does not have.
const IFF_UP: u32 = 0x1;
const IFF_PROMISC: u32 = 0x100;
const IFF_ALLMULTI: u32 = 0x200;
const IFF_DORMANT: u32 = 0x2_0000;
const MOMENTARY: u32 = 0x40 | 0x1_0000 | IFF_DORMANT;
/// IF_OPER_* in their order, as sysfs words them.
const OPERSTATES: [&str; 7] = [
    "unknown",
    "notpresent",
    "down",
    "lowerlayerdown",
    "testing",
    "dormant",
    "up",
];

/// Property, type, sysfs file.
const PROPERTIES: [(&str, Kind, &str); 17] = [
    ("address_assign_type", Kind::Gauge, "addr_assign_type"),
    ("carrier", Kind::Gauge, "carrier"),
    ("carrier_changes_total", Kind::Counter, "carrier_changes"),
    (
        "carrier_down_changes_total",
        Kind::Counter,
        "carrier_down_count",
    ),
    (
        "carrier_up_changes_total",
        Kind::Counter,
        "carrier_up_count",
    ),
    ("device_id", Kind::Gauge, "dev_id"),
    ("dormant", Kind::Gauge, "dormant"),
    ("flags", Kind::Gauge, "flags"),
    ("iface_id", Kind::Gauge, "ifindex"),
    ("iface_link", Kind::Gauge, "iflink"),
    ("iface_link_mode", Kind::Gauge, "link_mode"),
    ("mtu_bytes", Kind::Gauge, "mtu"),
    ("name_assign_type", Kind::Gauge, "name_assign_type"),
    ("net_dev_group", Kind::Gauge, "netdev_group"),
    ("protocol_type", Kind::Gauge, "type"),
    ("speed_bytes", Kind::Gauge, "speed"),
    ("transmit_queue_length", Kind::Gauge, "tx_queue_len"),
];

pub struct Netclass {
    directory: PathBuf,
    /// `None` where /sys is moved.
    links: Option<SharedLinks>,
    remembered: HashMap<u32, Remembered>,
    ignored: Pattern,
    /// Speeds below zero: of interfaces that know none.
    shows_invalid_speed: bool,
}

/// What is printed of one interface; a property that does not apply is `None`.
#[derive(Debug, Clone, PartialEq)]
struct Interface<'a> {
    name: Cow<'a, str>,
    address: Cow<'a, str>,
    broadcast: Cow<'a, str>,
    duplex: Cow<'a, str>,
    alias: Cow<'a, str>,
    operstate: Cow<'a, str>,
    /// In the order of [`PROPERTIES`]; speed in Mbit/s.
    numbers: [Option<i64>; PROPERTIES.len()],
}

/// The sysfs attributes of one interface and when they hold.
struct Remembered {
    name: String,
    address: String,
    /// Flags, operstate, carrier changes.
    link: (u32, u8, u32),
    at: Instant,
    address_assign_type: Option<i64>,
    device_id: Option<i64>,
    name_assign_type: Option<i64>,
    speed: Option<i64>,
    duplex: String,
}

impl Netclass {
    pub fn new(roots: &Roots, options: &Options, links: SharedLinks) -> Netclass {
        let own = roots.sys == Roots::default().sys;
        Netclass {
            directory: roots.sys.join("class/net"),
            links: own.then_some(links),
            remembered: HashMap::new(),
            ignored: Pattern::new(&options.netclass_ignored),
            shows_invalid_speed: !options.netclass_ignores_invalid_speed,
        }
    }

    /// The links and, in the same order, what is remembered of them.
    fn recall(&mut self, links: &[&Link], now: Instant) -> Vec<Remembered> {
        let mut last = std::mem::take(&mut self.remembered);
        let remembered = links.iter().map(|link| {
            let known = last.remove(&link.index);
            remember(known, link, &self.directory, now)
        });
        remembered.collect()
    }

    fn hide_invalid_speed(&self, interfaces: &mut [Interface<'_>]) {
        let speed = PROPERTIES.iter().position(|(_, _, file)| *file == "speed");
        if let (false, Some(at)) = (self.shows_invalid_speed, speed) {
            for one in interfaces {
                one.numbers[at] = one.numbers[at].filter(|speed| *speed >= 0);
            }
        }
    }

    fn keep(&mut self, links: &[&Link], remembered: Vec<Remembered>) {
        let numbers = links.iter().map(|link| link.index);
        self.remembered = numbers.zip(remembered).collect();
    }
}

impl Collector for Netclass {
    fn name(&self) -> &'static str {
        "netclass"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let Some(links) = self.links.clone() else {
            let mut interfaces = from_sysfs(&self.directory, &mut self.ignored)?;
            self.hide_invalid_speed(&mut interfaces);
            write(page, &interfaces);
            return Ok(());
        };
        let links = links.since(page.begun());
        let links = links.map_err(|source| CollectError::Call {
            call: "rtnetlink link dump",
            source,
        })?;
        let ignored = &mut self.ignored;
        let shown: Vec<&Link> = links
            .iter()
            .filter(|link| !ignored.matches(&link.name))
            .collect();
        let remembered = self.recall(&shown, Instant::now());
        let pairs = shown.iter().zip(&remembered);
        let mut interfaces: Vec<_> = pairs.map(|(link, known)| from_link(link, known)).collect();
        self.hide_invalid_speed(&mut interfaces);
        write(page, &interfaces);
        drop(interfaces);
        self.keep(&shown, remembered);
        Ok(())
    }
}

/// What was remembered where it still holds, else read afresh.
fn remember(known: Option<Remembered>, link: &Link, class: &Path, now: Instant) -> Remembered {
    let state = (link.flags, link.operstate, link.carrier_changes);
    let same = known.filter(|known| known.name == link.name && known.address == link.address);
    let known = match same {
        Some(known) if known.link == state && now.duration_since(known.at) < TRUSTED => {
            return known;
        }
        other => other,
    };
    let at = &class.join(&link.name);
    match known {
        Some(known) => Remembered {
            link: state,
            at: now,
            speed: number(at, "speed"),
            duplex: text(at, "duplex").unwrap_or_default(),
            ..known
        },
        None => Remembered {
            name: link.name.clone(),
            address: link.address.clone(),
            link: state,
            at: now,
            address_assign_type: number(at, "addr_assign_type"),
            device_id: number(at, "dev_id"),
            name_assign_type: number(at, "name_assign_type"),
            speed: number(at, "speed"),
            duplex: text(at, "duplex").unwrap_or_default(),
        },
    }
}

fn from_link<'a>(link: &'a Link, known: &'a Remembered) -> Interface<'a> {
    let up = link.flags & IFF_UP != 0;
    let on = |count: u32, flag: u32| if count > 0 { flag } else { 0 };
    let flags = link.flags & !MOMENTARY
        | on(link.promiscuity, IFF_PROMISC)
        | on(link.all_multicast, IFF_ALLMULTI);
    let dormant = link.flags & IFF_DORMANT != 0;
    Interface {
        name: link.name.as_str().into(),
        address: link.address.as_str().into(),
        broadcast: link.broadcast.as_str().into(),
        duplex: known.duplex.as_str().into(),
        alias: link.alias.as_str().into(),
        operstate: Cow::Borrowed(
            OPERSTATES
                .get(usize::from(link.operstate))
                .unwrap_or(&OPERSTATES[0]),
        ),
        numbers: [
            known.address_assign_type,
            // sysfs refuses these two while the interface is down.
            up.then_some(link.carrier.into()),
            Some(link.carrier_changes.into()),
            Some(link.carrier_downs.into()),
            Some(link.carrier_ups.into()),
            known.device_id,
            up.then_some(dormant.into()),
            Some(flags.into()),
            Some(link.index.into()),
            Some(link.lower.into()),
            Some(link.link_mode.into()),
            Some(link.mtu.into()),
            known.name_assign_type,
            Some(link.group.into()),
            Some(link.kind.into()),
            known.speed,
            Some(link.queue_length.into()),
        ],
    }
}

fn from_sysfs(
    directory: &Path,
    ignored: &mut Pattern,
) -> Result<Vec<Interface<'static>>, CollectError> {
    let names = names_in(directory)?.ok_or_else(|| CollectError::Absent {
        path: directory.to_owned(),
    })?;
    let interfaces = names.into_iter().filter_map(|name| {
        let at = directory.join(&name);
        // Among the interfaces stands the file `bonding_masters`.
        (!ignored.matches(&name) && at.is_dir()).then(|| Interface {
            address: text(&at, "address").unwrap_or_default().into(),
            broadcast: text(&at, "broadcast").unwrap_or_default().into(),
            duplex: text(&at, "duplex").unwrap_or_default().into(),
            alias: text(&at, "ifalias").unwrap_or_default().into(),
            operstate: text(&at, "operstate").unwrap_or_default().into(),
            numbers: PROPERTIES.map(|(_, _, file)| number(&at, file)),
            name: name.into(),
        })
    });
    Ok(interfaces.collect())
}

/// `None` where the attribute does not apply, or the interface has gone.
fn text(directory: &Path, file: &str) -> Option<String> {
    let bytes = fs::read(directory.join(file)).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn number(directory: &Path, file: &str) -> Option<i64> {
    let text = text(directory, file)?;
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn write(page: &mut Page, interfaces: &[Interface<'_>]) {
    let mut family = page.family(
        "node_network_up",
        Kind::Gauge,
        "Value is 1 if operstate is 'up', 0 otherwise.",
    );
    for one in interfaces {
        family.sample(&[("device", &one.name)], one.operstate == "up");
    }
    let flags = PROPERTIES.iter().position(|(_, _, file)| *file == "flags");
    let mut family = page.family(
        "node_network_info",
        Kind::Gauge,
        "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
    );
    for one in interfaces {
        let flags = flags.and_then(|at| one.numbers[at]);
        let labels = [
            ("address", &*one.address),
            (
                "adminstate",
                match flags {
                    Some(flags) if flags & i64::from(IFF_UP) != 0 => "up",
                    Some(_) => "down",
                    None => "unknown",
                },
            ),
            ("broadcast", &one.broadcast),
            ("device", &one.name),
            ("duplex", &one.duplex),
            ("ifalias", &one.alias),
            ("operstate", &one.operstate),
        ];
        family.sample(&labels, 1u64);
    }
    for (at, (property, kind, file)) in PROPERTIES.into_iter().enumerate() {
        let name = format!("node_network_{property}");
        let help = format!("Network device property: {property}");
        let mut family = page.family(&name, kind, &help);
        for one in interfaces {
            let Some(mut value) = one.numbers[at].map(|number| number as f64) else {
                continue;
            };
            if file == "speed" {
                value *= 1000.0 * 1000.0 / 8.0;
            }
            family.sample(&[("device", &one.name)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Instant, Link, Netclass, Options, Path, Pattern, SharedLinks, TRUSTED, from_link,
        from_sysfs, remember,
    };
    use crate::host::roots::Roots;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn what_netlink_tells_is_what_sysfs_shows() {
        let links = SharedLinks::new();
        let mut collector = Netclass::new(&Roots::default(), &Options::default(), links.clone());
        let links = links.since(Instant::now()).unwrap();
        let links: Vec<&Link> = links.iter().collect();
        let remembered = collector.recall(&links, Instant::now());
        let pairs = links.iter().zip(&remembered);
        let ours: Vec<_> = pairs.map(|(link, known)| from_link(link, known)).collect();
        let shown = from_sysfs("/sys/class/net".as_ref(), &mut Pattern::new("^$")).unwrap();
        let mut compared = 0;
        for one in &shown {
            if let Some(same) = ours.iter().find(|other| other.name == one.name) {
                assert_eq!(same, one);
                compared += 1;
            }
        }
        assert!(compared > 0, "no interface in common");
    }

    #[test]
    fn an_interface_without_speed_keeps_the_rest() {
        let (_dir, roots) = host(&[
            ("sys/class/net/bonding_masters", "bond0\n"),
            ("sys/class/net/eth0/flags", "0x1003\n"),
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth1/speed", "-1\n"),
        ]);
        let options = Options::default();
        let pages = collect(&mut Netclass::new(&roots, &options, SharedLinks::new()));
        let eth0 = [("device", "eth0")];
        expect(&pages, "node_network_up", &eth0, 1.0);
        expect(&pages, "node_network_flags", &eth0, 4099.0);
        let speeds = &pages["node_network_speed_bytes"].series;
        assert_eq!(speeds.values().collect::<Vec<_>>(), [&-125_000.0]);
        let options = Options {
            netclass_ignored: "^eth0$".into(),
            netclass_ignores_invalid_speed: true,
            ..Options::default()
        };
        let pages = collect(&mut Netclass::new(&roots, &options, SharedLinks::new()));
        assert!(!pages.contains_key("node_network_speed_bytes"));
        expect(&pages, "node_network_up", &[("device", "eth1")], 0.0);
        assert_eq!(pages["node_network_up"].series.len(), 1);
    }

    #[test]
    fn who_is_ignored_is_not_read_and_not_shown() {
        let options = Options {
            netclass_ignored: "^lo$".into(),
            ..Options::default()
        };
        let mut collector = Netclass::new(&Roots::default(), &options, SharedLinks::new());
        let pages = collect(&mut collector);
        assert!(!format!("{:?}", pages["node_network_up"].series).contains("lo"));
        assert!(
            collector
                .remembered
                .values()
                .all(|known| known.name != "lo")
        );
    }

    #[test]
    fn speed_is_read_again_when_the_link_changes_or_memory_is_old() {
        let (dir, _) = host(&[("eth0/speed", "1000\n"), ("eth0/dev_id", "0x1\n")]);
        let at = dir.path().join("eth0");
        let mut link = Link {
            name: "eth0".into(),
            ..Link::default()
        };
        let start = Instant::now();
        let class = dir.path();
        let first = remember(None, &link, class, start);
        assert_eq!((first.speed, first.device_id), (Some(1000), Some(1)));
        std::fs::write(at.join("speed"), "25000\n").unwrap();
        let rested = remember(Some(first), &link, class, start);
        assert_eq!(rested.speed, Some(1000));
        link.carrier_changes = 2;
        let changed = remember(Some(rested), &link, class, start);
        assert_eq!(changed.speed, Some(25000));
        let gone = remember(Some(changed), &link, Path::new("/nowhere"), start + TRUSTED);
        assert_eq!((gone.speed, gone.device_id), (None, Some(1)));
    }
}
