//! What this daemon does not take is told with Docker's reason, or ours where Docker has none.

use crate::place::{Host, wait_message};

/// Container, its lines, its state, and what the message says.
const CASES: &[(&str, &str, &str, &str)] = &[
    (
        "nowhere",
        "networks = ['nowhere-net']",
        "blocked",
        "network nowhere-net not found",
    ),
    (
        "second",
        "networks = ['spec-net', 'gone-net']",
        "blocked",
        "network gone-net not found",
    ),
    (
        "stored",
        "storage_opt = { colour = 'blue' }",
        "backoff",
        "Unknown option colour",
    ),
    ("arm", "platform = 'linux/arm64'", "backoff", "linux/arm64"),
    (
        "noted",
        "annotations = { a = 'b' }",
        "blocked",
        "annotations needs API 1.43",
    ),
    (
        "mac",
        "mac_address = '02:42:ac:11:65:43'",
        "blocked",
        "mac_address needs API 1.44",
    ),
    ("macs", "networks = ['spec-net', 'back-net']", "running", ""),
    (
        "quick",
        "healthcheck = { start_interval = '1s' }",
        "blocked",
        "healthcheck.start_interval needs API 1.44",
    ),
    (
        "absent",
        "volumes = { type = 'bind', source = '/nowhere/x', target = '/x', bind = { create_host_path = false } }",
        "blocked",
        "/nowhere/x",
    ),
];

#[test]
fn what_docker_does_not_take_blocks_with_the_reason() {
    let host = Host::new();
    let engine = host
        .daemon
        .docker(&["version", "-f", "{{.Server.APIVersion}}"]);
    let minor: u32 = engine.rsplit('.').next().unwrap().parse().unwrap();
    let second = std::process::id() % 256;
    for (name, first) in [("spec-net", 216), ("back-net", 217)] {
        let subnet = format!("10.{first}.{second}.0/24");
        host.daemon
            .docker(&["network", "create", "--subnet", &subnet, name]);
    }
    let mut config = String::new();
    for (name, lines, ..) in CASES {
        config.push_str(&format!(
            "[containers.{name}]\nimage = 'agent-test/app:1'\npull_policy = 'never'\nstop_grace_period = '1s'\n{lines}\n"
        ));
    }
    let agent = host.place.start(&config);
    for (name, _, state, part) in CASES {
        match *state {
            "running" => drop(agent.wait_well(name)),
            // A later Docker takes it.
            _ if part.contains("needs API") && minor >= 44 => drop(agent.wait_well(name)),
            state => drop(wait_message(&agent, name, state, part)),
        }
    }
    // Nothing half made is left.
    let all = host.daemon.docker(&["ps", "-a", "--format", "{{.Names}}"]);
    assert!(
        all.lines().all(|name| name == "macs" || minor >= 44),
        "{all}"
    );
}
