//! The sensor with all rights and the host's namespaces, under a Docker that gives a privileged
//! container the rights that there are: Debian 13's, in a container, with the agent beside it.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use tests::agent::{Place, binary};
use tests::daemon::Daemon;
use tests::program::target_directory;
use tests::{http, wait};

/// Bit of CAP_SYS_RESOURCE; a machine may have taken it from us for good.
const SYS_RESOURCE: u32 = 24;

fn may_give_sys_resource() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap();
    u64::from_str_radix(bounding.trim(), 16).unwrap() >> SYS_RESOURCE & 1 == 1
}

#[test]
fn the_privileged_sensor_runs_with_all_rights_and_comes_back() {
    let outer = Daemon::start(&["falcon", "host"]);
    let mut place = Place::new();
    place.docker_socket = "/var/run/docker.sock".into();
    place.write(
        "[containers.falcon]\nimage = \"agent-test/falcon:1\"\nprivileged = true\n\
         network_mode = \"host\"\npid = \"host\"\nipc = \"host\"\nstop_grace_period = \"5s\"\n",
    );
    let config = place.config().display().to_string();
    let directory = place.config().parent().unwrap().display().to_string();
    let mounts = [
        format!("{directory}:{directory}"),
        format!("{}:/agent:ro", binary().display()),
        format!("{}:/images:ro", target_directory().join("images").display()),
        "/sys/fs/cgroup:/sys/fs/cgroup".into(),
        "/var/lib/docker".into(),
    ];
    let mut run = vec![
        "run",
        "-d",
        "--name",
        "host",
        "--cgroupns=host",
        "--cap-add",
        "ALL",
        "--tmpfs",
        "/run",
        "--tmpfs",
        "/tmp",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "apparmor=unconfined",
        "--security-opt",
        "systempaths=unconfined",
        "--device-cgroup-rule",
        "a *:* rwm",
    ];
    if !may_give_sys_resource() {
        run.extend(["--cap-drop", "SYS_RESOURCE"]);
    }
    for mount in &mounts {
        run.extend(["-v", mount]);
    }
    run.extend(["agent-test/host:1", "--bridge=none", "--iptables=false"]);
    outer.docker(&run);
    let inner = |arguments: &[&str]| {
        let mut exec = vec!["exec", "host", "docker"];
        exec.extend(arguments);
        outer.try_docker(&exec)
    };
    wait::until("the inner Docker answers", || match inner(&["version"]) {
        Ok(version) => Some(version),
        Err(_) if outer.inspect("host", ".State.Running") == "true" => None,
        Err(_) => panic!("{}", outer.docker(&["logs", "--tail", "20", "host"])),
    });
    let entrypoint = "ENTRYPOINT [\"/falcon\"]";
    inner(&[
        "import",
        "--change",
        entrypoint,
        "/images/falcon.tar",
        "agent-test/falcon:1",
    ])
    .unwrap();
    outer.docker(&["exec", "-d", "host", "/agent", "run", "--config", &config]);

    let sensor = || -> Option<serde_json::Value> {
        let reply = http::request_unix(&place.control(), "GET", "/status").ok()?;
        let status: serde_json::Value = serde_json::from_slice(&reply.body).ok()?;
        Some(status["containers"][0].clone())
    };
    let first = wait::until("the sensor runs", || {
        sensor().filter(|now| now["state"] == "running")
    });
    let inspect = |field: &str| inner(&["inspect", "-f", field, "falcon"]).unwrap();
    assert_eq!(inspect("{{.HostConfig.Privileged}}"), "true");
    assert_eq!(
        inspect("{{.HostConfig.PidMode}} {{.HostConfig.NetworkMode}} {{.HostConfig.IpcMode}}"),
        "host host host"
    );
    let said = wait::until("the sensor speaks", || {
        let logs = inner(&["logs", "falcon"]).ok()?;
        serde_json::from_str::<serde_json::Value>(logs.lines().next()?).ok()
    });
    // SYS_ADMIN (21) and SYS_MODULE (16) are nobody's without privilege
    let capabilities = u64::from_str_radix(said["capabilities"].as_str().unwrap(), 16).unwrap();
    assert_eq!(capabilities >> 21 & 1, 1, "{said}");
    assert_eq!(capabilities >> 16 & 1, 1, "{said}");

    let pid = first["pid"].to_string();
    outer.docker(&["exec", "host", "kill", "-9", &pid]);
    wait::until("the sensor is back", || {
        sensor().filter(|now| now["state"] == "running" && now["pid"] != first["pid"])
    });
}
