//! The host's side of a container: limits, rights, mounts, ports, logging.

use super::{BodyError, hash_map, key_of, listed, network};
use crate::docker::container::Limits;
use crate::supervise::spec::resolve::Resolved;
use crate::supervise::spec::{Logging, MountKind, Propagation, SecretSource, Spec};
use bollard::models::{
    DeviceMapping, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType,
    MountVolumeOptions, PortBinding, PortMap, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use std::collections::HashMap;

pub fn config(
    spec: &Spec,
    resolved: &Resolved,
    log_address: Option<&str>,
) -> Result<HostConfig, BodyError> {
    let security_opt = resolved.security_opt.as_ref().unwrap_or(&spec.security_opt);
    Ok(HostConfig {
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(log_config(&spec.logging, log_address)?),
        port_bindings: (!spec.ports.is_empty()).then(|| bindings(spec)),
        binds: listed(spec.volumes.iter().filter(|v| v.contains(':')).cloned()),
        tmpfs: (!spec.tmpfs.is_empty()).then(|| hash_map(&spec.tmpfs)),
        network_mode: network::mode(spec),
        mounts: listed(mounts(spec)?.into_iter()),
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
        security_opt: listed(security_opt.iter().cloned()),
        readonly_rootfs: spec.read_only.then_some(true),
        init: spec.init,
        shm_size: signed("shm_size", spec.shm_size)?,
        memory: signed("mem_limit", spec.mem_limit)?,
        memory_swap: spec.memswap_limit,
        memory_reservation: signed("mem_reservation", spec.mem_reservation)?,
        memory_swappiness: spec.mem_swappiness,
        oom_kill_disable: spec.oom_kill_disable.then_some(true),
        cpu_shares: spec.cpu_shares,
        nano_cpus: signed("cpus", spec.nano_cpus)?,
        cpuset_cpus: spec.cpuset.clone(),
        pids_limit: spec.pids_limit,
        oom_score_adj: spec.oom_score_adj,
        extra_hosts: listed(spec.extra_hosts.iter().cloned()),
        dns: listed(spec.dns.iter().cloned()),
        dns_search: listed(spec.dns_search.iter().cloned()),
        dns_options: listed(spec.dns_opt.iter().cloned()),
        group_add: listed(spec.group_add.iter().cloned()),
        userns_mode: spec.userns_mode.clone(),
        cgroupns_mode: spec.cgroup.as_deref().map(|mode| match mode {
            "host" => HostConfigCgroupnsModeEnum::HOST,
            _ => HostConfigCgroupnsModeEnum::PRIVATE,
        }),
        cgroup_parent: spec.cgroup_parent.clone(),
        device_cgroup_rules: listed(spec.device_cgroup_rules.iter().cloned()),
        storage_opt: (!spec.storage_opt.is_empty()).then(|| hash_map(&spec.storage_opt)),
        annotations: (!spec.annotations.is_empty()).then(|| hash_map(&spec.annotations)),
        runtime: spec.runtime.clone(),
        ..HostConfig::default()
    })
}

/// What of it Docker could be told to change later.
pub fn limits(spec: &Spec) -> Limits {
    // What is too large for Docker has been refused before anything was made.
    let signed = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
    Limits {
        memory: signed(spec.mem_limit),
        memory_swap: spec.memswap_limit,
        memory_reservation: signed(spec.mem_reservation),
        nano_cpus: signed(spec.nano_cpus),
        cpu_shares: spec.cpu_shares,
        cpuset: spec.cpuset.clone(),
        pids: spec.pids_limit,
    }
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
        let host_port = match (port.host_port, port.host_range) {
            (Some(port), _) => port.to_string(),
            (None, Some((first, last))) => format!("{first}-{last}"),
            // An empty port lets Docker choose.
            (None, None) => String::new(),
        };
        let binding = PortBinding {
            host_ip: Some(port.host_ip.clone()),
            host_port: Some(host_port),
        };
        map.entry(key_of(port))
            .or_default()
            .get_or_insert_default()
            .push(binding);
    }
    map
}

/// Volumes that are a path in the container and nothing else.
pub fn anonymous(spec: &Spec) -> impl Iterator<Item = &String> {
    spec.volumes.iter().filter(|volume| !volume.contains(':'))
}

/// Mounts of the long form, and the secrets that are files.
fn mounts(spec: &Spec) -> Result<Vec<Mount>, BodyError> {
    let mut mounts = Vec::new();
    for mount in &spec.mounts {
        let mut made = Mount {
            target: Some(mount.target.clone()),
            read_only: mount.read_only.then_some(true),
            ..Mount::default()
        };
        match &mount.kind {
            MountKind::Bind {
                source,
                propagation,
            } => {
                made.typ = Some(MountType::BIND);
                made.source = Some(source.clone());
                made.bind_options = propagation.map(|propagation| MountBindOptions {
                    propagation: Some(propagation_word(propagation)),
                    ..MountBindOptions::default()
                });
            }
            MountKind::Volume { source, nocopy } => {
                made.typ = Some(MountType::VOLUME);
                made.source = source.clone();
                made.volume_options = nocopy.then(|| MountVolumeOptions {
                    no_copy: Some(true),
                    ..MountVolumeOptions::default()
                });
            }
            MountKind::Tmpfs { size, mode } => {
                made.typ = Some(MountType::TMPFS);
                let size_bytes = signed("tmpfs.size", *size)?;
                let options = MountTmpfsOptions {
                    size_bytes,
                    mode: mode.map(i64::from),
                    ..MountTmpfsOptions::default()
                };
                let is_set = size.is_some() || mode.is_some();
                made.tmpfs_options = is_set.then_some(options);
            }
        }
        mounts.push(made);
    }
    for secret in spec.secrets.values() {
        let SecretSource::File(path) = &secret.source;
        mounts.extend(secret.target.as_ref().map(|target| Mount {
            typ: Some(MountType::BIND),
            source: Some(path.to_string_lossy().into_owned()),
            target: Some(target.clone()),
            read_only: Some(true),
            ..Mount::default()
        }));
    }
    Ok(mounts)
}

fn propagation_word(propagation: Propagation) -> MountBindOptionsPropagationEnum {
    match propagation {
        Propagation::Private => MountBindOptionsPropagationEnum::PRIVATE,
        Propagation::Rprivate => MountBindOptionsPropagationEnum::RPRIVATE,
        Propagation::Shared => MountBindOptionsPropagationEnum::SHARED,
        Propagation::Rshared => MountBindOptionsPropagationEnum::RSHARED,
        Propagation::Slave => MountBindOptionsPropagationEnum::SLAVE,
        Propagation::Rslave => MountBindOptionsPropagationEnum::RSLAVE,
    }
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
