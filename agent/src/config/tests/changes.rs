//! Which keys of a container make another container of it, key by key.

use super::documentation::documented;
use super::read;
use crate::supervise::Container;
use std::collections::BTreeSet;

/// Key, and the lines before and after; the hash has to differ.
const REPLACES: &[(&str, &str, &str)] = &[
    ("image", "image = 'a'", "image = 'b'"),
    ("command", "", "command = []"),
    ("entrypoint", "", "entrypoint = '/a'"),
    ("environment", "", "environment = { A = '1' }"),
    ("env_file", "", "env_file = '/a'"),
    (
        "env_file.path",
        "env_file = { path = '/a' }",
        "env_file = { path = '/b' }",
    ),
    (
        "env_file.required",
        "env_file = '/a'",
        "env_file = { path = '/a', required = false }",
    ),
    (
        "env_file.format",
        "env_file = '/a'",
        "env_file = { path = '/a', format = 'raw' }",
    ),
    (
        "secrets.NAME.file",
        "secrets = { A = { file = '/a' } }",
        "secrets = { A = { file = '/b' } }",
    ),
    (
        "secrets.NAME.target",
        "secrets = { A = { file = '/a' } }",
        "secrets = { A = { file = '/a', target = '/a' } }",
    ),
    ("labels", "", "labels = ['a']"),
    ("annotations", "", "annotations = { a = 'b' }"),
    ("ports", "", "ports = '80'"),
    (
        "ports.target",
        "ports = { target = 80 }",
        "ports = { target = 81 }",
    ),
    (
        "ports.published",
        "ports = { target = 80 }",
        "ports = { target = 80, published = '8000-8001' }",
    ),
    (
        "ports.host_ip",
        "ports = { target = 80, published = 1 }",
        "ports = { target = 80, published = 1, host_ip = '::1' }",
    ),
    (
        "ports.protocol",
        "ports = { target = 80 }",
        "ports = { target = 80, protocol = 'udp' }",
    ),
    ("volumes", "", "volumes = '/a'"),
    (
        "volumes.type",
        "volumes = { type = 'volume', target = '/a' }",
        "volumes = { type = 'tmpfs', target = '/a' }",
    ),
    (
        "volumes.source",
        "volumes = { type = 'volume', target = '/a' }",
        "volumes = { type = 'volume', source = 'x', target = '/a' }",
    ),
    (
        "volumes.target",
        "volumes = { type = 'volume', target = '/a' }",
        "volumes = { type = 'volume', target = '/b' }",
    ),
    (
        "volumes.read_only",
        "volumes = { type = 'tmpfs', target = '/a' }",
        "volumes = { type = 'tmpfs', target = '/a', read_only = true }",
    ),
    (
        "volumes.bind.create_host_path",
        "volumes = { type = 'bind', source = '/x', target = '/a' }",
        "volumes = { type = 'bind', source = '/x', target = '/a', bind = { create_host_path = false } }",
    ),
    (
        "volumes.bind.propagation",
        "volumes = { type = 'bind', source = '/x', target = '/a', bind = { create_host_path = false } }",
        "volumes = { type = 'bind', source = '/x', target = '/a', bind = { create_host_path = false, propagation = 'rslave' } }",
    ),
    (
        "volumes.volume.nocopy",
        "volumes = { type = 'volume', target = '/a' }",
        "volumes = { type = 'volume', target = '/a', volume = { nocopy = true } }",
    ),
    (
        "volumes.tmpfs.size",
        "volumes = { type = 'tmpfs', target = '/a' }",
        "volumes = { type = 'tmpfs', target = '/a', tmpfs = { size = '1m' } }",
    ),
    (
        "volumes.tmpfs.mode",
        "volumes = { type = 'tmpfs', target = '/a' }",
        "volumes = { type = 'tmpfs', target = '/a', tmpfs = { mode = 0o700 } }",
    ),
    ("tmpfs", "", "tmpfs = '/a'"),
    ("network_mode", "", "network_mode = 'host'"),
    ("networks", "networks = ['a', 'b']", "networks = ['b', 'a']"),
    (
        "networks.NAME.aliases",
        "networks = ['a']",
        "networks = { a = { aliases = 'x' } }",
    ),
    (
        "networks.NAME.ipv4_address",
        "networks = ['a']",
        "networks = { a = { ipv4_address = '10.0.0.5' } }",
    ),
    (
        "networks.NAME.ipv6_address",
        "networks = ['a']",
        "networks = { a = { ipv6_address = 'fd00::5' } }",
    ),
    (
        "networks.NAME.link_local_ips",
        "networks = ['a']",
        "networks = { a = { link_local_ips = '169.254.8.8' } }",
    ),
    (
        "networks.NAME.mac_address",
        "networks = ['a']",
        "networks = { a = { mac_address = '02:42:ac:11:65:43' } }",
    ),
    (
        "networks.NAME.driver_opts",
        "networks = ['a']",
        "networks = { a = { driver_opts = { a = 'b' } } }",
    ),
    ("mac_address", "", "mac_address = '02:42:ac:11:65:43'"),
    ("pid", "", "pid = 'host'"),
    ("ipc", "", "ipc = 'host'"),
    ("uts", "", "uts = 'host'"),
    ("userns_mode", "", "userns_mode = 'host'"),
    ("cgroup", "", "cgroup = 'private'"),
    ("cgroup_parent", "", "cgroup_parent = '/a'"),
    ("privileged", "", "privileged = true"),
    ("cap_add", "", "cap_add = 'NET_ADMIN'"),
    ("cap_drop", "", "cap_drop = 'ALL'"),
    ("devices", "", "devices = '/dev/kmsg'"),
    (
        "devices.source",
        "devices = { source = '/dev/a', target = '/dev/x' }",
        "devices = { source = '/dev/b', target = '/dev/x' }",
    ),
    (
        "devices.target",
        "devices = { source = '/dev/a' }",
        "devices = { source = '/dev/a', target = '/dev/x' }",
    ),
    (
        "devices.permissions",
        "devices = { source = '/dev/a' }",
        "devices = { source = '/dev/a', permissions = 'r' }",
    ),
    (
        "device_cgroup_rules",
        "",
        "device_cgroup_rules = 'c 1:3 mr'",
    ),
    (
        "ulimits.NAME.soft",
        "ulimits = { core = { soft = 1, hard = 2 } }",
        "ulimits = { core = { soft = 2, hard = 2 } }",
    ),
    (
        "ulimits.NAME.hard",
        "ulimits = { core = { soft = 1, hard = 2 } }",
        "ulimits = { core = { soft = 1, hard = 3 } }",
    ),
    ("sysctls", "", "sysctls = { 'net.core.somaxconn' = 1 }"),
    (
        "security_opt",
        "",
        "security_opt = 'no-new-privileges:true'",
    ),
    ("user", "", "user = 1000"),
    ("group_add", "", "group_add = 44"),
    ("working_dir", "", "working_dir = '/a'"),
    ("hostname", "", "hostname = 'a'"),
    ("domainname", "", "domainname = 'a'"),
    ("read_only", "", "read_only = true"),
    ("init", "", "init = false"),
    ("tty", "", "tty = true"),
    ("stdin_open", "", "stdin_open = true"),
    ("shm_size", "", "shm_size = '1m'"),
    ("storage_opt", "", "storage_opt = { size = '10G' }"),
    ("mem_limit", "", "mem_limit = '10m'"),
    (
        "memswap_limit",
        "mem_limit = '10m'",
        "mem_limit = '10m'\nmemswap_limit = -1",
    ),
    ("mem_reservation", "", "mem_reservation = '10m'"),
    ("mem_swappiness", "", "mem_swappiness = 0"),
    ("cpus", "", "cpus = 1.5"),
    ("cpu_shares", "", "cpu_shares = 2"),
    ("cpuset", "", "cpuset = '0'"),
    ("pids_limit", "", "pids_limit = 5"),
    ("oom_score_adj", "", "oom_score_adj = 5"),
    ("oom_kill_disable", "", "oom_kill_disable = true"),
    ("stop_signal", "", "stop_signal = 'SIGINT'"),
    ("extra_hosts", "", "extra_hosts = 'a:1.1.1.1'"),
    ("dns", "", "dns = '1.1.1.1'"),
    ("dns_search", "", "dns_search = 'a'"),
    ("dns_opt", "", "dns_opt = 'ndots:1'"),
    (
        "logging.tag",
        "logging = { tag = 'a' }",
        "logging = { tag = 'b' }",
    ),
    ("logging.driver", "", "logging = { driver = 'none' }"),
    (
        "logging.options",
        "logging = { driver = 'syslog' }",
        "logging = { driver = 'syslog', options = { tag = 'a' } }",
    ),
    ("platform", "", "platform = 'linux/amd64'"),
    ("runtime", "", "runtime = 'runc'"),
    ("healthcheck.test", "", "healthcheck = { test = 'true' }"),
    (
        "healthcheck.disable",
        "",
        "healthcheck = { disable = true }",
    ),
    (
        "healthcheck.interval",
        "",
        "healthcheck = { interval = '1s' }",
    ),
    (
        "healthcheck.timeout",
        "",
        "healthcheck = { timeout = '1s' }",
    ),
    ("healthcheck.retries", "", "healthcheck = { retries = 1 }"),
    (
        "healthcheck.start_period",
        "",
        "healthcheck = { start_period = '1s' }",
    ),
    (
        "healthcheck.start_interval",
        "",
        "healthcheck = { start_interval = '1s' }",
    ),
];

/// Key, and the lines before and after; the hash has to stay.
const KEEPS: &[(&str, &str, &str)] = &[
    ("depends_on", "", "depends_on = ['bb']"),
    (
        "depends_on.NAME.condition",
        "depends_on = ['bb']",
        "depends_on = { bb = { condition = 'completed' } }",
    ),
    ("stop_grace_period", "", "stop_grace_period = '1s'"),
    ("pull_policy", "", "pull_policy = 'always'"),
    ("essential", "", "essential = false"),
    ("takeover", "", "takeover = 'adopt'"),
    (
        "drain.deregister_wait",
        "",
        "drain = { deregister_wait = '1s' }",
    ),
    ("drain.connections", "", "drain = { connections = '1s' }"),
    ("update.apply", "", "update = { apply = 'manual' }"),
    ("update.order", "", "update = { order = 'overlap' }"),
    ("update.rollback", "", "update = { rollback = true }"),
    (
        "update.ready_within",
        "",
        "update = { ready_within = '1s' }",
    ),
    (
        "probes.readiness.http",
        "",
        "network_mode = 'host'\nprobes = { readiness = { http = ':80' } }",
    ),
];

fn container(lines: &str) -> Container {
    let image = match lines.contains("image =") {
        true => "",
        false => "image = 'a'\n",
    };
    let text = format!("[containers.aa]\n{image}{lines}\n[containers.bb]\nimage = 'b'\n");
    let settings = read(&[&text]).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    settings.containers.containers[0].clone()
}

#[test]
fn every_key_that_docker_is_told_replaces_and_no_other_does() {
    let address = Some("unix:///a");
    for (key, before, after) in REPLACES {
        let (before, after) = (container(before), container(after));
        assert_ne!(before.spec.hash(address), after.spec.hash(address), "{key}");
    }
    for (key, before, after) in KEEPS {
        // The probe of a port needs one: the same network on both sides.
        let network = match after.split_once('\n') {
            Some((network, _)) => network,
            None => before,
        };
        let (before, after) = (container(network), container(after));
        assert_ne!(before, after, "{key}");
        assert_eq!(before.spec, after.spec, "{key}");
        assert_eq!(before.spec.hash(address), after.spec.hash(address), "{key}");
    }
    // No two changes look the same.
    let mut hashes: Vec<String> = REPLACES
        .iter()
        .map(|(_, _, after)| container(after).spec.hash(address))
        .collect();
    let n_hashes = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), n_hashes);
}

#[test]
fn every_documented_key_of_a_container_is_in_one_of_the_lists() {
    let listed: BTreeSet<&str> = REPLACES.iter().chain(KEEPS).map(|(key, ..)| *key).collect();
    for key in documented().into_keys() {
        let Some(key) = key.strip_prefix("containers.NAME.") else {
            continue;
        };
        // A spec has no probes: one of them stands for all.
        let key = match key.starts_with("probes.") {
            true => "probes.readiness.http",
            false => key,
        };
        assert!(
            listed.contains(key),
            "{key} has no test whether it replaces"
        );
    }
}

/// Hashes of labels that are on hosts; another one here would replace those containers.
#[test]
fn hashes_of_former_releases_stay() {
    let text = include_str!("former.toml");
    let settings = read(&[text]).unwrap_or_else(|faults| panic!("{faults}"));
    let hashes: Vec<String> = settings
        .containers
        .containers
        .iter()
        .map(|container| {
            let hash = container.spec.hash(Some("unix:///run/agent/forward.sock"));
            format!("{} {hash}", container.name)
        })
        .collect();
    assert_eq!(hashes.join("\n"), include_str!("former.txt").trim_end());
}
