//! Ports and sockets of the host: each can be had once.

use crate::config::defaults;
use crate::config::fault::{Fault, Place};
use crate::config::file::{File, Located};
use crate::config::read::Report;
use crate::config::validate::Input;
use crate::listener::Address;
use crate::supervise::spec::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

/// A port or socket of the host that someone wants for itself.
struct Claim {
    address: Socket,
    /// `containers.web.ports`, or a section's default.
    by: String,
    place: Option<Place>,
}

#[derive(PartialEq)]
enum Socket {
    /// None: every address, IPv4 and IPv6.
    Port(Option<IpAddr>, u16, Protocol),
    Unix(PathBuf),
}

pub fn check(file: &File, inputs: &[Input<'_>], report: &Report) {
    let mut claims = Vec::new();
    let default = |name: &str, listen: Vec<Address>| -> Vec<Claim> {
        let claim = |address| own_claim(&address, format!("the default of {name}"), None);
        listen.into_iter().filter_map(claim).collect()
    };
    match &file.metrics_listen {
        Some(listen) => claims.extend(listen.iter().filter_map(located_claim)),
        None => claims.extend(default("metrics.listen", defaults::metrics_listen())),
    }
    match &file.heartbeat {
        Some(listen) => claims.extend(listen.iter().filter_map(located_claim)),
        None => claims.extend(default("heartbeat.listen", defaults::heartbeat_listen())),
    }
    let containers = &file.container_metrics.listen;
    claims.extend(containers.iter().flatten().filter_map(located_claim));
    for input in inputs {
        match input.file.and_then(|file| file.listen.as_ref()) {
            Some(listen) => claims.extend(listen.iter().filter_map(located_claim)),
            None => {
                let name = format!("logs.inputs.{}.listen", input.settings.name);
                claims.extend(default(&name, input.settings.listen.clone()));
            }
        }
    }
    let of_containers = file.containers.iter().flat_map(|one| &one.ports);
    let of_jobs = file.jobs.iter().flat_map(|job| &job.ports);
    for port in of_containers.chain(of_jobs) {
        let Some(host_port) = port.value.host_port else {
            continue;
        };
        claims.push(Claim {
            address: Socket::Port(
                port.value.host_ip.parse().ok(),
                host_port,
                port.value.protocol,
            ),
            by: port.path.clone(),
            place: Some(port.place),
        });
    }
    report_clashes(&claims, report);
}

fn located_claim(address: &Located<Address>) -> Option<Claim> {
    own_claim(&address.value, address.path.clone(), Some(address.place))
}

/// Port 0 is chosen by the kernel and clashes with nothing.
fn own_claim(address: &Address, by: String, place: Option<Place>) -> Option<Claim> {
    let address = match address {
        Address::Tcp(address) if address.port() == 0 => return None,
        // An IPv6 socket on all addresses takes IPv4 as well (net.ipv6.bindv6only = 0).
        Address::Tcp(address) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            Socket::Port(None, address.port(), Protocol::Tcp)
        }
        Address::Tcp(address) => Socket::Port(Some(address.ip()), address.port(), Protocol::Tcp),
        Address::Unix(path) => Socket::Unix(path.clone()),
    };
    Some(Claim { address, by, place })
}

/// Each claim against those before it with the same port: linear but for the clashes themselves.
fn report_clashes(claims: &[Claim], report: &Report) {
    let mut by_port: BTreeMap<u16, Vec<&Claim>> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for claim in claims {
        let port = match claim.address {
            Socket::Port(_, port, _) => port,
            Socket::Unix(_) => 0,
        };
        let others = by_port.entry(port).or_default();
        let Some(other) = others
            .iter()
            .find(|other| clash(&other.address, &claim.address))
        else {
            others.push(claim);
            continue;
        };
        let (at, holder) = match (claim.place, other.place) {
            (Some(place), _) => ((place, &claim.by), &other.by),
            (None, Some(place)) => ((place, &other.by), &claim.by),
            (None, None) => continue,
        };
        // Of a range one clash is told.
        if !told.insert(at.0) {
            continue;
        }
        let what = match &claim.address {
            Socket::Port(_, port, Protocol::Tcp) => format!("host port {port}"),
            Socket::Port(_, port, Protocol::Udp) => format!("host port {port}/udp"),
            Socket::Unix(path) => format!("socket {:?}", path.display().to_string()),
        };
        let text = format!("{}: {what} is taken by {holder}", at.1);
        report.add(Fault::new(at.0, text).help("each port can be had once: move one of the two"));
    }
}

fn clash(a: &Socket, b: &Socket) -> bool {
    match (a, b) {
        (Socket::Unix(a), Socket::Unix(b)) => a == b,
        (Socket::Port(a_ip, a_port, a_protocol), Socket::Port(b_ip, b_port, b_protocol)) => {
            let overlap = match (a_ip, b_ip) {
                (None, _) | (_, None) => true,
                (Some(a), Some(b)) => {
                    a == b
                        || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())
                }
            };
            a_port == b_port && a_protocol == b_protocol && overlap
        }
        _ => false,
    }
}
