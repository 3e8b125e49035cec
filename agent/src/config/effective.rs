//! Settings back to TOML: every key with the value that holds, defaults included.
//! Loading the text gives equal Settings. A `Secret` would never be printed;
//! environment values are no secrets to this version and are.

use crate::config::Settings;
use crate::config::compose::port_text;
use crate::config::file::{CONDITIONS, FORMS, LEVELS, PULL_POLICIES, WHEN_FULL};
use crate::config::values::{duration_text, server_text, size_text};
use crate::listener::Address;
use crate::logs::enrich::{Piece, Template};
use crate::logs::output::{self, Kind};
use crate::logs::{buffer, forward};
use crate::supervise::spec::{Logging, Spec};
use crate::supervise::{Container, Probe};
use crate::{logs, metrics};
use std::collections::BTreeMap;
use std::path::Path;

/// The whole of `settings` as a configuration file.
pub fn text(settings: &Settings) -> String {
    let mut page = Page::default();
    agent(&mut page, settings);
    page.section("node");
    for (name, value) in &settings.node {
        page.line(&key(name), &string(value));
    }
    page.section("cloud");
    page.line("imds", &settings.cloud.imds.to_string());
    page.some("endpoint", settings.cloud.endpoint.as_deref().map(string));
    page.section("docker");
    page.line("socket", &path(&settings.docker.socket));
    page.line("timeout", &duration(settings.docker.timeout));
    for each in &settings.containers.containers {
        container(&mut page, each);
    }
    metrics(&mut page, &settings.metrics);
    page.section("metrics.containers");
    page.line("listen", &addresses(&settings.container_metrics.listen));
    page.line("labels", &settings.container_metrics.labels.to_string());
    page.section("heartbeat");
    page.line("listen", &addresses(&settings.heartbeat));
    logs(&mut page, &settings.logs);
    page.0
}

fn agent(page: &mut Page, settings: &Settings) {
    page.section("agent");
    page.line("state_dir", &path(&settings.agent.state_dir));
    page.line("control", &path(&settings.agent.control));
    page.line("stop_timeout", &duration(settings.agent.stop_timeout));
    page.section("agent.log");
    page.line("level", &word(&LEVELS, &settings.telemetry.level));
    page.line("format", &word(&FORMS, &settings.telemetry.form));
}

fn container(page: &mut Page, container: &Container) {
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
    if let Some(readiness) = &container.readiness {
        page.section(&format!("{name}.probes.readiness"));
        probe(page, readiness);
    }
}

fn spec(page: &mut Page, spec: &Spec) {
    page.line("image", &string(&spec.image));
    page.some("command", spec.command.as_deref().map(array));
    page.some("entrypoint", spec.entrypoint.as_deref().map(array));
    page.some("environment", map(&spec.environment));
    page.some("labels", map(&spec.labels));
    let ports: Vec<String> = spec.ports.iter().map(port_text).collect();
    page.some("ports", filled(&ports));
    page.some("volumes", filled(&spec.volumes));
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
    page.some("memswap_limit", size(spec.memswap_limit));
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
            pairs.extend(map(options).map(|options| ("options".into(), options)));
            table(&pairs)
        }
    }
}

fn probe(page: &mut Page, probe: &Probe) {
    let target = server_text(&probe.host, probe.port) + &probe.path;
    page.line("http", &string(&target));
    page.line("period", &duration(probe.period));
    page.line("timeout", &duration(probe.timeout));
    page.line("failures", &probe.failures.to_string());
    page.line("successes", &probe.successes.to_string());
}

fn metrics(page: &mut Page, settings: &metrics::Settings) {
    page.section("metrics");
    page.line("listen", &addresses(&settings.listen));
    let options = &settings.options;
    page.line("telemetry_path", &string(&options.telemetry_path));
    page.line("max_requests", &options.max_requests.to_string());
    let disables = options.disable_exporter_metrics;
    page.line("disable_exporter_metrics", &disables.to_string());
    page.some("web_config", options.web_config.as_deref().map(path));
    page.section("metrics.filesystem");
    filter(page, "mount_points", &options.mount_points);
    filter(page, "fs_types", &options.fs_types);
    page.section("metrics.diskstats");
    filter(page, "device", &options.diskstats);
    page.section("metrics.netdev");
    filter(page, "device", &options.netdev);
    page.section("metrics.netstat");
    page.line("fields", &string(&options.netstat_fields));
    page.section("metrics.vmstat");
    page.line("fields", &string(&options.vmstat_fields));
    page.section("metrics.cpu");
    page.line("guest", &options.cpu_guest.to_string());
    page.line("info", &options.cpu_info.to_string());
    page.section("metrics.collectors");
    page.line("include", &array(&settings.collectors));
    page.section("metrics.paths");
    page.line("procfs", &path(&settings.roots.proc));
    page.line("sysfs", &path(&settings.roots.sys));
    page.line("rootfs", &path(&settings.roots.rootfs));
    page.line("udev", &path(&settings.roots.udev));
    page.section("metrics.textfile");
    let directories: Vec<String> = options
        .textfiles
        .iter()
        .map(|directory| directory.to_string_lossy().into_owned())
        .collect();
    page.line("directories", &array(&directories));
    page.some("max_age", options.textfile_max_age.map(duration));
}

/// An empty exclusion is said: without the key the default would hold.
fn filter(page: &mut Page, what: &str, filter: &metrics::Filter) {
    match &filter.include {
        Some(include) => page.line(&format!("{what}_include"), &string(include)),
        None => {
            let exclude = filter.exclude.as_deref().unwrap_or_default();
            page.line(&format!("{what}_exclude"), &string(exclude));
        }
    }
}

fn logs(page: &mut Page, settings: &logs::Settings) {
    for each in &settings.inputs {
        input(page, each);
    }
    page.section("logs.parse");
    let field = settings.parse.json_field.as_deref().unwrap_or_default();
    page.line("json_field", &string(field));
    page.line("keep_raw", &settings.parse.keep_raw.to_string());
    page.section("logs.enrich");
    for (name, template) in &settings.enrich {
        page.line(&key(name), &string(&template_text(template)));
    }
    buffer(page, &settings.buffer);
    for each in &settings.outputs {
        output(page, each);
    }
}

fn input(page: &mut Page, input: &forward::Settings) {
    page.section(&format!("logs.inputs.{}", key(&input.name)));
    page.line("type", "\"forward\"");
    page.line("listen", &addresses(&input.listen));
    page.line("max_frame", &string(&size_text(input.max_frame as u64)));
    page.line("frame_timeout", &duration(input.frame_timeout));
}

fn buffer(page: &mut Page, buffer: &buffer::Settings) {
    page.section("logs.buffer");
    page.line("dir", &path(&buffer.dir));
    page.line("chunk_size", &string(&size_text(buffer.chunk_size)));
    page.line("max_chunks", &buffer.max_chunks.to_string());
    page.line("flush_interval", &duration(buffer.flush_interval));
    page.line("sync_interval", &duration(buffer.sync_interval));
    page.line("when_full", &word(&WHEN_FULL, &buffer.when_full));
}

fn output(page: &mut Page, output: &output::Settings) {
    page.section(&format!("logs.outputs.{}", key(&output.name)));
    let forward = match &output.kind {
        Kind::Stdout => return page.line("type", "\"stdout\""),
        Kind::Forward(forward) => forward,
    };
    page.line("type", "\"forward\"");
    let servers = forward.servers.iter();
    let servers: Vec<String> = servers.map(|s| server_text(&s.host, s.port)).collect();
    page.line("servers", &array(&servers));
    page.line("require_ack", &forward.require_ack.to_string());
    page.line("ack_timeout", &duration(forward.ack_timeout));
    page.line("connect_timeout", &duration(forward.connect_timeout));
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn section(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(&format!("[{name}]\n"));
    }

    fn line(&mut self, key: &str, value: &str) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn some(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.line(key, &value);
        }
    }
}

fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_bare) {
        name.into()
    } else {
        string(name)
    }
}

/// A basic string of TOML: control characters by number.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn path(path: &Path) -> String {
    string(&path.to_string_lossy())
}

fn duration(duration: std::time::Duration) -> String {
    string(&duration_text(duration))
}

/// The word that stands for a value; each value of the type has one.
fn word<T: PartialEq>(words: &[(&str, T)], value: &T) -> String {
    let found = words.iter().find(|(_, known)| known == value);
    string(found.map_or("", |(word, _)| word))
}

fn array(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| string(item)).collect();
    format!("[{}]", items.join(", "))
}

fn filled(items: &[String]) -> Option<String> {
    (!items.is_empty()).then(|| array(items))
}

fn addresses(addresses: &[Address]) -> String {
    let texts: Vec<String> = addresses.iter().map(Address::to_string).collect();
    array(&texts)
}

fn map(pairs: &BTreeMap<String, String>) -> Option<String> {
    let pairs = pairs.iter();
    table(
        &pairs
            .map(|(name, value)| (name.clone(), string(value)))
            .collect::<Vec<_>>(),
    )
}

/// An inline table of values that are TOML already.
fn table(pairs: &[(String, String)]) -> Option<String> {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{} = {value}", key(name)))
        .collect();
    (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")))
}

/// Nanocpus are multiples of a millionth of a CPU.
fn cpus(nano: u64) -> String {
    format!(
        "{}.{:06}",
        nano / 1_000_000_000,
        nano % 1_000_000_000 / 1000
    )
}

fn template_text(template: &Template) -> String {
    let Template(pieces) = template;
    let pieces = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Node(name) => format!("${{node.{name}}}"),
    });
    pieces.collect()
}
