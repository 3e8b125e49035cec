//! `ethtool` (off by default): what the drivers of network interfaces tell of
//! themselves, on EC2 the allowances that the instance exceeded. Source:
//! ioctl(2) SIOCETHTOOL per interface, the kernel's linux/ethtool.h.
//!
//! Names of statistics are the driver's, made fit for a family's name as
//! node_exporter does; a driver may have hundreds, see `metrics.ethtool`. It
//! shows the interfaces of this process' network namespace.

mod ioctl;
mod modes;

use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page, sanitized};
use crate::metrics::options::Options;
use crate::metrics::pattern::{Pattern, Sieve};
use crate::metrics::rtnetlink::SharedLinks;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// Statistics that have a family of their own: sanitized name, family, help.
const KNOWN: [(&str, &str, &str); 7] = [
    (
        "rx_bytes",
        "node_ethtool_received_bytes_total",
        "Network interface bytes received",
    ),
    (
        "rx_dropped",
        "node_ethtool_received_dropped_total",
        "Number of received frames dropped",
    ),
    (
        "rx_errors",
        "node_ethtool_received_errors_total",
        "Number of received frames with errors",
    ),
    (
        "rx_packets",
        "node_ethtool_received_packets_total",
        "Network interface packets received",
    ),
    (
        "tx_bytes",
        "node_ethtool_transmitted_bytes_total",
        "Network interface bytes sent",
    ),
    (
        "tx_errors",
        "node_ethtool_transmitted_errors_total",
        "Number of sent frames with errors",
    ),
    (
        "tx_packets",
        "node_ethtool_transmitted_packets_total",
        "Network interface packets sent",
    ),
];

/// What one driver answered; a question that it does not answer is `None` or empty.
#[derive(Debug, Default, PartialEq)]
struct Answers {
    driver: Option<Driver>,
    port: Option<Port>,
    /// Name and value, in the driver's order.
    statistics: Vec<(String, u64)>,
}

/// struct ethtool_drvinfo
#[derive(Debug, Default, PartialEq)]
struct Driver {
    name: String,
    version: String,
    firmware: String,
    bus: String,
    rom: String,
}

/// struct ethtool_cmd
#[derive(Debug, Default, PartialEq)]
struct Port {
    supported: u32,
    advertised: u32,
    autonegotiates: bool,
}

pub struct Ethtool {
    links: SharedLinks,
    shown: Sieve,
    statistics: Pattern,
}

impl Ethtool {
    pub fn new(options: &Options, links: SharedLinks) -> Ethtool {
        Ethtool {
            links,
            shown: Sieve::new(&options.ethtool),
            statistics: Pattern::new(&options.ethtool_metrics),
        }
    }
}

impl Collector for Ethtool {
    fn name(&self) -> &'static str {
        "ethtool"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let failed = |call| move |source: io::Error| CollectError::Call { call, source };
        let links = self.links.since(page.begun());
        let links = links.map_err(failed("rtnetlink link dump"))?;
        if links.is_empty() {
            let path = PathBuf::from("network interface");
            return Err(CollectError::Absent { path });
        }
        let socket = ioctl::open().map_err(failed("socket for SIOCETHTOOL"))?;
        for link in links.iter() {
            if self.shown.takes(&link.name) {
                let answers = ioctl::ask(&socket, &link.name);
                write(page, &link.name, &answers, &mut self.statistics);
            }
        }
        Ok(())
    }
}

fn write(page: &mut Page, device: &str, answers: &Answers, wanted: &mut Pattern) {
    if let Some(port) = &answers.port {
        modes::write(page, device, port);
    }
    if let Some(driver) = &answers.driver {
        page.family(
            "node_ethtool_info",
            Kind::Gauge,
            "A metric with a constant '1' value labeled by bus_info, device, driver, \
             expansion_rom_version, firmware_version, version.",
        )
        .sample(
            &[
                ("bus_info", &driver.bus),
                ("device", device),
                ("driver", &driver.name),
                ("expansion_rom_version", &driver.rom),
                ("firmware_version", &driver.firmware),
                ("version", &driver.version),
            ],
            1u64,
        );
    }
    for (family, statistic) in named(&answers.statistics, wanted) {
        // Two names that became one would contradict each other.
        let Some((name, value)) = statistic else {
            continue;
        };
        let known = KNOWN.into_iter().find(|(known, ..)| *known == name);
        let (family, help) = match known {
            Some((_, family, help)) => (family.to_owned(), help.to_owned()),
            None => (family, format!("Network interface {name}")),
        };
        page.family(&family, Kind::Untyped, &help)
            .sample(&[("device", device)], value);
    }
}

/// Sanitized name and value by family; `None` where several names lead to one family.
fn named(
    statistics: &[(String, u64)],
    wanted: &mut Pattern,
) -> BTreeMap<String, Option<(String, u64)>> {
    let mut named = BTreeMap::new();
    for (name, value) in statistics {
        let name = sanitized(name);
        if wanted.matches(&name) {
            named
                .entry(family(&name))
                .and_modify(|statistic| *statistic = None)
                .or_insert(Some((name, *value)));
        }
    }
    named
}

/// The family of a sanitized name: in small letters, `rx` and `tx` spelt out.
fn family(name: &str) -> String {
    let name = name.to_lowercase();
    let name = spelt_out(name.trim_start_matches('_'), "rx", "received");
    format!("node_ethtool_{}", spelt_out(&name, "tx", "transmitted"))
}

/// With `long` for the word `short`. Of two that stand side by side the first only: that is how
/// node_exporter's expression for it works.
fn spelt_out(name: &str, short: &str, long: &str) -> String {
    let mut done = false;
    let words = name.split('_').map(|word| {
        done = word == short && !done;
        if done { long } else { word }
    });
    words.collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests;
