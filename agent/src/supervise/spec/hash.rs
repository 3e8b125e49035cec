//! The hash that a container's label carries: whether it is what is wanted.
//!
//! Its input is a text of our own, one set key after the other in a fixed
//! order: a new key, or another version of a library, leaves the hashes of
//! running containers alone. What came from files is a second digest behind a
//! `+`, for it is known only once they have been read:
//! `v1:<spec>` without files, `v1:<spec>+<content>` with them, and
//! `v1:<spec>+?` while nobody has read them.

use super::{
    EnvFormat, Healthcheck, Logging, Mount, MountKind, Network, Port, SecretSource, Spec, Ulimit,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// Content that nobody has read yet.
const UNREAD: &str = "?";

/// Scheme of the hash's input. A change of [`Written`]'s rules needs a new one,
/// and then replaces every container once.
const SCHEME: &str = "v1";

impl Spec {
    /// The hash before any file was read. `log_address` counts where the
    /// container logs to the agent. What has no order (ports, binds,
    /// capabilities) hashes the same in any order.
    pub fn hash(&self, log_address: Option<&str>) -> String {
        let digest = self.written(log_address).digest();
        match self.reads_files() {
            true => format!("{SCHEME}:{digest}+{UNREAD}"),
            false => format!("{SCHEME}:{digest}"),
        }
    }

    fn written(&self, log_address: Option<&str>) -> Written {
        let mut written = Written::default();
        written.one("image", Some(&self.image));
        written.all("command", self.command.as_deref());
        written.all("entrypoint", self.entrypoint.as_deref());
        written.map("environment", &self.environment);
        written.map("labels", &self.labels);
        let mut ports: Vec<String> = self.ports.iter().map(Port::written).collect();
        written.set("ports", &mut ports);
        written.set("volumes", &mut self.volumes.clone());
        written.map("tmpfs", &self.tmpfs);
        written.one("network_mode", self.network_mode.as_ref());
        written.one("pid", self.pid.as_ref());
        written.one("ipc", self.ipc.as_ref());
        written.one("uts", self.uts.as_ref());
        written.one("privileged", self.privileged.then_some(true));
        written.set("cap_add", &mut self.cap_add.clone());
        written.set("cap_drop", &mut self.cap_drop.clone());
        written.set("devices", &mut self.devices.clone());
        let limit = |limit: &Ulimit| format!("{}:{}", limit.soft, limit.hard);
        let limits = self.ulimits.iter().map(|(k, v)| (k.clone(), limit(v)));
        written.map("ulimits", &limits.collect());
        written.map("sysctls", &self.sysctls);
        written.set("security_opt", &mut self.security_opt.clone());
        written.one("user", self.user.as_ref());
        written.one("working_dir", self.working_dir.as_ref());
        written.one("hostname", self.hostname.as_ref());
        written.one("read_only", self.read_only.then_some(true));
        written.one("init", self.init);
        written.one("shm_size", self.shm_size);
        written.one("mem_limit", self.mem_limit);
        written.one("memswap_limit", self.memswap_limit);
        written.one("nano_cpus", self.nano_cpus);
        written.one("cpuset", self.cpuset.as_ref());
        written.one("pids_limit", self.pids_limit);
        written.one("oom_score_adj", self.oom_score_adj);
        written.one("stop_signal", self.stop_signal.as_ref());
        written.all("extra_hosts", Some(&self.extra_hosts));
        written.all("dns", Some(&self.dns));
        match &self.logging {
            Logging::Default => {}
            Logging::Agent { tag } => {
                written.one("logging.tag", Some(tag));
                written.one("logging.address", log_address);
            }
            Logging::Driver { driver, options } => {
                written.one("logging.driver", Some(driver));
                written.map("logging.options", options);
            }
        }
        // From here on what later versions brought.
        for file in &self.env_files {
            written.one("env_file", Some(file.path.display()));
            written.one("env_file.optional", (!file.required).then_some(true));
            let raw = file.format == EnvFormat::Raw;
            written.one("env_file.raw", raw.then_some(true));
        }
        for (name, secret) in &self.secrets {
            let SecretSource::File(path) = &secret.source;
            written.one("secret", Some(name));
            written.one("secret.file", Some(path.display()));
            written.one("secret.target", secret.target.as_ref());
        }
        written.set(
            "mounts",
            &mut self.mounts.iter().map(Mount::written).collect(),
        );
        for network in &self.networks {
            written.one("network", Some(network.written()));
        }
        written.one("mac_address", self.mac_address.as_ref());
        written.one("domainname", self.domainname.as_ref());
        written.all("dns_search", Some(&self.dns_search));
        written.all("dns_opt", Some(&self.dns_opt));
        written.set("group_add", &mut self.group_add.clone());
        written.one("userns_mode", self.userns_mode.as_ref());
        written.one("cgroup", self.cgroup.as_ref());
        written.one("cgroup_parent", self.cgroup_parent.as_ref());
        written.set("device_cgroup_rules", &mut self.device_cgroup_rules.clone());
        written.map("storage_opt", &self.storage_opt);
        written.one("mem_reservation", self.mem_reservation);
        written.one("mem_swappiness", self.mem_swappiness);
        written.one("cpu_shares", self.cpu_shares);
        written.one("oom_kill_disable", self.oom_kill_disable.then_some(true));
        if let Some(check) = &self.healthcheck {
            written.one("healthcheck", Some(check.written()));
        }
        written.one("platform", self.platform.as_ref());
        written.one("runtime", self.runtime.as_ref());
        written.map("annotations", &self.annotations);
        written.one("tty", self.tty.then_some(true));
        written.one("stdin_open", self.stdin_open.then_some(true));
        written
    }
}

/// [`Spec::hash`] once the files have been read: with the digest of their content.
pub fn with_content(unread: &str, content: Option<&str>) -> String {
    match (unread.strip_suffix(UNREAD), content) {
        (Some(spec), Some(content)) => format!("{spec}{content}"),
        _ => unread.into(),
    }
}

/// Whether two hashes may stand for one and the same container: equal specs,
/// and contents that are equal as far as both are known.
pub fn same(a: &str, b: &str) -> bool {
    let (a_spec, a_content) = parts(a);
    let (b_spec, b_content) = parts(b);
    let differ = matches!((a_content, b_content), (Some(a), Some(b)) if a != b);
    a_spec == b_spec && !differ
}

/// Whether two hashes are of one spec, whatever its files hold.
pub fn same_spec(a: &str, b: &str) -> bool {
    parts(a).0 == parts(b).0
}

fn parts(hash: &str) -> (&str, Option<&str>) {
    match hash.split_once('+') {
        Some((spec, content)) => (spec, Some(content).filter(|content| *content != UNREAD)),
        None => (hash, None),
    }
}

impl Mount {
    fn written(&self) -> String {
        let mut written = Written::default();
        written.one("target", Some(&self.target));
        written.one("read_only", self.read_only.then_some(true));
        match &self.kind {
            MountKind::Bind {
                source,
                propagation,
            } => {
                written.one("bind", Some(source));
                written.one("propagation", propagation.map(|p| p.word()));
            }
            MountKind::Volume { source, nocopy } => {
                written.one("volume", Some(source.as_deref().unwrap_or_default()));
                written.one("nocopy", nocopy.then_some(true));
            }
            MountKind::Tmpfs { size, mode } => {
                written.one("tmpfs", Some(true));
                written.one("size", *size);
                written.one("mode", *mode);
            }
        }
        written.0
    }
}

impl Network {
    fn written(&self) -> String {
        let mut written = Written::default();
        written.one("name", Some(&self.name));
        written.set("aliases", &mut self.aliases.clone());
        written.one("ipv4_address", self.ipv4_address.as_ref());
        written.one("ipv6_address", self.ipv6_address.as_ref());
        written.all("link_local_ips", Some(&self.link_local_ips));
        written.one("mac_address", self.mac_address.as_ref());
        written.map("driver_opts", &self.driver_opts);
        written.0
    }
}

impl Healthcheck {
    fn written(&self) -> String {
        let mut written = Written::default();
        if let Some(test) = &self.test {
            written.one("test", Some(test.len()));
            written.all("test", Some(test));
        }
        let times = [
            ("interval", self.interval),
            ("timeout", self.timeout),
            ("start_period", self.start_period),
            ("start_interval", self.start_interval),
        ];
        for (key, time) in times {
            written.one(key, time.map(|time| time.as_nanos()));
        }
        written.one("retries", self.retries);
        written.0
    }
}

impl Port {
    fn written(&self) -> String {
        let range = self
            .host_range
            .map(|(first, last)| format!("{first}-{last}"));
        let host = self.host_port.map(|port| port.to_string()).or(range);
        format!(
            "{}:{}:{}/{}",
            self.host_ip,
            host.unwrap_or_default(),
            self.container_port,
            self.protocol.word()
        )
    }
}

/// The hash's input: `key=<length>:<value>` lines; what is not set is not written.
#[derive(Default)]
pub struct Written(String);

impl Written {
    pub fn one(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            let value = value.to_string();
            // Writing to a String cannot fail.
            let _ = writeln!(self.0, "{key}={}:{value}", value.len());
        }
    }

    /// An empty list is not an absent one: an empty entrypoint clears the image's.
    fn all(&mut self, key: &str, values: Option<&[String]>) {
        if let Some(values) = values {
            if matches!(key, "command" | "entrypoint") || !values.is_empty() {
                self.one(key, Some(values.len()));
            }
            for value in values {
                self.one(key, Some(value));
            }
        }
    }

    fn set(&mut self, key: &str, values: &mut Vec<String>) {
        values.sort();
        values.dedup();
        self.all(key, Some(values));
    }

    fn map(&mut self, key: &str, values: &BTreeMap<String, String>) {
        for (name, value) in values {
            self.one(key, Some(name));
            self.one(key, Some(value));
        }
    }

    /// The digest of any bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for byte in Sha256::digest(bytes) {
            let _ = write!(self.0, "{byte:02x}");
        }
    }

    pub fn digest(&self) -> String {
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(self.0.as_bytes()) {
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}
