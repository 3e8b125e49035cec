//! The units say what systemd understands, and keep what the agent relies on.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;
use tests::program::{command, output, stdout, workspace};

const UNITS: [&str; 3] = ["agent.service", "agent.socket", "agent-metrics.socket"];
const DROP_IN: &str = "agent.service.d/10-notify-reload.conf";
const HINT: &str = "apt-get install systemd (tests/run does)";

/// The units in a directory of their own, with a program that exists:
/// /opt/bin/agent is not on the machine that runs the tests.
fn installed() -> TempDir {
    let directory = TempDir::new().unwrap();
    let program = directory.path().join("agent");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for unit in UNITS {
        let text = read(unit).replace("/opt/bin/agent", program.to_str().unwrap());
        fs::write(directory.path().join(unit), text).unwrap();
    }
    directory
}

fn add_drop_in(directory: &Path) {
    fs::create_dir(directory.join("agent.service.d")).unwrap();
    fs::write(directory.join(DROP_IN), read(DROP_IN)).unwrap();
}

fn read(unit: &str) -> String {
    fs::read_to_string(workspace().join("systemd").join(unit)).unwrap()
}

/// What systemd finds wrong with all units; a wrong key costs a line, not the exit code.
fn findings(directory: &Path) -> String {
    let mut verify = command("systemd-analyze");
    verify.arg("verify");
    verify.args(UNITS.map(|unit| directory.join(unit)));
    let output = output(&mut verify, HINT).unwrap();
    let mut findings = String::from_utf8_lossy(&output.stdout).into_owned();
    findings.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        findings.push_str(&format!("systemd-analyze: {}", output.status));
    }
    findings
}

/// `systemd 252 (252.38-1~deb12u1)`
fn systemd_version() -> u32 {
    let text = stdout(command("systemd-analyze").arg("--version"), HINT).unwrap();
    let number = text.split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

/// The values of a key of one unit, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    read(unit)
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(str::to_owned)
        .collect()
}

#[test]
fn systemd_has_nothing_to_say_of_the_units() {
    assert_eq!(findings(installed().path()), "");
}

#[test]
fn the_drop_in_is_for_systemd_253_and_newer() {
    let directory = installed();
    add_drop_in(directory.path());
    let findings = findings(directory.path());
    if systemd_version() < 253 {
        // Also shows that a wrong key does not pass unseen.
        assert!(findings.contains("notify-reload"), "{findings:?}");
    } else {
        assert_eq!(findings, "");
    }
}

#[test]
fn the_agent_outlives_docker() {
    for key in ["Requires", "BindsTo", "PartOf", "Requisite", "Upholds"] {
        for unit in UNITS {
            let values = values(unit, key);
            assert!(values.is_empty(), "{unit}: {key}={values:?}");
        }
    }
    for key in ["After", "Wants"] {
        for value in values("agent.service", key) {
            let docker = value.split(' ').any(|unit| unit == "docker.service");
            assert!(!docker, "{key}={value}");
        }
    }
}

#[test]
fn a_stop_leaves_the_socket_files_and_state_is_private() {
    let service = |key| values("agent.service", key);
    assert_eq!(service("RuntimeDirectoryPreserve"), ["yes"]);
    assert_eq!(service("StateDirectory"), ["agent"]);
    assert_eq!(service("StateDirectoryMode"), ["0700"]);
    assert!(read("agent.sysusers.conf").contains("\ng agent "));
    assert_eq!(service("Group"), ["agent"]);
}

#[test]
fn sockets_are_named_for_what_they_carry() {
    assert_eq!(values("agent.socket", "FileDescriptorName"), ["forward"]);
    assert_eq!(
        values("agent.socket", "ListenStream"),
        ["127.0.0.1:24224", "/run/agent/forward.sock"]
    );
    let metrics = "agent-metrics.socket";
    assert_eq!(values(metrics, "FileDescriptorName"), ["metrics"]);
    assert_eq!(values(metrics, "ListenStream"), ["9100"]);
}
