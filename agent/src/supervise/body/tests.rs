//! What reaches Docker, without Docker.

use super::{Body, BodyError};
use crate::supervise::spec::resolve::Resolved;
use crate::supervise::spec::{Logging, Port, Protocol, Spec, Ulimit};
use crate::supervise::{Container, Drain, Probes, PullPolicy, Takeover, Update};
use serde_json::json as value;
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

fn made(spec: Spec, log_address: Option<&str>) -> Result<Body, BodyError> {
    super::body(&container(spec), &Resolved::default(), log_address)
}

fn json(spec: Spec) -> serde_json::Value {
    serde_json::to_value(made(spec, None).unwrap().create).unwrap()
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
    let body = json(spec);
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
        host_range: None,
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
    let body = json(spec);
    let host = &body["HostConfig"];
    assert_eq!(
        host["PortBindings"],
        value!({"8080/tcp": [{"HostIp": "", "HostPort": "4914"}],
               "53/udp": [{"HostIp": "", "HostPort": ""}]})
    );
    assert_eq!(body["ExposedPorts"], value!({"8080/tcp": {}, "53/udp": {}}));
    assert_eq!(host["Binds"], value!(["/:/rootfs:ro,rslave"]));
    assert_eq!(host["Devices"][1]["PathInContainer"], "/dev/b");
    assert_eq!(host["Devices"][1]["CgroupPermissions"], "r");
    assert_eq!(body["Env"], value!(["NODE_ENV=production"]));
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
    let body = made(spec.clone(), address).unwrap().create;
    let config = body.host_config.unwrap().log_config.unwrap();
    let options = config.config.unwrap();
    assert_eq!(config.typ.as_deref(), Some("fluentd"));
    assert_eq!(options["tag"], "campaigns");
    assert_eq!(options["fluentd-address"], "unix:///run/agent/forward.sock");
    assert!(!options.contains_key("fluentd-request-ack"));
    assert_eq!(options["fluentd-async"], "false");
    let off = made(spec, None);
    assert!(matches!(off, Err(BodyError::NoLogAddress)));
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
    let made = made(spec.clone(), None).unwrap();
    let labels = made.create.labels.unwrap();
    assert_eq!(labels["agent.spec"], spec.hash(None));
    assert_eq!(made.hash, spec.hash(None));
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
    let error = made(spec, None).map(drop).unwrap_err();
    assert!(matches!(error, BodyError::Device(device) if device == "kmsg"));
}

#[test]
fn what_files_say_lies_beneath_the_config_and_secrets_above_both() {
    let secret = |value: &str| crate::secret::Secret::new(value.into());
    let resolved = Resolved {
        env_files: BTreeMap::from([("A".into(), secret("file")), ("B".into(), secret("file"))]),
        secrets: BTreeMap::from([("C".into(), secret("hidden"))]),
        security_opt: None,
        content: Some("11".into()),
    };
    let spec = Spec {
        environment: BTreeMap::from([("B".into(), "own".into())]),
        env_files: vec![crate::supervise::spec::EnvFile {
            path: "/x".into(),
            required: true,
            format: crate::supervise::spec::EnvFormat::Compose,
        }],
        ..Spec::default()
    };
    let made = super::body(&container(spec), &resolved, None).unwrap();
    assert_eq!(made.create.env.unwrap(), ["A=file", "B=own", "C=hidden"]);
    assert!(made.hash.ends_with("+11"));
    let labels = made.create.labels.unwrap();
    assert!(labels.values().all(|label| !label.contains("hidden")));
}

#[test]
fn a_mac_address_of_the_container_goes_to_its_first_network() {
    let network = |name: &str| crate::supervise::spec::Network {
        name: name.into(),
        ..Default::default()
    };
    let spec = Spec {
        mac_address: Some("02:42:0a:00:00:05".into()),
        networks: vec![network("front"), network("back")],
        ..Spec::default()
    };
    let first = json(spec.clone())["NetworkingConfig"]["EndpointsConfig"].clone();
    assert_eq!(
        first,
        value!({"front": {"MacAddress": "02:42:0a:00:00:05"}})
    );
    let connect = made(spec.clone(), None).unwrap().connect;
    assert_eq!(connect.len(), 1);
    assert_eq!(connect[0].0, "back");
    let spec = Spec {
        networks: vec![],
        ..spec
    };
    let first = json(spec)["NetworkingConfig"]["EndpointsConfig"].clone();
    assert_eq!(
        first,
        value!({"default": {"MacAddress": "02:42:0a:00:00:05"}})
    );
}
