//! A spec in Docker's words: the body of a create call.
//!
//! Docker's own restart policy is always "no" (two supervisors of one
//! container undo each other's work), its stop timeout short (the longest one
//! holds up a stop of the daemon itself); the agent keeps both clocks.

use super::Container;
use super::spec::{Logging, Spec};
use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigLogConfig, PortBinding, PortMap,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use std::collections::{BTreeMap, HashMap};

/// Whose a container is; the value is [`MANAGER`].
pub const LABEL_MANAGED_BY: &str = "agent.managed-by";
/// Which container of the config.
pub const LABEL_CONTAINER: &str = "agent.container";
/// Hash of the spec that it was made from.
pub const LABEL_SPEC: &str = "agent.spec";
pub const MANAGER: &str = "agent";

/// Docker's own patience when it goes down. Unit: seconds.
const STOP_TIMEOUT_SECONDS: i64 = 10;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BodyError {
    #[error(
        "logging to the agent is wanted, but the agent's forward input is off: switch it on or give another logging driver"
    )]
    NoLogAddress,
    #[error("device {0:?} is not host-path[:container-path[:permissions]]")]
    Device(String),
    #[error("{key} {value} is too large")]
    TooLarge { key: &'static str, value: u64 },
}

/// What Docker is told to make of `container`. `hash` is its spec's.
pub fn body(
    container: &Container,
    hash: &str,
    log_address: Option<&str>,
) -> Result<ContainerCreateBody, BodyError> {
    let spec = &container.spec;
    let mut labels: HashMap<String, String> = hash_map(&spec.labels);
    labels.insert(LABEL_MANAGED_BY.into(), MANAGER.into());
    labels.insert(LABEL_CONTAINER.into(), container.name.clone());
    labels.insert(LABEL_SPEC.into(), hash.into());
    Ok(ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: spec.command.clone(),
        entrypoint: spec.entrypoint.clone().map(|words| {
            // Docker takes [""], not [], for "none".
            if words.is_empty() {
                vec![String::new()]
            } else {
                words
            }
        }),
        env: listed(
            spec.environment
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        ),
        labels: Some(labels),
        exposed_ports: listed(spec.ports.iter().map(key_of)),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        hostname: spec.hostname.clone(),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: Some(STOP_TIMEOUT_SECONDS),
        host_config: Some(host_config(spec, log_address)?),
        ..ContainerCreateBody::default()
    })
}

fn host_config(spec: &Spec, log_address: Option<&str>) -> Result<HostConfig, BodyError> {
    Ok(HostConfig {
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(log_config(&spec.logging, log_address)?),
        port_bindings: (!spec.ports.is_empty()).then(|| bindings(spec)),
        binds: listed(spec.volumes.iter().cloned()),
        tmpfs: (!spec.tmpfs.is_empty()).then(|| hash_map(&spec.tmpfs)),
        network_mode: spec.network_mode.clone(),
        pid_mode: spec.pid.clone(),
        ipc_mode: spec.ipc.clone(),
        uts_mode: spec.uts.clone(),
        privileged: spec.privileged.then_some(true),
        cap_add: listed(spec.cap_add.iter().cloned()),
        cap_drop: listed(spec.cap_drop.iter().cloned()),
        devices: devices(&spec.devices)?,
        ulimits: listed(spec.ulimits.iter().map(|(name, limit)| ResourcesUlimits {
            name: Some(name.clone()),
            soft: Some(limit.soft),
            hard: Some(limit.hard),
        })),
        sysctls: (!spec.sysctls.is_empty()).then(|| hash_map(&spec.sysctls)),
        security_opt: listed(spec.security_opt.iter().cloned()),
        readonly_rootfs: spec.read_only.then_some(true),
        init: spec.init,
        shm_size: signed("shm_size", spec.shm_size)?,
        memory: signed("mem_limit", spec.mem_limit)?,
        memory_swap: signed("memswap_limit", spec.memswap_limit)?,
        nano_cpus: signed("cpus", spec.nano_cpus)?,
        cpuset_cpus: spec.cpuset.clone(),
        pids_limit: spec.pids_limit,
        oom_score_adj: spec.oom_score_adj,
        extra_hosts: listed(spec.extra_hosts.iter().cloned()),
        dns: listed(spec.dns.iter().cloned()),
        ..HostConfig::default()
    })
}

/// Synchronous with acks: nothing that a container prints is lost while the
/// agent restarts, at the price that a container waits where the agent stays
/// away (docs/decisions/0005-supervision.md).
fn log_config(logging: &Logging, address: Option<&str>) -> Result<HostConfigLogConfig, BodyError> {
    let (driver, options): (&str, HashMap<String, String>) = match logging {
        Logging::Default => (
            "json-file",
            HashMap::from([
                ("max-size".into(), "10m".into()),
                ("max-file".into(), "3".into()),
            ]),
        ),
        Logging::Agent { tag } => {
            let address = address.ok_or(BodyError::NoLogAddress)?;
            // No request-ack: the driver mixes up acks of stdout and stderr (decision 0005).
            (
                "fluentd",
                HashMap::from([
                    ("fluentd-address".into(), address.into()),
                    ("fluentd-sub-second-precision".into(), "true".into()),
                    ("fluentd-async".into(), "false".into()),
                    ("tag".into(), tag.clone()),
                ]),
            )
        }
        Logging::Driver { driver, options } => (driver.as_str(), hash_map(options)),
    };
    Ok(HostConfigLogConfig {
        typ: Some(driver.into()),
        config: Some(options),
    })
}

fn bindings(spec: &Spec) -> PortMap {
    let mut map = PortMap::new();
    for port in &spec.ports {
        let binding = PortBinding {
            host_ip: Some(port.host_ip.clone()),
            // An empty port lets Docker choose.
            host_port: Some(port.host_port.map(|p| p.to_string()).unwrap_or_default()),
        };
        map.entry(key_of(port))
            .or_default()
            .get_or_insert_default()
            .push(binding);
    }
    map
}

fn key_of(port: &super::spec::Port) -> String {
    format!("{}/{}", port.container_port, port.protocol.word())
}

fn devices(written: &[String]) -> Result<Option<Vec<DeviceMapping>>, BodyError> {
    let device = |text: &String| {
        let parts: Vec<&str> = text.split(':').collect();
        let (host, inside, access) = match parts[..] {
            [host] => (host, host, "rwm"),
            // `/dev/x:r` gives permissions, `/dev/x:/dev/y` another path.
            [host, access] if !access.starts_with('/') => (host, host, access),
            [host, inside] => (host, inside, "rwm"),
            [host, inside, access] => (host, inside, access),
            _ => return Err(BodyError::Device(text.clone())),
        };
        if !host.starts_with('/') || !inside.starts_with('/') {
            return Err(BodyError::Device(text.clone()));
        }
        Ok(DeviceMapping {
            path_on_host: Some(host.into()),
            path_in_container: Some(inside.into()),
            cgroup_permissions: Some(access.into()),
        })
    };
    let mapped: Vec<DeviceMapping> = written.iter().map(device).collect::<Result<_, _>>()?;
    Ok((!mapped.is_empty()).then_some(mapped))
}

fn signed(key: &'static str, value: Option<u64>) -> Result<Option<i64>, BodyError> {
    value
        .map(|value| i64::try_from(value).map_err(|_| BodyError::TooLarge { key, value }))
        .transpose()
}

fn listed<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.collect();
    (!items.is_empty()).then_some(items)
}

fn hash_map(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::{BodyError, body};
    use crate::supervise::spec::{Logging, Port, Protocol, Spec, Ulimit};
    use crate::supervise::{Container, Drain, Probes, PullPolicy, Takeover, Update};
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn container(spec: Spec) -> Container {
        Container {
            name: "app".into(),
            spec,
            depends_on: vec![],
            stop_grace_period: Duration::from_secs(30),
            pull_policy: PullPolicy::Missing,
            probes: Probes::default(),
            drain: Drain::default(),
            update: Update::default(),
            takeover: Takeover::default(),
            essential: true,
        }
    }

    #[test]
    fn falcons_flags_reach_docker() {
        let spec = Spec {
            image: "falcon:1".into(),
            privileged: true,
            network_mode: Some("host".into()),
            pid: Some("host".into()),
            ipc: Some("host".into()),
            ..Spec::default()
        };
        let body = serde_json::to_value(body(&container(spec), "v1:00", None).unwrap()).unwrap();
        let host = &body["HostConfig"];
        assert_eq!(host["Privileged"], true);
        assert_eq!(host["NetworkMode"], "host");
        assert_eq!(host["PidMode"], "host");
        assert_eq!(host["IpcMode"], "host");
        assert_eq!(host["RestartPolicy"]["Name"], "no");
        assert_eq!(host["LogConfig"]["Type"], "json-file");
        assert_eq!(host["LogConfig"]["Config"]["max-size"], "10m");
    }

    #[test]
    fn limits_ports_binds_and_devices_reach_docker() {
        let port = |host_port, container_port, protocol| Port {
            host_ip: String::new(),
            host_port,
            container_port,
            protocol,
        };
        let spec = Spec {
            ports: vec![
                port(Some(4914), 8080, Protocol::Tcp),
                port(None, 53, Protocol::Udp),
            ],
            volumes: vec!["/:/rootfs:ro,rslave".into()],
            devices: vec!["/dev/kmsg".into(), "/dev/a:/dev/b:r".into()],
            environment: BTreeMap::from([("NODE_ENV".into(), "production".into())]),
            ulimits: BTreeMap::from([(
                "nofile".into(),
                Ulimit {
                    soft: 1024,
                    hard: 4096,
                },
            )]),
            mem_limit: Some(6 << 30),
            nano_cpus: Some(2_000_000_000),
            init: Some(true),
            ..Spec::default()
        };
        let body = serde_json::to_value(body(&container(spec), "v1:00", None).unwrap()).unwrap();
        let host = &body["HostConfig"];
        assert_eq!(
            host["PortBindings"],
            json!({"8080/tcp": [{"HostIp": "", "HostPort": "4914"}],
                   "53/udp": [{"HostIp": "", "HostPort": ""}]})
        );
        assert_eq!(body["ExposedPorts"], json!({"8080/tcp": {}, "53/udp": {}}));
        assert_eq!(host["Binds"], json!(["/:/rootfs:ro,rslave"]));
        assert_eq!(host["Devices"][1]["PathInContainer"], "/dev/b");
        assert_eq!(host["Devices"][1]["CgroupPermissions"], "r");
        assert_eq!(body["Env"], json!(["NODE_ENV=production"]));
        assert_eq!(host["Ulimits"][0]["Hard"], 4096);
        assert_eq!(host["Memory"], 6_u64 << 30);
        assert_eq!(host["NanoCpus"], 2_000_000_000_u64);
        assert_eq!(host["Init"], true);
    }

    #[test]
    fn logging_to_the_agent_is_synchronous_and_acknowledged() {
        let spec = Spec {
            logging: Logging::Agent {
                tag: "campaigns".into(),
            },
            ..Spec::default()
        };
        let address = Some("unix:///run/agent/forward.sock");
        let body = body(&container(spec.clone()), "v1:00", address).unwrap();
        let config = body.host_config.unwrap().log_config.unwrap();
        let options = config.config.unwrap();
        assert_eq!(config.typ.as_deref(), Some("fluentd"));
        assert_eq!(options["tag"], "campaigns");
        assert_eq!(options["fluentd-address"], "unix:///run/agent/forward.sock");
        assert!(!options.contains_key("fluentd-request-ack"));
        assert_eq!(options["fluentd-async"], "false");
        let off = super::body(&container(spec), "v1:00", None);
        assert_eq!(off, Err(BodyError::NoLogAddress));
    }

    #[test]
    fn our_labels_cannot_be_overwritten_by_the_users() {
        let spec = Spec {
            labels: BTreeMap::from([
                ("agent.spec".into(), "mine".into()),
                ("team".into(), "titan".into()),
            ]),
            ..Spec::default()
        };
        let labels = body(&container(spec), "v1:00", None)
            .unwrap()
            .labels
            .unwrap();
        assert_eq!(labels["agent.spec"], "v1:00");
        assert_eq!(labels["agent.container"], "app");
        assert_eq!(labels["agent.managed-by"], "agent");
        assert_eq!(labels["team"], "titan");
    }

    #[test]
    fn a_device_that_makes_no_sense_is_named() {
        let spec = Spec {
            devices: vec!["kmsg".into()],
            ..Spec::default()
        };
        let error = body(&container(spec), "v1:00", None).unwrap_err();
        assert_eq!(error, BodyError::Device("kmsg".into()));
    }
}
