//! Networks, ports, names.

use super::{not_empty, text};
use crate::config::compose::{check_ip, check_mac};
use crate::config::fault::quoted;
use crate::config::file::Located;
use crate::config::read::{Item, Table, Wrong};
use crate::supervise::spec::{Network, Port};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

pub struct Networking {
    pub network_mode: Option<String>,
    pub networks: Vec<Network>,
    pub ports: Vec<Located<Port>>,
    pub mac_address: Option<String>,
}

/// Network and ports of a container.
pub fn networking(table: &mut Table<'_>) -> Networking {
    let mode = table.take("network_mode").parse("a network mode", |mode| {
        if mode.starts_with("service:") {
            let text = format!("{} is of Compose projects", quoted(mode));
            return Err(Wrong::new(text).help("use \"container:NAME\""));
        }
        text(mode)
    });
    let item = table.take("ports");
    let path = item.path().to_string();
    let place = item.place();
    let ports: Vec<Located<Port>> = item
        .ports()
        .into_iter()
        .map(|(value, place)| Located {
            value,
            place,
            path: path.clone(),
        })
        .collect();
    if !ports.is_empty()
        && let Some(mode) = mode.as_deref()
        && (matches!(mode, "host" | "none") || mode.starts_with("container:"))
    {
        let text = format!("publishes nothing under network_mode = {mode:?}");
        table.fault_at(place, "ports", &text, "remove ports or network_mode");
    }
    let item = table.take("networks");
    let place = item.place();
    let networks = networks(item);
    if mode.is_some() && !networks.is_empty() {
        let text = "has no place beside network_mode";
        table.fault_at(place, "networks", text, "remove one of the two");
    }
    let item = table.take("mac_address");
    let place = item.place();
    let mac_address = item.parse("a MAC address", check_mac);
    let shares = |mode: &str| matches!(mode, "host" | "none") || mode.starts_with("container:");
    if mac_address.is_some() && mode.as_deref().is_some_and(shares) {
        let text = "means nothing without a network of its own";
        table.fault_at(place, "mac_address", text, "remove it or network_mode");
    }
    Networking {
        network_mode: mode,
        networks,
        ports,
        mac_address,
    }
}

/// A list of names, or a table that says more of each; in the order written.
fn networks(item: Item<'_>) -> Vec<Network> {
    if item.is_table() {
        let mut networks = Vec::new();
        for (name, item) in item.pairs() {
            if let Err(wrong) = check_name(&name) {
                item.wrong(wrong);
            }
            networks.push(item.table(|table| network(name, table)));
        }
        return networks;
    }
    let mut seen = BTreeSet::new();
    let mut networks = Vec::new();
    for item in item.list().unwrap_or_default() {
        let name = item.parse("a network's name, or a table of names", |name| {
            check_name(name)?;
            Ok(name.to_string())
        });
        let Some(name) = name else { continue };
        if !seen.insert(name.clone()) {
            item.wrong(Wrong::new(format!("{} is given twice", quoted(&name))));
        }
        networks.push(Network {
            name,
            ..Network::default()
        });
    }
    networks
}

fn network(name: String, table: &mut Table<'_>) -> Network {
    let v4 = |text: &str| match text.parse::<Ipv4Addr>() {
        Ok(_) => Ok(text.to_string()),
        Err(_) => Err(Wrong::new(format!("{} is no IPv4 address", quoted(text)))),
    };
    let v6 = |text: &str| match text.parse::<Ipv6Addr>() {
        Ok(_) => Ok(text.to_string()),
        Err(_) => Err(Wrong::new(format!("{} is no IPv6 address", quoted(text)))),
    };
    Network {
        name,
        aliases: table.take("aliases").strings(not_empty),
        ipv4_address: table.take("ipv4_address").parse("an IPv4 address", v4),
        ipv6_address: table.take("ipv6_address").parse("an IPv6 address", v6),
        link_local_ips: table.take("link_local_ips").strings(check_ip),
        mac_address: table.take("mac_address").parse("a MAC address", check_mac),
        driver_opts: table.take("driver_opts").map(),
    }
}

fn check_name(name: &str) -> Result<(), Wrong> {
    if matches!(name, "host" | "none" | "bridge" | "default") {
        let wrong = Wrong::new(format!(
            "{name:?} is a mode of Docker and no network of its own"
        ));
        return Err(wrong.help("use network_mode, or leave it out for Docker's bridge"));
    }
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    match begins_well && name.bytes().all(is_allowed) {
        true => Ok(()),
        false => Err(Wrong::new(format!("{} is no network's name", quoted(name)))),
    }
}

pub fn extra_hosts(item: Item<'_>) -> Vec<String> {
    let check = |address: &str| match address {
        "host-gateway" => Ok(()),
        address => check_ip(address.trim_start_matches('[').trim_end_matches(']')),
    };
    if item.is_table() {
        let mut hosts = Vec::new();
        for (name, item) in item.pairs() {
            hosts.extend(item.parse("an IP address", |address| {
                check(address).map(|()| format!("{name}:{address}"))
            }));
        }
        return hosts;
    }
    let hosts = item.strings(|line| match line.split_once([':', '=']) {
        Some((name, address)) if !name.is_empty() => check(address),
        _ => Err(Wrong::new(format!(
            "{} is not \"name:address\"",
            quoted(line)
        ))),
    });
    hosts
        .iter()
        .map(|line| line.replacen('=', ":", 1))
        .collect()
}
