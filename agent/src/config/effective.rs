//! Settings back to TOML: every key with the value that holds, defaults included.
//! Loading the text gives equal Settings. Secrets are places of values, and
//! printed as such; a variable that looks like a secret is masked, and the mask
//! is refused when it is read again.

mod containers;

use crate::config::Settings;
use crate::config::file::{FORMS, LEVELS, OVERLAPS, PULL_POLICIES, WHEN_FULL};
use crate::config::values::{duration_text, server_text, size_text};
use crate::listener::Address;
use crate::logs::enrich::{Piece, Template};
use crate::logs::output::{self, Kind};
use crate::logs::{buffer, forward};
use crate::secret::Source;
use crate::supervise::jobs::Job;
use crate::{logs, metrics, supervise};
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
    page.line("revive", &settings.machine.revive.to_string());
    images(&mut page, &settings.containers);
    for each in &settings.containers.containers {
        containers::container(&mut page, each);
    }
    for each in &settings.jobs.jobs {
        job(&mut page, each);
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

fn images(page: &mut Page, settings: &supervise::Settings) {
    let (images, gc) = (&settings.images, &settings.housekeeping);
    page.section("images");
    page.line("stall_timeout", &duration(images.stall_timeout));
    page.line("pull_timeout", &duration(images.pull_timeout));
    page.line("docker_config", &path(&images.docker_config));
    page.line("gc", &gc.on.to_string());
    page.line("gc_high", &string(&format!("{}%", gc.high)));
    page.line("gc_low", &string(&format!("{}%", gc.low)));
    page.line("gc_interval", &duration(gc.interval));
    page.line("gc_min_age", &duration(gc.min_age));
    for (registry, named) in &images.credentials {
        page.section(&format!("images.credentials.{}", key(registry)));
        page.line("username", &string(&named.username));
        let place = match &named.password {
            Source::File(file) => ("file".into(), path(file)),
            Source::Credential(name) => ("credential".into(), string(name)),
        };
        page.some("password", table(&[place]));
    }
}

fn job(page: &mut Page, job: &Job) {
    page.section(&format!("jobs.{}", key(&job.name)));
    containers::spec(page, &job.spec);
    page.line("schedule", &string(job.schedule.text()));
    page.line("time_zone", &string(job.schedule.zone()));
    page.line("jitter", &duration(job.jitter));
    page.line("overlap", &word(&OVERLAPS, &job.overlap));
    page.some("timeout", job.timeout.map(duration));
    page.line("retries", &job.retries.to_string());
    page.line("catch_up", &job.catch_up.to_string());
    page.line("catch_up_within", &duration(job.catch_up_within));
    page.line("history", &job.history.to_string());
    page.line("stop_grace_period", &duration(job.stop_grace_period));
    page.line("pull_policy", &word(&PULL_POLICIES, &job.pull_policy));
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
    page.section("metrics.arp");
    filter(page, "device", &options.arp);
    page.line("netlink", &options.arp_netlink.to_string());
    page.section("metrics.netclass");
    page.line("ignored_devices", &string(&options.netclass_ignored));
    let ignores = options.netclass_ignores_invalid_speed;
    page.line("ignore_invalid_speed", &ignores.to_string());
    page.section("metrics.hwmon");
    filter(page, "chip", &options.hwmon_chips);
    filter(page, "sensor", &options.hwmon_sensors);
    page.section("metrics.infiniband");
    filter(page, "device", &options.infiniband);
    page.section("metrics.powersupply");
    page.line("ignored_supplies", &string(&options.powersupply_ignored));
    page.section("metrics.ethtool");
    filter(page, "device", &options.ethtool);
    page.line("metrics_include", &string(&options.ethtool_metrics));
    page.section("metrics.interrupts");
    filter(page, "name", &options.interrupts);
    page.line("include_zeros", &options.interrupts_zeros.to_string());
    page.section("metrics.stat");
    page.line("softirq", &options.stat_softirq.to_string());
    page.section("metrics.rapl");
    page.line("enable_zone_label", &options.rapl_zone_label.to_string());
    page.section("metrics.netstat");
    page.line("fields", &string(&options.netstat_fields));
    page.section("metrics.vmstat");
    page.line("fields", &string(&options.vmstat_fields));
    page.section("metrics.cpu");
    page.line("guest", &options.cpu_guest.to_string());
    page.line("info", &options.cpu_info.to_string());
    page.some(
        "info_flags_include",
        options.cpu_flags.as_deref().map(string),
    );
    page.some("info_bugs_include", options.cpu_bugs.as_deref().map(string));
    let units = &options.systemd;
    page.section("metrics.systemd");
    page.line("unit_include", &string(&units.include));
    page.line("unit_exclude", &string(&units.exclude));
    page.line("enable_task_metrics", &units.tasks.to_string());
    page.line("enable_restarts_metrics", &units.restarts.to_string());
    page.line("enable_start_time_metrics", &units.start_times.to_string());
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

fn template_text(template: &Template) -> String {
    let Template(pieces) = template;
    let pieces = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Node(name) => format!("${{node.{name}}}"),
    });
    pieces.collect()
}
