//! `[containers.NAME]` as written, in Compose's words. What one container's
//! own keys say against each other is told here, the rest by `validate`.

use super::Located;
use super::probes::{ProbesFile, probes};
use crate::config::compose::{
    check_capability, check_device, check_image, check_ip, check_volume, cpuset, nano_cpus, signal,
};
use crate::config::defaults;
use crate::config::fault::{Place, quoted};
use crate::config::read::{Item, Table, Wrong};
use crate::supervise::spec::{Logging, Port, Spec, Ulimit};
use crate::supervise::{Condition, Dependency, PullPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Docker refuses less (`mem_limit` below 6 MiB).
const LEAST_MEMORY: u64 = 6 << 20;
/// Longest name that leaves room for suffixes in a file name of 255 bytes.
const LONGEST_NAME: usize = 200;

pub const CONDITIONS: [(&str, Condition); 3] = [
    ("started", Condition::Started),
    ("ready", Condition::Ready),
    ("completed", Condition::Completed),
];
pub const PULL_POLICIES: [(&str, PullPolicy); 3] = [
    ("missing", PullPolicy::Missing),
    ("always", PullPolicy::Always),
    ("never", PullPolicy::Never),
];

#[derive(Debug)]
pub struct ContainerFile {
    pub name: String,
    pub spec: Spec,
    /// The ports of `spec` again, with their places.
    pub ports: Vec<Located<Port>>,
    pub depends_on: Vec<Located<Dependency>>,
    pub stop_grace_period: Duration,
    pub pull_policy: PullPolicy,
    pub probes: ProbesFile,
    pub essential: bool,
    /// Where `logging` stands, for the check that someone listens.
    pub logging_place: Place,
}

pub fn container(name: &str, table: &mut Table<'_>) -> ContainerFile {
    if let Err(text) = check_name(name) {
        table.fault(text);
    }
    let logging = table.take("logging");
    let logging_place = logging.place();
    let (spec, ports) = spec(table, logging);
    ContainerFile {
        name: name.into(),
        spec,
        ports,
        depends_on: depends_on(table.take("depends_on")),
        stop_grace_period: table
            .take("stop_grace_period")
            .duration_or_zero()
            .unwrap_or(defaults::STOP_GRACE_PERIOD),
        pull_policy: table
            .take("pull_policy")
            .choice(&PULL_POLICIES, &[])
            .unwrap_or_default(),
        probes: probes(table.take("probes")),
        essential: table.take("essential").bool().unwrap_or(true),
        logging_place,
    }
}

/// Docker's own rule, and a bound.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let first = name.bytes().next().unwrap_or(b'-');
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if !first.is_ascii_alphanumeric() || name.len() < 2 || !name.bytes().all(is_allowed) {
        return Err(
            "a name has two or more of letters, digits, \"_\", \".\", \"-\", \
                    the first a letter or digit",
        );
    }
    if name.len() > LONGEST_NAME {
        return Err("the name is longer than 200 characters");
    }
    Ok(())
}

pub(super) fn spec(table: &mut Table<'_>, logging: Item<'_>) -> (Spec, Vec<Located<Port>>) {
    let image = table.take("image");
    if !image.is_there() {
        table.missing("image", "\"name:tag\"");
    }
    let (network_mode, ports) = network(table);
    let (privileged, cap_add, cap_drop) = rights(table);
    let (mem_limit, memswap_limit) = memory(table);
    let volumes = table.take("volumes");
    let volumes_place = volumes.place();
    let volumes = volumes.strings(check_volume);
    let tmpfs = tmpfs(table.take("tmpfs"));
    check_targets(table, volumes_place, &volumes, &tmpfs);
    let spec = Spec {
        image: image
            .parse("a string such as \"name:tag\"", check_image)
            .unwrap_or_default(),
        command: table.take("command").words(),
        entrypoint: table.take("entrypoint").words(),
        environment: table.take("environment").map(),
        labels: table.take("labels").map(),
        ports: ports.iter().map(|port| port.value.clone()).collect(),
        volumes,
        tmpfs,
        network_mode,
        pid: shared(table.take("pid"), &["host"]),
        ipc: shared(table.take("ipc"), &["host", "private", "shareable", "none"]),
        uts: shared(table.take("uts"), &["host"]),
        privileged,
        cap_add,
        cap_drop,
        devices: table.take("devices").strings(check_device),
        ulimits: ulimits(table.take("ulimits")),
        sysctls: table.take("sysctls").map(),
        security_opt: table.take("security_opt").strings(not_empty),
        user: table
            .take("user")
            .scalar("a user such as \"1000:1000\"", text),
        working_dir: table.take("working_dir").path_buf().map(path_text),
        hostname: table.take("hostname").parse("a host name", text),
        read_only: table.take("read_only").bool().unwrap_or_default(),
        init: table.take("init").bool(),
        shm_size: table.take("shm_size").size(1, u64::MAX >> 1),
        mem_limit,
        memswap_limit,
        nano_cpus: table.take("cpus").scalar("a number such as 1.5", nano_cpus),
        cpuset: table
            .take("cpuset")
            .scalar("CPUs such as \"0-2,5\"", cpuset),
        pids_limit: table.take("pids_limit").integer(-1, i64::MAX),
        oom_score_adj: table.take("oom_score_adj").integer(-1000, 1000),
        stop_signal: table
            .take("stop_signal")
            .scalar("a signal such as \"SIGTERM\"", signal),
        extra_hosts: extra_hosts(table.take("extra_hosts")),
        dns: table.take("dns").strings(check_ip),
        logging: logging_of(logging),
    };
    (spec, ports)
}

fn network(table: &mut Table<'_>) -> (Option<String>, Vec<Located<Port>>) {
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
    (mode, ports)
}

fn rights(table: &mut Table<'_>) -> (bool, Vec<String>, Vec<String>) {
    let privileged = table.take("privileged").bool().unwrap_or_default();
    let cap_add = table.take("cap_add").strings(check_capability);
    let item = table.take("cap_drop");
    let place = item.place();
    let cap_drop = item.strings(check_capability);
    if privileged && !cap_drop.is_empty() {
        let text = "drops nothing from a privileged container";
        let help = "remove privileged and list cap_add, or remove cap_drop";
        table.fault_at(place, "cap_drop", text, help);
    }
    (privileged, cap_add, cap_drop)
}

fn memory(table: &mut Table<'_>) -> (Option<u64>, Option<u64>) {
    let limit = table.take("mem_limit").size(LEAST_MEMORY, u64::MAX >> 1);
    let item = table.take("memswap_limit");
    let place = item.place();
    let swap = item.size(LEAST_MEMORY, u64::MAX >> 1);
    match (limit, swap) {
        (None, Some(_)) => {
            let help = "it bounds memory and swap together: set mem_limit as well";
            table.fault_at(
                place,
                "memswap_limit",
                "means nothing without mem_limit",
                help,
            );
        }
        (Some(limit), Some(swap)) if swap < limit => {
            let help = "it bounds memory and swap together";
            table.fault_at(place, "memswap_limit", "is less than mem_limit", help);
        }
        _ => {}
    }
    (limit, swap)
}

/// A list means "started"; a table names the condition of each.
fn depends_on(item: Item<'_>) -> Vec<Located<Dependency>> {
    let mut found: Vec<Located<Dependency>> = Vec::new();
    if item.is_table() {
        for (name, item) in item.pairs() {
            if let Some(condition) = item.choice(&CONDITIONS, &[]) {
                found.push(Located::of(&item, Dependency { name, condition }));
            }
        }
        return found;
    }
    for item in item.list().unwrap_or_default() {
        let name = item.parse("a container's name, or a table of names", text);
        found.extend(name.map(|name| {
            let condition = Condition::Started;
            Located::of(&item, Dependency { name, condition })
        }));
    }
    found
}

fn logging_of(item: Item<'_>) -> Logging {
    let is_there = item.is_there();
    item.table(|table| {
        let tag = table.take("tag").parse("a tag", text);
        let driver = table.take("driver").parse("a log driver", text);
        let options = table.take("options");
        let has_options = options.is_there();
        let options = options.map();
        match (tag, driver) {
            (Some(_), Some(_)) => {
                table.fault("has both tag (logs to the agent) and driver (logs elsewhere)");
                Logging::Default
            }
            (Some(_), None) if has_options => {
                table.fault("options belong to driver, not to tag");
                Logging::Default
            }
            (Some(tag), None) => Logging::Agent { tag },
            (None, Some(driver)) => Logging::Driver { driver, options },
            (None, None) => {
                if is_there {
                    table.fault("names neither tag nor driver");
                }
                Logging::Default
            }
        }
    })
}

fn tmpfs(item: Item<'_>) -> BTreeMap<String, String> {
    if item.is_table() {
        return item.map();
    }
    let lines = item.strings(|text| match text.starts_with('/') {
        true => Ok(()),
        false => Err(Wrong::new(format!("{} is no absolute path", quoted(text)))),
    });
    let split = |line: String| match line.split_once(':') {
        Some((path, options)) => (path.into(), options.into()),
        None => (line, String::new()),
    };
    lines.into_iter().map(split).collect()
}

/// Docker refuses two mounts at one path, but only when it creates the container.
fn check_targets(
    table: &Table<'_>,
    place: Place,
    volumes: &[String],
    tmpfs: &BTreeMap<String, String>,
) {
    let mut seen: BTreeSet<&str> = tmpfs.keys().map(String::as_str).collect();
    for target in volumes.iter().filter_map(|volume| volume.split(':').nth(1)) {
        if !seen.insert(target) {
            let text = format!("two mounts at {}", quoted(target));
            table.fault_at(place, "volumes", &text, "each path can be mounted once");
        }
    }
}

fn extra_hosts(item: Item<'_>) -> Vec<String> {
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

fn ulimits(item: Item<'_>) -> BTreeMap<String, Ulimit> {
    let pairs = item.pairs().into_iter();
    pairs
        .filter_map(|(name, item)| Some((name, item.ulimit()?)))
        .collect()
}

/// A namespace: one of `words`, or another container's.
fn shared(item: Item<'_>, words: &[&str]) -> Option<String> {
    item.parse("a namespace such as \"host\"", |text| {
        let other = text.strip_prefix("container:");
        if words.contains(&text) || other.is_some_and(|name| !name.is_empty()) {
            return Ok(text.to_string());
        }
        let words = words.join(", ");
        Err(Wrong::new(format!("unknown namespace {}", quoted(text)))
            .help(format!("words here: {words}, container:NAME")))
    })
}

fn text(text: &str) -> Result<String, Wrong> {
    not_empty(text).map(|()| text.to_string())
}

fn not_empty(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("is empty"));
    }
    Ok(())
}

fn path_text(path: std::path::PathBuf) -> String {
    path.to_string_lossy().into_owned()
}
