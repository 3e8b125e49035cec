//! The Ignition config of a host, spec 3.3.0: the agent by http with its hash, the units of
//! `systemd/`, the agent's config, and masks of the units that it replaces.

use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;
use tests::agent::binary;
use tests::ignition;
use tests::program::workspace;
use tests::systemd_host::AGENT;

/// What ran on such a host before.
pub const OLD_UNITS: [&str; 5] = [
    "campaigns.service",
    "fluentd.service",
    "node-exporter.service",
    "cadvisor.service",
    "falcon-sensor.service",
];
const SOCKETS: [&str; 2] = ["agent.socket", "agent-metrics.socket"];

/// Units as they are installed, but for the watchdog: what it does is the same after 8 s.
const FOR_TESTS: &str = "[Service]\nWatchdogSec=8\n";

/// What the real Ignition writes into an empty root for an agent with that config.
pub fn root(agent_toml: &str) -> TempDir {
    ignition::apply(&config(agent_toml).to_string())
}

fn config(agent_toml: &str) -> Value {
    let program = binary();
    let address = ignition::serve(program.clone());
    let mut drop_ins = vec![json!({ "name": "90-test.conf", "contents": FOR_TESTS })];
    for name in names("agent.service.d") {
        let content = read(&format!("agent.service.d/{name}"));
        drop_ins.push(json!({ "name": name, "contents": content }));
    }
    let mut units = vec![json!({
        "name": "agent.service",
        "enabled": true,
        "contents": read("agent.service"),
        "dropins": drop_ins,
    })];
    for socket in SOCKETS {
        units.push(json!({ "name": socket, "enabled": true, "contents": read(socket) }));
    }
    for unit in OLD_UNITS {
        units.push(json!({ "name": unit, "mask": true }));
    }
    let mut files = vec![
        json!({
            "path": AGENT,
            "mode": 0o755,
            "contents": {
                "source": format!("http://{address}/agent"),
                "verification": { "hash": ignition::hash(&program) },
            },
        }),
        file("/etc/agent/agent.toml", agent_toml),
        file("/etc/sysusers.d/agent.conf", &read("agent.sysusers.conf")),
    ];
    for name in names("logind.conf.d") {
        let content = read(&format!("logind.conf.d/{name}"));
        files.push(file(
            &format!("/etc/systemd/logind.conf.d/{name}"),
            &content,
        ));
    }
    json!({
        "ignition": { "version": "3.3.0" },
        "storage": { "files": files },
        "systemd": { "units": units },
    })
}

fn file(path: &str, content: &str) -> Value {
    json!({ "path": path, "mode": 0o644, "contents": { "source": data_url(content) } })
}

/// What lies in a directory of `systemd/`; nothing where there is no such directory.
fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(workspace().join("systemd").join(directory));
    let entries = entries.into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn read(unit: &str) -> String {
    fs::read_to_string(workspace().join("systemd").join(unit)).unwrap()
}

/// RFC 2397, every byte that is not plainly harmless as %xx.
fn data_url(content: &str) -> String {
    let mut url = String::from("data:,");
    for byte in content.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            url.push(byte.into());
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}
