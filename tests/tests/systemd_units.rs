//! The units say what systemd understands, and keep what the agent relies on.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;
use tests::program::{command, output, stdout, workspace};

const UNITS: [&str; 3] = ["agent.service", "agent.socket", "agent-metrics.socket"];
/// Each with what a systemd that is too old for it says, and the first that is not.
const DROP_INS: [(&str, &str, u32); 2] = [
    (
        "agent.service.d/10-notify-reload.conf",
        "notify-reload",
        253,
    ),
    (
        "agent.service.d/20-restart-steps.conf",
        "ImportCredential",
        254,
    ),
];
/// Tenths, as `--threshold=` takes it.
const EXPOSURE: &str = "23";
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

fn add(drop_in: &str, directory: &Path) {
    fs::create_dir(directory.join("agent.service.d")).unwrap();
    fs::write(directory.join(drop_in), read(drop_in)).unwrap();
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
fn each_drop_in_is_for_the_systemd_that_it_names() {
    for (drop_in, complaint, first) in DROP_INS {
        assert!(read(drop_in).contains(&format!("systemd {first} and newer")));
        let directory = installed();
        add(drop_in, directory.path());
        let findings = findings(directory.path());
        if systemd_version() < first {
            // Also shows that a wrong key does not pass unseen.
            assert!(findings.contains(complaint), "{findings:?}");
        } else {
            assert_eq!(findings, "");
        }
    }
}

/// Its table: name of the directive without `=`, and whether it is as strict as may be.
fn assessed() -> (bool, Vec<(String, bool)>) {
    let directory = installed();
    let mut security = command("systemd-analyze");
    security.args(["security", "--no-pager", "--offline=yes"]);
    security.arg(format!("--threshold={EXPOSURE}"));
    let output = output(security.arg(directory.path().join("agent.service")), HINT).unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (mark, name) = (words.next()?, words.next()?);
        let is_row = matches!(mark, "✓" | "✗" | "+" | "-");
        is_row.then(|| (name.to_owned(), matches!(mark, "✓" | "+")))
    });
    (output.status.success(), rows.collect())
}

#[test]
fn the_unit_is_as_strict_as_it_may_be_and_argues_the_rest() {
    let (is_within, rows) = assessed();
    assert!(is_within, "more than {EXPOSURE} tenths");
    assert!(
        rows.iter().filter(|(_, good)| *good).count() > 50,
        "{rows:?}"
    );
    let unit = read("agent.service");
    let argued: String = unit.lines().filter(|line| line.starts_with('#')).collect();
    for (row, _) in rows.iter().filter(|(_, good)| !good) {
        // `CapabilityBoundingSet=~CAP_(DAC_*|FOWNER|IPC_OWNER)`, `User=/DynamicUser=`
        let (directive, value) = row.split_once('=').unwrap();
        let words: &[&str] = match value {
            "~CAP_(DAC_*|FOWNER|IPC_OWNER)" => &["CAP_DAC_READ_SEARCH:"],
            "~CAP_SYS_PTRACE" => &["CAP_SYS_PTRACE:"],
            "~CAP_KILL" => &["CAP_KILL:"],
            "~AF_(INET|INET6)" => &["AF_INET, AF_INET6:"],
            "~AF_UNIX" => &["AF_UNIX:"],
            "~AF_NETLINK" => &["AF_NETLINK:"],
            _ => &[],
        };
        let said = match words {
            [] => {
                argued.contains(&format!("{directive}=")) || is_set_with_a_reason(&unit, directive)
            }
            words => words.iter().all(|word| argued.contains(word)),
        };
        assert!(said, "{row} is not argued");
    }
}

/// A comment stands right above the directive.
fn is_set_with_a_reason(unit: &str, directive: &str) -> bool {
    let lines: Vec<&str> = unit.lines().collect();
    lines
        .windows(2)
        .any(|two| two[0].starts_with('#') && two[1].starts_with(&format!("{directive}=")))
}

/// Seconds of a directive in whole seconds.
fn seconds(file: &str, key: &str) -> u64 {
    let values = values(file, key);
    values.last().unwrap().parse().unwrap()
}

#[test]
fn a_drain_fits_into_logind_and_a_stop_into_systemd() {
    let delay = seconds("logind.conf.d/10-agent.conf", "InhibitDelayMaxSec");
    let stop = seconds("agent.service", "TimeoutStopSec");
    // Both may be under way at once; and the agent's own stop is 10 s by default.
    assert!(stop >= delay + 10, "{stop} {delay}");
    assert!(delay >= 60, "{delay}");
    let watchdog = seconds("agent.service", "WatchdogSec");
    assert!(
        watchdog >= 15,
        "fed each second; a loaded host must not lose it"
    );
    // Its own restarts are not counted.
    assert_eq!(values("agent.service", "StartLimitIntervalSec"), ["0"]);
    assert_eq!(values("agent.service", "Restart"), ["always"]);
    assert_eq!(values("agent.service", "OOMScoreAdjust"), ["-900"]);
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
