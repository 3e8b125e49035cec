//! `[containers.NAME]` as written, in Compose's words. What one container's
//! own keys say against each other is told here, the rest by `validate`.

mod change;
mod environment;
mod health;
mod limits;
mod network;
mod storage;

pub use change::{APPLIES, ORDERS, TAKEOVERS};
pub use environment::{ENV_FORMATS, MASK};
pub use storage::PROPAGATIONS;

use super::Located;
use super::probes::{ProbesFile, probes};
use crate::config::compose::{
    check_capability, check_image, check_ip, check_platform, cpuset, nano_cpus, signal,
};
use crate::config::defaults;
use crate::config::fault::{Place, quoted};
use crate::config::read::{Item, Table, Wrong};
use crate::supervise::spec::{Logging, Port, Spec};
use crate::supervise::{Condition, Dependency, Drain, PullPolicy, Takeover, Update};
use std::time::Duration;

/// Longest name that leaves room for suffixes in a file name of 255 bytes.
const LONGEST_NAME: usize = 200;

/// Our words first, then Compose's.
pub const CONDITIONS: [(&str, Condition); 6] = [
    ("started", Condition::Started),
    ("ready", Condition::Ready),
    ("completed", Condition::Completed),
    ("service_started", Condition::Started),
    ("service_healthy", Condition::Ready),
    ("service_completed_successfully", Condition::Completed),
];
pub const PULL_POLICIES: [(&str, PullPolicy); 4] = [
    ("missing", PullPolicy::Missing),
    ("always", PullPolicy::Always),
    ("never", PullPolicy::Never),
    ("if_not_present", PullPolicy::Missing),
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
    pub drain: Drain,
    pub update: Update,
    pub takeover: Takeover,
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
    let drain = table.take("drain").table(change::drain);
    let update = change::update(table.take("update"), &spec);
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
        drain,
        update,
        takeover: table
            .take("takeover")
            .choice(&TAKEOVERS, &[])
            .unwrap_or_default(),
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
    let (privileged, cap_add, cap_drop) = rights(table);
    let storage::Storage {
        volumes,
        mounts,
        tmpfs,
        secrets,
    } = storage::storage(table);
    let (environment, env_files) = environment::environment(table, &secrets);
    let network::Networking {
        network_mode,
        networks,
        ports,
        mac_address,
    } = network::networking(table);
    let spec = Spec {
        image: image
            .parse("a string such as \"name:tag\"", check_image)
            .unwrap_or_default(),
        command: table.take("command").words(),
        entrypoint: table.take("entrypoint").words(),
        environment,
        env_files,
        secrets,
        labels: table.take("labels").labels(),
        ports: ports.iter().map(|port| port.value.clone()).collect(),
        volumes,
        mounts,
        tmpfs,
        network_mode,
        networks,
        mac_address,
        pid: shared(table.take("pid"), &["host"]),
        ipc: shared(table.take("ipc"), &["host", "private", "shareable", "none"]),
        uts: shared(table.take("uts"), &["host"]),
        privileged,
        cap_add,
        cap_drop,
        devices: limits::devices(table.take("devices")),
        ulimits: limits::ulimits(table.take("ulimits")),
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
        nano_cpus: table.take("cpus").scalar("a number such as 1.5", nano_cpus),
        cpuset: table
            .take("cpuset")
            .scalar("CPUs such as \"0-2,5\"", cpuset),
        pids_limit: table.take("pids_limit").integer(-1, i64::MAX),
        oom_score_adj: table.take("oom_score_adj").integer(-1000, 1000),
        stop_signal: table
            .take("stop_signal")
            .scalar("a signal such as \"SIGTERM\"", signal),
        extra_hosts: network::extra_hosts(table.take("extra_hosts")),
        dns: table.take("dns").strings(check_ip),
        logging: logging_of(logging),
        domainname: table.take("domainname").parse("a domain", text),
        dns_search: table.take("dns_search").strings(not_empty),
        dns_opt: table.take("dns_opt").strings(not_empty),
        group_add: limits::groups(table.take("group_add")),
        userns_mode: word(table.take("userns_mode"), &["host"]),
        cgroup: word(table.take("cgroup"), &["host", "private"]),
        cgroup_parent: table.take("cgroup_parent").parse("a cgroup", text),
        device_cgroup_rules: table
            .take("device_cgroup_rules")
            .strings(limits::check_device_rule),
        storage_opt: table.take("storage_opt").map(),
        mem_swappiness: table.take("mem_swappiness").integer(0, 100),
        cpu_shares: table.take("cpu_shares").integer(2, 262_144),
        oom_kill_disable: table.take("oom_kill_disable").bool().unwrap_or_default(),
        healthcheck: table.take("healthcheck").table(health::healthcheck),
        platform: table
            .take("platform")
            .parse("a platform such as \"linux/amd64\"", check_platform),
        runtime: table
            .take("runtime")
            .parse("a runtime such as \"runc\"", text),
        annotations: table.take("annotations").labels(),
        tty: table.take("tty").bool().unwrap_or_default(),
        stdin_open: table.take("stdin_open").bool().unwrap_or_default(),
        ..limits::memory(table)
    };
    (spec, ports)
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

/// A list means "started"; a table names the condition of each.
fn depends_on(item: Item<'_>) -> Vec<Located<Dependency>> {
    let mut found: Vec<Located<Dependency>> = Vec::new();
    if item.is_table() {
        for (name, item) in item.pairs() {
            let condition = match item.is_table() {
                true => item.copy().table(|table| {
                    let condition = table.take("condition");
                    if !condition.is_there() {
                        table.missing("condition", "\"started\"");
                    }
                    condition.choice(&CONDITIONS, &[])
                }),
                false => item.choice(&CONDITIONS, &[]),
            };
            if let Some(condition) = condition {
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

fn word(item: Item<'_>, words: &[&str]) -> Option<String> {
    let choices: Vec<(&str, &str)> = words.iter().map(|word| (*word, *word)).collect();
    item.choice(&choices, &[]).map(str::to_string)
}

fn text(text: &str) -> Result<String, Wrong> {
    not_empty(text).map(|()| text.to_string())
}

fn not_empty(text: &str) -> Result<(), Wrong> {
    if text.is_empty() {
        return Err(Wrong::new("is empty"));
    }
    Ok(())
}

fn path_text(path: std::path::PathBuf) -> String {
    path.to_string_lossy().into_owned()
}
