//! Where the packages land: Docker, and a Debian with systemd.

use super::made;
use std::fs;
use std::sync::Mutex;
use tests::agent::binary;
use tests::program::{command, output, stdout};
use tests::systemd_host::Plan;
use tests::wait;

const DOCKER: &str = "Docker must run (tests/run starts it)";
/// Its name is in the archive: one at a time.
static IMAGE: Mutex<()> = Mutex::new(());

fn version() -> String {
    stdout(command(binary()).arg("--version"), "").unwrap()
}

#[test]
fn docker_loads_the_image_and_runs_it_from_scratch() {
    let _alone = IMAGE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let archive = made(".oci.tar");
    let loaded = stdout(
        command("docker").args(["load", "--input"]).arg(archive),
        DOCKER,
    )
    .unwrap();
    let image = loaded.trim().strip_prefix("Loaded image: ").unwrap();
    // Under a name of this test's own, so that only that goes away again.
    let name = format!("packaging-test:{}", std::process::id());
    stdout(command("docker").args(["tag", image, &name]), DOCKER).unwrap();
    stdout(command("docker").args(["rmi", image]), DOCKER).unwrap();
    let run = |arguments: &[&str]| {
        let mut docker = command("docker");
        docker.args([
            "run",
            "--rm",
            "--read-only",
            "--network",
            "none",
            "--user",
            "65534:65534",
        ]);
        output(docker.arg(&name).args(arguments), DOCKER).unwrap()
    };
    let told = run(&["--version"]);
    let checked = run(&["check"]);
    stdout(command("docker").args(["rmi", &name]), DOCKER).unwrap();
    let said = String::from_utf8_lossy(&told.stderr);
    assert_eq!(String::from_utf8_lossy(&told.stdout), version(), "{said}");
    assert!(checked.status.success(), "{checked:?}");
}

/// `agent 0.1.0 (commit 30116b9016d4…, x86_64-unknown-linux-gnu, glibc 2.36, static)`
#[test]
fn the_version_tells_commit_target_and_libc() {
    let text = version();
    let inside = text.trim().split_once(" (").unwrap().1;
    let parts: Vec<&str> = inside.strip_suffix(')').unwrap().split(", ").collect();
    let [commit, target, libc, linked] = parts[..] else {
        panic!("{text}");
    };
    let commit = commit.strip_prefix("commit ").unwrap();
    let digits = commit.trim_end_matches("-dirty");
    assert!(
        digits.len() >= 7 && digits.bytes().all(|b| b.is_ascii_hexdigit()),
        "{text}"
    );
    assert!(target.starts_with(std::env::consts::ARCH), "{text}");
    assert!(libc.starts_with("glibc 2.") || libc == "musl", "{text}");
    assert_eq!(linked, "static", "{text}");
}

#[test]
fn debian_installs_starts_upgrades_and_purges_the_package() {
    let package = made(".deb");
    let bind = format!("{}:/mnt/agent.deb:ro", package.display());
    // On a host with packages /usr can be written,
    // and what is installed is enabled, as Debian's own preset says.
    let preset = "/etc/systemd/system-preset/00-debian.preset";
    let host = Plan::new()
        .bind(&bind)
        .file(preset, "enable agent*\n")
        .boot();
    host.shell("while mountpoint -q /usr; do umount -l /usr; done");

    host.run(&["dpkg", "--install", "/mnt/agent.deb"]);
    host.wait_state("agent.service", "active");
    assert_eq!(host.property("agent.service", "UnitFileState"), "enabled");
    assert_eq!(
        host.property("agent-metrics.socket", "ActiveState"),
        "active"
    );
    assert!(
        host.run(&["getent", "group", "agent"])
            .starts_with("agent:")
    );
    assert_eq!(host.run(&["/usr/bin/agent", "--version"]), version());
    // The control socket comes before READY=1, and that before "active".
    let status = host.output(&["/usr/bin/agent", "status"]);
    assert_ne!(status.status.code(), Some(2), "{status:?}");

    // What an operator has changed stays over an upgrade; sockets are held throughout.
    host.write("/etc/agent/agent.toml", "[node]\nsite = \"b\"\n");
    let (pid, socket) = (
        host.property("agent.service", "MainPID"),
        host.property("agent-metrics.socket", "ActiveEnterTimestampMonotonic"),
    );
    host.run(&["dpkg", "--install", "/mnt/agent.deb"]);
    wait::until("another process serves", || {
        let now = host.property("agent.service", "MainPID");
        (now != pid && now != "0").then_some(())
    });
    host.wait_state("agent.service", "active");
    let after = host.property("agent-metrics.socket", "ActiveEnterTimestampMonotonic");
    assert_eq!(after, socket);
    assert!(host.run(&["cat", "/etc/agent/agent.toml"]).contains("site"));

    host.run(&["dpkg", "--remove", "agent"]);
    assert!(host.run(&["ls", "/etc/agent"]).contains("agent.toml"));
    assert_eq!(host.property("agent.service", "LoadState"), "not-found");
    assert!(host.run(&["ls", "/var/lib"]).contains("agent"));
    host.run(&["dpkg", "--purge", "agent"]);
    host.shell(
        "! test -e /etc/agent/agent.toml && ! test -e /var/lib/agent && ! test -e /usr/bin/agent",
    );
    assert!(fs::metadata(package).unwrap().len() > 0);
}
