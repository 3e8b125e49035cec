//! What a container is made of, in Compose's words. Only what Docker is told
//! stands here; probes and timing do not, so changing them replaces nothing.
//!
//! [`Spec::hash`] is what the container's label carries. Its input is a text
//! of our own, one set key after the other in a fixed order: a new key, or
//! another version of a library, leaves the hashes of running containers alone.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    pub image: String,
    pub command: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<Port>,
    /// As Docker takes binds: `/host:/container[:opts]` or `name:/container[:opts]`.
    pub volumes: Vec<String>,
    /// path → options ("" for none).
    pub tmpfs: BTreeMap<String, String>,
    pub network_mode: Option<String>,
    pub pid: Option<String>,
    pub ipc: Option<String>,
    pub uts: Option<String>,
    pub privileged: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    /// `/dev/kmsg[:/dev/kmsg[:rwm]]`
    pub devices: Vec<String>,
    pub ulimits: BTreeMap<String, Ulimit>,
    pub sysctls: BTreeMap<String, String>,
    pub security_opt: Vec<String>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub hostname: Option<String>,
    pub read_only: bool,
    pub init: Option<bool>,
    /// bytes
    pub shm_size: Option<u64>,
    /// bytes
    pub mem_limit: Option<u64>,
    /// bytes
    pub memswap_limit: Option<u64>,
    /// billionths of a CPU, as Docker's NanoCpus
    pub nano_cpus: Option<u64>,
    pub cpuset: Option<String>,
    pub pids_limit: Option<i64>,
    pub oom_score_adj: Option<i64>,
    pub stop_signal: Option<String>,
    pub extra_hosts: Vec<String>,
    pub dns: Vec<String>,
    pub logging: Logging,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// Empty for all addresses.
    pub host_ip: String,
    /// None: Docker chooses.
    pub host_port: Option<u16>,
    pub container_port: u16,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    pub soft: i64,
    pub hard: i64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Logging {
    /// No `logging` key: Docker's json-file with a bound (3 files of 10 MB).
    #[default]
    Default,
    /// `logging = { tag = "…" }`: to the agent by the fluentd driver.
    Agent { tag: String },
    /// `logging = { driver = "…", options = {…} }`: as written.
    Driver {
        driver: String,
        options: BTreeMap<String, String>,
    },
}

/// Scheme of the hash's input. A change of [`Written`]'s rules needs a new one,
/// and then replaces every container once.
const SCHEME: &str = "v1";

impl Spec {
    /// `v1:<sha256, hex>` over all that Docker is told. `log_address` counts
    /// where the container logs to the agent. What has no order (ports, binds,
    /// capabilities) hashes the same in any order.
    pub fn hash(&self, log_address: Option<&str>) -> String {
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
        format!("{SCHEME}:{}", written.digest())
    }
}

impl Port {
    fn written(&self) -> String {
        let host = self.host_port.map(|port| port.to_string());
        format!(
            "{}:{}:{}/{}",
            self.host_ip,
            host.unwrap_or_default(),
            self.container_port,
            self.protocol.word()
        )
    }
}

impl Protocol {
    /// As Docker writes it behind a port.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// The hash's input: `key=<length>:<value>` lines; what is not set is not written.
#[derive(Default)]
struct Written(String);

impl Written {
    fn one(&mut self, key: &str, value: Option<impl Display>) {
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

    fn digest(&self) -> String {
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(self.0.as_bytes()) {
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}

#[cfg(test)]
mod tests {
    use super::{Logging, Port, Protocol, Spec};
    use std::collections::BTreeMap;

    fn port(container_port: u16) -> Port {
        Port {
            host_ip: String::new(),
            host_port: Some(container_port),
            container_port,
            protocol: Protocol::Tcp,
        }
    }

    fn spec() -> Spec {
        Spec {
            image: "app:1".into(),
            ports: vec![port(8080), port(9090)],
            environment: BTreeMap::from([("A".into(), "1".into())]),
            logging: Logging::Agent { tag: "app".into() },
            ..Spec::default()
        }
    }

    #[test]
    fn hash_stays_what_it_was_across_releases() {
        // Another value here replaces every running container of every host.
        assert_eq!(
            spec().hash(Some("unix:///run/agent/forward.sock")),
            "v1:7807884e6c0ad224d5ce878c5804e78232b253c33b71ec0b63c453e2335cd50d"
        );
    }

    #[test]
    fn hash_does_not_see_the_order_of_what_has_none() {
        let mut turned = spec();
        turned.ports.reverse();
        assert_eq!(turned.hash(None), spec().hash(None));
    }

    #[test]
    fn hash_sees_every_change_that_docker_would() {
        let base = spec();
        let mut seen = vec![base.hash(Some("unix:///a"))];
        let edits: [fn(&mut Spec); 14] = [
            |s| s.image = "app:2".into(),
            |s| s.command = Some(vec!["a b".into()]),
            |s| s.command = Some(vec!["a".into(), "b".into()]),
            |s| s.entrypoint = Some(vec![]),
            |s| s.environment = BTreeMap::from([("A".into(), "2".into())]),
            |s| s.labels = BTreeMap::from([("A".into(), "1".into())]),
            |s| s.ports[0].host_port = None,
            |s| s.ports[0].protocol = Protocol::Udp,
            |s| s.privileged = true,
            |s| s.init = Some(false),
            |s| s.mem_limit = Some(1 << 30),
            |s| s.pid = Some("host".into()),
            |s| s.ipc = Some("host".into()),
            |s| {
                s.logging = Logging::Agent {
                    tag: "other".into(),
                }
            },
        ];
        for edit in edits {
            let mut changed = base.clone();
            edit(&mut changed);
            seen.push(changed.hash(Some("unix:///a")));
        }
        seen.push(base.hash(Some("unix:///b")));
        let n = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), n);
    }

    #[test]
    fn log_address_is_nothing_to_a_container_that_logs_elsewhere() {
        let mut quiet = spec();
        quiet.logging = Logging::Default;
        assert_eq!(quiet.hash(Some("unix:///a")), quiet.hash(None));
    }
}
