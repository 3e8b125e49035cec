//! From the written form to each room's Settings, and what sections say
//! against each other: dependencies, probes, who listens to whom.

use crate::config::dirs::Dirs;
use crate::config::fault::{Fault, Place};
use crate::config::file::{ContainerFile, File, InputFile, JobFile, Located, LogsFile};
use crate::config::read::{Report, suggest};
use crate::config::{Agent, Settings, clashes, defaults};
use crate::listener::Address;
use crate::logs::enrich::{Piece, Template};
use crate::logs::output::{self, Kind};
use crate::logs::{buffer, forward};
use crate::supervise::spec::{Logging, Protocol, Spec};
use crate::supervise::{self, Check, Condition, Container, Dependency, Probe};
use crate::{logs, metrics};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

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
        clashes::check(&file, &inputs, report);
        check_dependencies(&file.containers, &file.jobs, report);
        for container in &file.containers {
            for probe in container.probes.each() {
                check_probe(&container.spec, probe, report);
            }
            let path = format!("containers.{}", container.name);
            let logging = (&container.spec.logging, container.logging_place);
            check_logging(&path, logging, &inputs, report);
        }
        for job in &file.jobs {
            check_job(job, &file.containers, report);
            if let Some(checked) = &job.job {
                let path = format!("jobs.{}", job.name);
                let logging = (&checked.spec.logging, job.logging_place);
                check_logging(&path, logging, &inputs, report);
            }
        }
        check_inputs(&file.logs, report);
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
        machine: file.machine,
        containers: supervise::Settings {
            containers: file.containers.into_iter().map(container).collect(),
            images: file.images.0,
            housekeeping: file.images.1,
        },
        jobs: supervise::jobs::Settings {
            jobs: file.jobs.into_iter().filter_map(|job| job.job).collect(),
        },
        metrics: metrics::Settings {
            listen: listen(file.metrics_listen, defaults::metrics_listen),
            collectors: file.collectors,
            roots: file.roots,
            options: file.metrics,
        },
        container_metrics: metrics::containers::Settings {
            listen: values(file.container_metrics.listen.unwrap_or_default()),
            labels: file.container_metrics.labels,
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
        probes: file.probes.checked(),
        drain: file.drain,
        update: file.update,
        takeover: file.takeover,
        essential: file.essential,
    }
}

/// A forward input with its listeners settled.
pub struct Input<'a> {
    pub settings: forward::Settings,
    /// None: the default input, not written anywhere.
    pub file: Option<&'a InputFile>,
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

fn check_dependencies(containers: &[ContainerFile], jobs: &[JobFile], report: &Report) {
    let by_name: BTreeMap<&str, &ContainerFile> =
        containers.iter().map(|c| (c.name.as_str(), c)).collect();
    for container in containers {
        let mut named = BTreeSet::new();
        for dependency in &container.depends_on {
            let name = &dependency.value.name;
            let fault =
                |text: String| Fault::new(dependency.place, format!("{}: {text}", dependency.path));
            if !named.insert(name) {
                report.add(fault(format!("{name:?} is given twice")));
            }
            let Some(other) = by_name.get(name.as_str()) else {
                if jobs.iter().any(|job| job.name == *name) {
                    let help = "what others wait for is a container that ends: \"completed\"";
                    report.add(fault(format!("{name:?} is a job")).help(help));
                    continue;
                }
                let mut others = by_name.keys().copied().filter(|n| *n != container.name);
                let help = suggest(name, &mut others, "containers");
                report.add(fault(format!("no container named {name:?}")).help(help));
                continue;
            };
            if dependency.value.condition == Condition::Ready && !other.probes.say_ready() {
                let text = format!("{name:?} has no probe that says ready, so it never is");
                let help = format!("add containers.{name}.probes.readiness, or use \"started\"");
                report.add(fault(text).help(help));
            }
        }
    }
    check_cycles(containers, &by_name, report);
}

/// Walks the dependencies depth first, each container once; a dependency on a container
/// of the way walked closes a cycle.
fn check_cycles(
    containers: &[ContainerFile],
    by_name: &BTreeMap<&str, &ContainerFile>,
    report: &Report,
) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for start in containers {
        // The way from `start`, each with its dependencies still to be walked.
        let mut way = Vec::new();
        // Where on the way each container stands.
        let mut standing: BTreeMap<&str, usize> = BTreeMap::new();
        let mut next = seen.insert(&start.name).then_some(start);
        loop {
            if let Some(container) = next.take() {
                standing.insert(&container.name, way.len());
                way.push((container, container.depends_on.iter()));
            }
            let Some((container, dependencies)) = way.last_mut() else {
                break;
            };
            let Some(dependency) = dependencies.next() else {
                standing.remove(container.name.as_str());
                way.pop();
                continue;
            };
            let name = dependency.value.name.as_str();
            if let Some(&first) = standing.get(name) {
                let cycle = way[first..].iter().map(|(c, _)| c.name.as_str());
                let names: Vec<&str> = cycle.chain([name]).collect();
                report_cycle(&names, dependency, report);
            } else if let Some(&other) = by_name.get(name)
                && seen.insert(&other.name)
            {
                next = Some(other);
            }
        }
    }
}

/// `names` ends with its first again.
fn report_cycle(names: &[&str], closing: &Located<Dependency>, report: &Report) {
    const SHOWN: usize = 20;
    let last = names.len().checked_sub(2).map_or("", |last| names[last]);
    let way = match names.len() {
        n if n > SHOWN => format!(
            "{} -> … -> {last} -> {}",
            names[..SHOWN].join(" -> "),
            names[0]
        ),
        _ => names.join(" -> "),
    };
    let text = format!("{}: a cycle, {way}", closing.path);
    report.add(Fault::new(closing.place, text).help("remove one of these dependencies"));
}

/// Only the default input knows where to listen by itself.
fn check_inputs(file: &LogsFile, report: &Report) {
    for input in &file.inputs {
        if input.listen.is_none() && input.is_known && input.name != defaults::INPUT {
            let text = format!("logs.inputs.{}: listen is missing", input.name);
            let help = "add listen = \"127.0.0.1:24225\"";
            report.add(Fault::new(input.place, text).help(help));
        }
    }
}

/// A probe of the host's loopback must meet a port that the container has there.
fn check_probe(spec: &Spec, probe: &Located<Probe>, report: &Report) {
    let shares_network = spec.network_mode.as_deref();
    if shares_network.is_some_and(|mode| mode == "host" || mode.starts_with("container:")) {
        return;
    }
    let (Check::Http { host, port, .. } | Check::Tcp { host, port }) = &probe.value.check else {
        return;
    };
    let Some(address) = loopback(host) else {
        return;
    };
    let port = *port;
    if is_published(spec, address, port) {
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

/// Commands name containers and jobs alike.
fn check_job(job: &JobFile, containers: &[ContainerFile], report: &Report) {
    if containers
        .iter()
        .any(|container| container.name == job.name)
    {
        let text = format!("jobs.{}: a container has this name", job.name);
        report.add(Fault::new(job.place, text).help("rename one of the two"));
    }
}

fn check_logging(
    path: &str,
    (logging, place): (&Logging, Place),
    inputs: &[Input<'_>],
    report: &Report,
) {
    let is_ours = matches!(logging, Logging::Agent { .. });
    if is_ours && inputs.iter().all(|input| input.settings.listen.is_empty()) {
        let text = format!("{path}.logging: logs go to the agent, but no forward input listens");
        let help = "give logs.inputs.docker a listen address, or use driver";
        report.add(Fault::new(place, text).help(help));
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
