//! What a container is made of, in Compose's words. Only what Docker is told
//! stands here; probes and timing do not, so changing them replaces nothing.
//!
//! ```text
//! Spec ── resolve (reads env_file, secrets, profiles) ─→ Resolved ── body ─→ Docker
//!   └───────────────── hash ──────────────────────────────┴─→ the label agent.spec
//! ```
//!
//! Values from files are read when a container is made, never before, and live
//! no longer than that: nothing of them is in the spec, in labels or in errors.

pub mod env_file;
pub mod hash;
pub mod resolve;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    pub image: String,
    pub command: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    /// Beneath `environment`; a later file wins over an earlier one.
    pub env_files: Vec<EnvFile>,
    /// By the variable's name, or a free one for a secret that is a file.
    pub secrets: BTreeMap<String, SecretUse>,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<Port>,
    /// As Docker takes binds: `/host:/container[:opts]` or `name:/container[:opts]`;
    /// `/container` alone is an anonymous volume.
    pub volumes: Vec<String>,
    /// What the short form cannot say.
    pub mounts: Vec<Mount>,
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
    /// bytes; -1: no bound
    pub memswap_limit: Option<i64>,
    /// billionths of a CPU, as Docker's NanoCpus
    pub nano_cpus: Option<u64>,
    pub cpuset: Option<String>,
    pub pids_limit: Option<i64>,
    pub oom_score_adj: Option<i64>,
    pub stop_signal: Option<String>,
    pub extra_hosts: Vec<String>,
    pub dns: Vec<String>,
    pub logging: Logging,
    /// The first is the one that it is created in.
    pub networks: Vec<Network>,
    pub mac_address: Option<String>,
    pub domainname: Option<String>,
    pub dns_search: Vec<String>,
    pub dns_opt: Vec<String>,
    pub group_add: Vec<String>,
    pub userns_mode: Option<String>,
    pub cgroup: Option<String>,
    pub cgroup_parent: Option<String>,
    pub device_cgroup_rules: Vec<String>,
    pub storage_opt: BTreeMap<String, String>,
    /// bytes
    pub mem_reservation: Option<u64>,
    /// percent
    pub mem_swappiness: Option<i64>,
    pub cpu_shares: Option<i64>,
    pub oom_kill_disable: bool,
    pub healthcheck: Option<Healthcheck>,
    pub platform: Option<String>,
    pub runtime: Option<String>,
    pub annotations: BTreeMap<String, String>,
    pub tty: bool,
    pub stdin_open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFile {
    pub path: PathBuf,
    /// False: it may be absent.
    pub required: bool,
    pub format: EnvFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EnvFormat {
    /// Quotes, comments and `${NAME}` as Compose reads them.
    #[default]
    Compose,
    /// `NAME=value` lines as `docker run --env-file` reads them.
    Raw,
}

/// A secret, and where the container finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    pub source: SecretSource,
    /// None: in the environment. Else a read-only file at this path.
    pub target: Option<String>,
}

/// Where a secret's value is; never the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    File(PathBuf),
}

/// A mount in the long form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub kind: MountKind,
    pub target: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// Of a path that has to be there.
    Bind {
        source: String,
        propagation: Option<Propagation>,
    },
    Volume {
        /// None: anonymous.
        source: Option<String>,
        /// Nothing of the image is copied into it.
        nocopy: bool,
    },
    Tmpfs {
        /// bytes
        size: Option<u64>,
        /// Permission bits.
        mode: Option<u32>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    Private,
    Rprivate,
    Shared,
    Rshared,
    Slave,
    Rslave,
}

/// A network that there is, and the container's place in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Network {
    pub name: String,
    pub aliases: Vec<String>,
    pub ipv4_address: Option<String>,
    pub ipv6_address: Option<String>,
    pub link_local_ips: Vec<String>,
    pub mac_address: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
}

/// Docker's own check of the container. What is not set is the image's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Healthcheck {
    /// As Docker takes it: `NONE`, `CMD` and words, `CMD-SHELL` and a line.
    pub test: Option<Vec<String>>,
    pub interval: Option<Duration>,
    pub timeout: Option<Duration>,
    pub retries: Option<i64>,
    pub start_period: Option<Duration>,
    pub start_interval: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// Empty for all addresses.
    pub host_ip: String,
    /// None: Docker chooses.
    pub host_port: Option<u16>,
    /// First and last that Docker may choose from.
    pub host_range: Option<(u16, u16)>,
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

impl Protocol {
    /// As Docker writes it behind a port.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl Propagation {
    /// As Docker and Compose write it.
    pub fn word(self) -> &'static str {
        match self {
            Propagation::Private => "private",
            Propagation::Rprivate => "rprivate",
            Propagation::Shared => "shared",
            Propagation::Rshared => "rshared",
            Propagation::Slave => "slave",
            Propagation::Rslave => "rslave",
        }
    }
}

#[cfg(test)]
mod tests;
