//! systemd comes up on the root that Ignition has written.

use super::applied::{Applied, served, with};
use super::rendered;
use std::fs;
use tempfile::TempDir;
use tests::program::{command, output, stdout};
use tests::systemd_host::Plan;

const SYSTEMD: &str = "apt-get install systemd (tests/run does)";

/// Ignition enables by preset alone; systemd does the rest on the first boot. Flatcar's presets
/// end with `disable *`.
#[test]
fn systemd_enables_the_agent_on_the_first_boot_and_nothing_masked() {
    let applied = Applied::of(&with(&served(), &[])).well();
    let root = applied.root();
    let presets = root.join("etc/systemd/system-preset");
    fs::write(presets.join("99-default.preset"), "disable *\n").unwrap();
    let mut preset = command("systemctl");
    stdout(preset.arg("--root").arg(&root).arg("preset-all"), SYSTEMD).unwrap();
    let is_enabled = |unit: &str| {
        let mut ask = command("systemctl");
        let answer = output(
            ask.arg("--root").arg(&root).args(["is-enabled", unit]),
            SYSTEMD,
        );
        String::from_utf8(answer.unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
    };
    for unit in ["agent.service", "agent.socket", "agent-metrics.socket"] {
        assert_eq!(is_enabled(unit), "enabled", "{unit}");
    }
    assert_eq!(is_enabled("fluentd.service"), "masked");
    let wants = root.join("etc/systemd/system/multi-user.target.wants/agent.service");
    assert!(wants.is_symlink());
    let mut users = command("systemd-sysusers");
    stdout(users.arg("--root").arg(&root), SYSTEMD).unwrap();
    let groups = fs::read_to_string(root.join("etc/group")).unwrap();
    assert!(groups.contains("\nagent:x:"), "{groups}");
}

/// From the rendered config alone: the host of the tests has nothing of the agent but its binary.
#[test]
fn a_fresh_host_comes_up_with_the_agent_running() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("agent.toml");
    let text = "[cloud]\nimds = false\n[containers.web]\nimage = \"web:1\"\npull_policy = \"never\"\n\
                [containers.web.drain]\nconnections = \"600s\"\n[metrics]\nlisten = \"127.0.0.1:9200\"\n";
    fs::write(&config, text).unwrap();
    // networkd has no link of its own in a container to wait for.
    let masks = "--mask-legacy=fluentd.service,systemd-networkd-wait-online.service";
    let text = rendered(&[
        config.to_str().unwrap(),
        "--preinstalled",
        "--compress",
        masks,
    ]);
    let applied = Applied::of(&text).well();
    // The host's own are better.
    for name in ["etc/passwd", "etc/group"] {
        fs::remove_file(applied.root().join(name)).unwrap();
    }
    let host = Plan::new()
        .overlay(&applied.root())
        // systemd.preset(5): presets count on the first boot.
        .file("/etc/machine-id", "uninitialized\n")
        .boot();
    host.wait_state("agent.service", "active");
    for socket in ["agent.socket", "agent-metrics.socket"] {
        assert_eq!(host.property(socket, "ActiveState"), "active", "{socket}");
    }
    assert_eq!(host.property("fluentd.service", "LoadState"), "masked");
    let listens = host.property("agent-metrics.socket", "Listen");
    assert_eq!(listens, "127.0.0.1:9200 (Stream)");
    let delay = host.run(&[
        "busctl",
        "get-property",
        "org.freedesktop.login1",
        "/org/freedesktop/login1",
        "org.freedesktop.login1.Manager",
        "InhibitDelayMaxUSec",
    ]);
    // 600 s, 30 s of grace, 20 s.
    assert_eq!(delay.trim(), "t 650000000");
    // Exit code 1: of the one container there is no image.
    let status = host.output(&["/opt/bin/agent", "status", "--json"]);
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    assert!(String::from_utf8_lossy(&status.stdout).contains("\"web\""));
}
