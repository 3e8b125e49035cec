//! From the written form to each room's Settings, and what sections say
//! against each other: ports, dependencies, probes, who listens to whom.

use crate::config::dirs::Dirs;
use crate::config::fault::{Fault, Place};
use crate::config::file::{ContainerFile, File, InputFile, Located, LogsFile};
use crate::config::read::{Report, suggest};
use crate::config::{Agent, Settings, defaults};
use crate::listener::Address;
use crate::logs::enrich::{Piece, Template};
use crate::logs::output::{self, Kind};
use crate::logs::{buffer, forward};
use crate::supervise::spec::{Logging, Protocol, Spec};
use crate::supervise::{self, Condition, Container};
use crate::{logs, metrics};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Facts that arrive without being configured (cloud::imds and the host's uname).
pub const FACTS: [&str; 8] = [
    "account",
    "hostname",
    "image_id",
    "instance_id",
    "instance_type",
    "private_ip",
    "region",
    "zone",
];

/// Yields Settings whatever is wrong; they are worth something only when
/// `report` stayed empty.
pub fn settings(file: File, dirs: &Dirs, report: &Report) -> Settings {
    let inputs = inputs(&file.logs, dirs);
    // What could not be read may be what another section refers to.
    if !report.is_partial() {
        check_ports(&file, &inputs, report);
        check_dependencies(&file.containers, report);
        for container in &file.containers {
            check_probe(container, report);
            check_logging(container, &inputs, report);
        }
        check_templates(&file.logs, &file.node, report);
        check_loops(&file.logs, &inputs, report);
    }
    let inputs = inputs.into_iter().map(|input| input.settings).collect();
    let listen = |listen: Option<Vec<Located<Address>>>, default: fn() -> Vec<Address>| {
        listen.map_or_else(default, values)
    };
    Settings {
        agent: Agent {
            state_dir: dirs.state.clone(),
            control: file
                .agent
                .control
                .unwrap_or_else(|| dirs.runtime.join("control.sock")),
            stop_timeout: file.agent.stop_timeout,
        },
        node: file.node,
        telemetry: file.agent.telemetry,
        cloud: file.cloud,
        docker: file.docker,
        containers: supervise::Settings {
            containers: file.containers.into_iter().map(container).collect(),
        },
        metrics: metrics::Settings {
            listen: listen(file.metrics_listen, defaults::metrics_listen),
            collectors: file.collectors,
            roots: file.roots,
        },
        logs: logs_settings(file.logs, inputs, dirs),
        heartbeat: listen(file.heartbeat, defaults::heartbeat_listen),
    }
}

fn values(listen: Vec<Located<Address>>) -> Vec<Address> {
    listen.into_iter().map(|address| address.value).collect()
}

fn container(file: ContainerFile) -> Container {
    Container {
        name: file.name,
        spec: file.spec,
        depends_on: file.depends_on.into_iter().map(|d| d.value).collect(),
        stop_grace_period: file.stop_grace_period,
        pull_policy: file.pull_policy,
        readiness: file.readiness.map(|probe| probe.value),
        essential: file.essential,
    }
}

/// A forward input with its listeners settled.
struct Input<'a> {
    settings: forward::Settings,
    file: Option<&'a InputFile>,
}

/// The configured inputs; the default one first where it is not among them.
fn inputs<'a>(file: &'a LogsFile, dirs: &Dirs) -> Vec<Input<'a>> {
    let default_listen = || {
        let mut listen = logs::default_listen();
        listen.push(Address::Unix(dirs.runtime.join("forward.sock")));
        listen
    };
    let mut inputs = Vec::new();
    if !file
        .inputs
        .iter()
        .any(|input| input.name == defaults::INPUT)
    {
        inputs.push(Input {
            settings: forward::Settings {
                name: defaults::INPUT.into(),
                listen: default_listen(),
                max_frame: defaults::MAX_FRAME as usize,
                frame_timeout: defaults::FRAME_TIMEOUT,
            },
            file: None,
        });
    }
    for input in &file.inputs {
        let listen = match &input.listen {
            Some(listen) => values(listen.clone()),
            None if input.name == defaults::INPUT => default_listen(),
            None => Vec::new(),
        };
        inputs.push(Input {
            settings: forward::Settings {
                name: input.name.clone(),
                listen,
                max_frame: usize::try_from(input.max_frame).unwrap_or(usize::MAX),
                frame_timeout: input.frame_timeout,
            },
            file: Some(input),
        });
    }
    inputs
}

fn logs_settings(file: LogsFile, inputs: Vec<forward::Settings>, dirs: &Dirs) -> logs::Settings {
    let mut outputs: Vec<output::Settings> = Vec::new();
    for output in file.outputs {
        let name = output.name;
        outputs.extend(output.kind.map(|kind| output::Settings { name, kind }));
    }
    if outputs.is_empty() {
        outputs.push(output::Settings {
            name: defaults::OUTPUT.into(),
            kind: Kind::Stdout,
        });
    }
    logs::Settings {
        inputs,
        parse: file.parse,
        enrich: file
            .enrich
            .into_iter()
            .map(|(name, template)| (name, template.value))
            .collect(),
        buffer: buffer::Settings {
            dir: file.buffer.dir.unwrap_or_else(|| dirs.state.join("buffer")),
            chunk_size: file.buffer.chunk_size,
            max_chunks: file.buffer.max_chunks,
            flush_interval: file.buffer.flush_interval,
            sync_interval: file.buffer.sync_interval,
            when_full: file.buffer.when_full,
        },
        outputs,
    }
}

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
    Unix(std::path::PathBuf),
}

fn check_ports(file: &File, inputs: &[Input<'_>], report: &Report) {
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
    for input in inputs {
        match input.file.and_then(|file| file.listen.as_ref()) {
            Some(listen) => claims.extend(listen.iter().filter_map(located_claim)),
            None => {
                let name = format!("logs.inputs.{}.listen", input.settings.name);
                claims.extend(default(&name, input.settings.listen.clone()));
                if let Some(file) = input.file
                    && file.is_known
                    && input.settings.listen.is_empty()
                {
                    let text = format!("logs.inputs.{}: listen is missing", file.name);
                    let help = "add listen = \"127.0.0.1:24225\"";
                    report.add(Fault::new(file.place, text).help(help));
                }
            }
        }
    }
    for port in file
        .containers
        .iter()
        .flat_map(|container| &container.ports)
    {
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

fn check_dependencies(containers: &[ContainerFile], report: &Report) {
    let by_name: BTreeMap<&str, &ContainerFile> =
        containers.iter().map(|c| (c.name.as_str(), c)).collect();
    for container in containers {
        for (index, dependency) in container.depends_on.iter().enumerate() {
            let name = &dependency.value.name;
            let fault = |text: String| {
                let text = format!("containers.{}.depends_on: {text}", container.name);
                Fault::new(dependency.place, text)
            };
            if container.depends_on[..index]
                .iter()
                .any(|d| d.value.name == *name)
            {
                report.add(fault(format!("{name:?} is given twice")));
            }
            let Some(other) = by_name.get(name.as_str()) else {
                let others = by_name.keys().copied().filter(|n| *n != container.name);
                let help = suggest(
                    name,
                    &mut others.collect::<Vec<_>>().into_iter(),
                    "containers",
                );
                report.add(fault(format!("no container named {name:?}")).help(help));
                continue;
            };
            if dependency.value.condition == Condition::Ready && other.readiness.is_none() {
                let text = format!("{name:?} has no readiness probe, so it is never ready");
                let help = format!("add containers.{name}.probes.readiness, or use \"started\"");
                report.add(fault(text).help(help));
            }
        }
    }
    check_cycles(containers, &by_name, report);
}

/// Takes away what depends on nothing that is left, until nothing changes: the rest
/// has cycles, and each is named once, from its first member in the file.
fn check_cycles(
    containers: &[ContainerFile],
    by_name: &BTreeMap<&str, &ContainerFile>,
    report: &Report,
) {
    let mut left = by_name.clone();
    loop {
        let free: Vec<&str> = left
            .iter()
            .filter(|(_, c)| {
                !c.depends_on
                    .iter()
                    .any(|d| left.contains_key(d.value.name.as_str()))
            })
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            break;
        }
        for name in free {
            left.remove(name);
        }
    }
    for container in containers {
        let mut walked: Vec<&ContainerFile> = Vec::new();
        let mut at = left.get(container.name.as_str()).copied();
        while let Some(here) = at {
            if let Some(start) = walked.iter().position(|c| c.name == here.name) {
                report_cycle(&walked[start..], report);
                break;
            }
            walked.push(here);
            at = here
                .depends_on
                .iter()
                .find_map(|d| left.get(d.value.name.as_str()).copied());
        }
        for seen in walked {
            left.remove(seen.name.as_str());
        }
    }
}

fn report_cycle(cycle: &[&ContainerFile], report: &Report) {
    let (Some(first), Some(last)) = (cycle.first(), cycle.last()) else {
        return;
    };
    let mut names: Vec<&str> = cycle.iter().map(|c| c.name.as_str()).collect();
    names.push(&first.name);
    let closing = last.depends_on.iter().find(|d| d.value.name == first.name);
    let place = closing.map_or(last.place, |dependency| dependency.place);
    let text = format!(
        "containers.{}.depends_on: a cycle, {}",
        last.name,
        names.join(" -> ")
    );
    report.add(Fault::new(place, text).help("remove one of these dependencies"));
}

/// A probe of the host's loopback must meet a port that the container has there.
fn check_probe(container: &ContainerFile, report: &Report) {
    let Some(probe) = &container.readiness else {
        return;
    };
    let shares_network = container.spec.network_mode.as_deref();
    if shares_network.is_some_and(|mode| mode == "host" || mode.starts_with("container:")) {
        return;
    }
    let Some(address) = loopback(&probe.value.host) else {
        return;
    };
    let port = probe.value.port;
    if is_published(&container.spec, address, port) {
        return;
    }
    let text = format!(
        "{}: port {port} is not published on loopback, so it never answers",
        probe.path
    );
    let help = format!("add ports = [\"{port}:{port}\"], or use network_mode = \"host\"");
    report.add(Fault::new(probe.place, text).help(help));
}

fn is_published(spec: &Spec, address: IpAddr, port: u16) -> bool {
    spec.ports.iter().any(|published| {
        let reaches = match published.host_ip.parse::<IpAddr>() {
            Ok(ip) => ip == address || ip.is_unspecified(),
            Err(_) => true,
        };
        published.host_port == Some(port) && published.protocol == Protocol::Tcp && reaches
    })
}

fn loopback(host: &str) -> Option<IpAddr> {
    if host == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    host.parse::<IpAddr>().ok().filter(IpAddr::is_loopback)
}

fn check_logging(container: &ContainerFile, inputs: &[Input<'_>], report: &Report) {
    let is_ours = matches!(container.spec.logging, Logging::Agent { .. });
    if is_ours && inputs.iter().all(|input| input.settings.listen.is_empty()) {
        let text = format!(
            "containers.{}.logging: logs go to the agent, but no forward input listens",
            container.name
        );
        let help = "give logs.inputs.docker a listen address, or use driver";
        report.add(Fault::new(container.logging_place, text).help(help));
    }
}

/// A fact that nobody knows would keep its field out of every record.
fn check_templates(file: &LogsFile, node: &[(String, String)], report: &Report) {
    let known = || node.iter().map(|(name, _)| name.as_str()).chain(FACTS);
    for (_, template) in &file.enrich {
        let Template(pieces) = &template.value;
        for piece in pieces {
            let Piece::Node(name) = piece else { continue };
            if !known().any(|fact| fact == name) {
                let text = format!("{}: no fact named {name:?}", template.path);
                let help = suggest(name, &mut known(), "facts, besides any key of [node]");
                report.add(Fault::new(template.place, text).help(help));
            }
        }
    }
}

/// An output into an own input would turn each record round for ever.
fn check_loops(file: &LogsFile, inputs: &[Input<'_>], report: &Report) {
    let listeners: Vec<&Address> = inputs.iter().flat_map(|i| &i.settings.listen).collect();
    for server in file.outputs.iter().flat_map(|output| &output.servers) {
        let Some(ip) = loopback(&server.value.host) else {
            continue;
        };
        let is_own = listeners.iter().any(|listener| match listener {
            Address::Tcp(address) => {
                let meets = address.ip() == ip || address.ip().is_unspecified();
                address.port() == server.value.port && meets
            }
            Address::Unix(_) => false,
        });
        if is_own {
            let text = format!("{}: this is the agent's own forward input", server.path);
            let help = "records would go round for ever: name another server";
            report.add(Fault::new(server.place, text).help(help));
        }
    }
}
