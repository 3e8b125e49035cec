//! `[containers.*]` back to TOML.

use super::{Page, array, duration, filled, key, map, string, table, word};
use crate::config::compose::port_text;
use crate::config::file::{
    APPLIES, CONDITIONS, ENV_FORMATS, MASK, ORDERS, PROPAGATIONS, PULL_POLICIES, TAKEOVERS,
};
use crate::config::values::{server_text, size_text};
use crate::supervise::spec::{
    EnvFile, Healthcheck, Logging, Mount, MountKind, Network, SecretSource, SecretUse, Spec,
};
use crate::supervise::{Check, Container, Probe};
use std::collections::BTreeMap;

pub fn container(page: &mut Page, container: &Container) {
    let name = format!("containers.{}", key(&container.name));
    page.section(&name);
    spec(page, &container.spec);
    let depends_on = container.depends_on.iter();
    let depends_on: Vec<(String, String)> = depends_on
        .map(|d| (d.name.clone(), word(&CONDITIONS, &d.condition)))
        .collect();
    page.some("depends_on", table(&depends_on));
    page.line("stop_grace_period", &duration(container.stop_grace_period));
    page.line("pull_policy", &word(&PULL_POLICIES, &container.pull_policy));
    page.line("essential", &container.essential.to_string());
    page.line("takeover", &word(&TAKEOVERS, &container.takeover));
    page.section(&format!("{name}.drain"));
    page.line(
        "deregister_wait",
        &duration(container.drain.deregister_wait),
    );
    page.line("connections", &duration(container.drain.connections));
    page.section(&format!("{name}.update"));
    page.line("apply", &word(&APPLIES, &container.update.apply));
    page.line("order", &word(&ORDERS, &container.update.order));
    page.line("rollback", &container.update.rollback.to_string());
    page.line("ready_within", &duration(container.update.ready_within));
    let probes = &container.probes;
    let probes = [
        ("startup", &probes.startup),
        ("readiness", &probes.readiness),
        ("liveness", &probes.liveness),
    ];
    for (word, each) in probes {
        if let Some(each) = each {
            page.section(&format!("{name}.probes.{word}"));
            probe(page, each);
        }
    }
}

pub(super) fn spec(page: &mut Page, spec: &Spec) {
    page.line("image", &string(&spec.image));
    page.some("command", spec.command.as_deref().map(array));
    page.some("entrypoint", spec.entrypoint.as_deref().map(array));
    page.some("environment", masked(&spec.environment));
    page.some("env_file", env_files(&spec.env_files));
    page.some("secrets", secrets(&spec.secrets));
    page.some("labels", map(&spec.labels));
    let ports: Vec<String> = spec.ports.iter().map(port_text).collect();
    page.some("ports", filled(&ports));
    page.some("volumes", volumes(spec));
    page.some("networks", networks(&spec.networks));
    page.some("tmpfs", map(&spec.tmpfs));
    let words = [
        ("network_mode", &spec.network_mode),
        ("pid", &spec.pid),
        ("ipc", &spec.ipc),
        ("uts", &spec.uts),
        ("user", &spec.user),
        ("working_dir", &spec.working_dir),
        ("hostname", &spec.hostname),
        ("cpuset", &spec.cpuset),
        ("stop_signal", &spec.stop_signal),
        ("mac_address", &spec.mac_address),
        ("domainname", &spec.domainname),
        ("userns_mode", &spec.userns_mode),
        ("cgroup", &spec.cgroup),
        ("cgroup_parent", &spec.cgroup_parent),
        ("platform", &spec.platform),
        ("runtime", &spec.runtime),
    ];
    for (key, value) in words {
        page.some(key, value.as_deref().map(string));
    }
    page.line("privileged", &spec.privileged.to_string());
    page.line("read_only", &spec.read_only.to_string());
    page.some("init", spec.init.map(|init| init.to_string()));
    page.some("cap_add", filled(&spec.cap_add));
    page.some("cap_drop", filled(&spec.cap_drop));
    page.some("devices", filled(&spec.devices));
    page.some("security_opt", filled(&spec.security_opt));
    page.some("extra_hosts", filled(&spec.extra_hosts));
    page.some("dns", filled(&spec.dns));
    page.some("dns_search", filled(&spec.dns_search));
    page.some("dns_opt", filled(&spec.dns_opt));
    page.some("group_add", filled(&spec.group_add));
    page.some("device_cgroup_rules", filled(&spec.device_cgroup_rules));
    page.some("storage_opt", map(&spec.storage_opt));
    page.some("annotations", map(&spec.annotations));
    page.line("oom_kill_disable", &spec.oom_kill_disable.to_string());
    page.line("tty", &spec.tty.to_string());
    page.line("stdin_open", &spec.stdin_open.to_string());
    page.some(
        "healthcheck",
        spec.healthcheck.as_ref().and_then(healthcheck),
    );
    page.some("sysctls", map(&spec.sysctls));
    let ulimits = spec.ulimits.iter();
    let ulimits: Vec<(String, String)> = ulimits
        .map(|(name, limit)| {
            let text = format!("{{ soft = {}, hard = {} }}", limit.soft, limit.hard);
            (name.clone(), text)
        })
        .collect();
    page.some("ulimits", table(&ulimits));
    let size = |bytes: Option<u64>| bytes.map(|bytes| string(&size_text(bytes)));
    page.some("shm_size", size(spec.shm_size));
    page.some("mem_limit", size(spec.mem_limit));
    let swap = spec.memswap_limit.map(|swap| match u64::try_from(swap) {
        Ok(bytes) => string(&size_text(bytes)),
        Err(_) => "-1".into(),
    });
    page.some("memswap_limit", swap);
    page.some("mem_reservation", size(spec.mem_reservation));
    page.some("mem_swappiness", spec.mem_swappiness.map(|n| n.to_string()));
    page.some("cpu_shares", spec.cpu_shares.map(|n| n.to_string()));
    page.some("cpus", spec.nano_cpus.map(cpus));
    page.some("pids_limit", spec.pids_limit.map(|n| n.to_string()));
    page.some("oom_score_adj", spec.oom_score_adj.map(|n| n.to_string()));
    page.some("logging", logging(&spec.logging));
}

fn logging(logging: &Logging) -> Option<String> {
    match logging {
        Logging::Default => None,
        Logging::Agent { tag } => table(&[("tag".into(), string(tag))]),
        Logging::Driver { driver, options } => {
            let mut pairs = vec![("driver".into(), string(driver))];
            pairs.extend(masked(options).map(|options| ("options".into(), options)));
            table(&pairs)
        }
    }
}

fn probe(page: &mut Page, probe: &Probe) {
    match &probe.check {
        Check::Http { host, port, path } => {
            let target = server_text(host, *port) + path;
            page.line("http", &string(&target));
        }
        Check::Tcp { host, port } => page.line("tcp", &string(&server_text(host, *port))),
        Check::Exec { command } => page.line("exec", &array(command)),
        Check::Docker => page.line("docker", "true"),
    }
    page.line("period", &duration(probe.period));
    page.line("timeout", &duration(probe.timeout));
    page.line("failures", &probe.failures.to_string());
    page.line("successes", &probe.successes.to_string());
}

/// Variables, but for the values of those that look like secrets.
fn masked(variables: &BTreeMap<String, String>) -> Option<String> {
    let shown = |(name, value): (&String, &String)| match looks_secret(name, value) {
        true => (name.clone(), MASK.to_string()),
        false => (name.clone(), value.clone()),
    };
    map(&variables.iter().map(shown).collect())
}

/// By its name, or a login inside a URL.
fn looks_secret(name: &str, value: &str) -> bool {
    const WORDS: [&str; 10] = [
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "SECRET",
        "TOKEN",
        "CREDENTIAL",
        "APIKEY",
        "ACCESSKEY",
        "PRIVATEKEY",
        "AUTHKEY",
    ];
    let mut bare = name.to_ascii_uppercase();
    bare.retain(|c| c.is_ascii_alphanumeric());
    if value.is_empty() {
        return false;
    }
    let login = value.split_once("://").and_then(|(_, rest)| {
        let authority = rest.split(['/', '?', '#']).next()?;
        authority.rsplit_once('@')
    });
    WORDS.iter().any(|word| bare.contains(word))
        || login.is_some_and(|(user, _)| user.contains(':'))
}

fn list(items: Vec<String>) -> Option<String> {
    (!items.is_empty()).then(|| format!("[{}]", items.join(", ")))
}

fn env_files(files: &[EnvFile]) -> Option<String> {
    let line = |file: &EnvFile| {
        let pairs = [
            ("path".into(), super::path(&file.path)),
            ("required".into(), file.required.to_string()),
            ("format".into(), word(&ENV_FORMATS, &file.format)),
        ];
        table(&pairs)
    };
    list(files.iter().filter_map(line).collect())
}

fn secrets(secrets: &BTreeMap<String, SecretUse>) -> Option<String> {
    let mut pairs = Vec::new();
    for (name, secret) in secrets {
        let SecretSource::File(path) = &secret.source;
        let mut place = vec![("file".into(), super::path(path))];
        let target = secret.target.as_deref().map(string);
        place.extend(target.map(|target| ("target".into(), target)));
        pairs.extend(table(&place).map(|place| (name.clone(), place)));
    }
    table(&pairs)
}

fn volumes(spec: &Spec) -> Option<String> {
    let short = spec.volumes.iter().map(|volume| string(volume));
    list(short.chain(spec.mounts.iter().filter_map(mount)).collect())
}

fn mount(mount: &Mount) -> Option<String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut more = Vec::new();
    let (kind, source) = match &mount.kind {
        MountKind::Bind {
            source,
            propagation,
        } => {
            more.push(("create_host_path".into(), "false".into()));
            let word = propagation.map(|propagation| word(&PROPAGATIONS, &propagation));
            more.extend(word.map(|word| ("propagation".into(), word)));
            ("bind", Some(source))
        }
        MountKind::Volume { source, nocopy } => {
            more.push(("nocopy".into(), nocopy.to_string()));
            ("volume", source.as_ref())
        }
        MountKind::Tmpfs { size, mode } => {
            more.extend(size.map(|size| ("size".into(), string(&size_text(size)))));
            more.extend(mode.map(|mode| ("mode".into(), format!("0o{mode:o}"))));
            ("tmpfs", None)
        }
    };
    pairs.push(("type".into(), string(kind)));
    pairs.extend(source.map(|source| ("source".into(), string(source))));
    pairs.push(("target".into(), string(&mount.target)));
    pairs.push(("read_only".into(), mount.read_only.to_string()));
    pairs.extend(table(&more).map(|more| (kind.into(), more)));
    table(&pairs)
}

fn networks(networks: &[Network]) -> Option<String> {
    let mut all = Vec::new();
    for network in networks {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut some = |key: &str, value: Option<String>| {
            pairs.extend(value.map(|value| (key.into(), value)));
        };
        some("aliases", filled(&network.aliases));
        some("ipv4_address", network.ipv4_address.as_deref().map(string));
        some("ipv6_address", network.ipv6_address.as_deref().map(string));
        some("link_local_ips", filled(&network.link_local_ips));
        some("mac_address", network.mac_address.as_deref().map(string));
        some("driver_opts", map(&network.driver_opts));
        let place = table(&pairs).unwrap_or_else(|| "{}".into());
        all.push((network.name.clone(), place));
    }
    table(&all)
}

fn healthcheck(check: &Healthcheck) -> Option<String> {
    let times = [
        ("interval", check.interval),
        ("timeout", check.timeout),
        ("start_period", check.start_period),
        ("start_interval", check.start_interval),
    ];
    let mut pairs: Vec<(String, String)> = Vec::new();
    pairs.extend(
        check
            .test
            .as_deref()
            .map(|test| ("test".into(), array(test))),
    );
    for (key, time) in times {
        pairs.extend(time.map(|time| (key.into(), duration(time))));
    }
    pairs.extend(check.retries.map(|n| ("retries".into(), n.to_string())));
    table(&pairs)
}

/// Nanocpus are multiples of a millionth of a CPU.
fn cpus(nano: u64) -> String {
    format!(
        "{}.{:06}",
        nano / 1_000_000_000,
        nano % 1_000_000_000 / 1000
    )
}
