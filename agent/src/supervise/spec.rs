//! What a container is made of, in Compose's words. Only what Docker is told
//! stands here; probes and timing do not, so changing them replaces nothing.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Default)]
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

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Empty for all addresses.
    pub host_ip: String,
    /// None: Docker chooses.
    pub host_port: Option<u16>,
    pub container_port: u16,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    pub soft: i64,
    pub hard: i64,
}

#[derive(Debug, Clone, PartialEq, Default)]
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
