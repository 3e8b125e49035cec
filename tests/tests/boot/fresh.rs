//! From the first boot until all is well, and who may ask.

use crate::place::{CONTAINERS, HEARTBEAT, Host, METRICS, Scenario};
use crate::provision::OLD_UNITS;
use tests::wait;

pub const SCENARIOS: &[Scenario] = &[
    ("the_agent_is_active_by_its_own_word", active),
    (
        "presets_enable_the_agent_and_its_sockets_and_nothing_else",
        presets,
    ),
    ("the_five_units_of_before_stay_masked", masks),
    ("usr_is_read_only_and_nothing_of_the_agent_is_in_it", usr),
    ("logs_are_taken_before_the_first_container_runs", early_logs),
    (
        "containers_come_up_though_nobody_has_started_docker",
        containers,
    ),
    ("the_page_is_in_the_format_of_prometheus", page),
    ("the_heartbeat_is_200_once_all_is_well", heartbeat),
    ("status_is_for_root_and_the_group_agent_alone", rights),
];

fn active(host: &Host) {
    host.wait_state("agent.service", "active");
    assert_eq!(host.property("agent", "Type"), "notify-reload");
    assert_ne!(host.property("agent", "ActiveEnterTimestampMonotonic"), "0");
    let cgroup = host.property("agent", "ControlGroup");
    assert!(cgroup.ends_with("/agent.service"), "{cgroup}");
    wait::until("the status text says how it is", || {
        let text = host.property("agent", "StatusText");
        text.contains("0 of 2 containers well").then_some(())
    });
}

fn presets(host: &Host) {
    for unit in [
        "agent.service",
        "agent.socket",
        "agent-metrics.socket",
        "docker.socket",
    ] {
        assert_eq!(
            host.run(&["systemctl", "is-enabled", unit]).trim(),
            "enabled",
            "{unit}"
        );
    }
    let docker = host.output(&["systemctl", "is-enabled", "docker.service"]);
    assert_eq!(String::from_utf8_lossy(&docker.stdout).trim(), "disabled");
    let id = host.run(&["cat", "/etc/machine-id"]);
    assert_eq!(id.trim().len(), 32, "{id}");
}

fn masks(host: &Host) {
    for unit in OLD_UNITS {
        assert_eq!(host.property(unit, "LoadState"), "masked", "{unit}");
        let start = host.output(&["systemctl", "start", unit]);
        assert!(!start.status.success(), "{unit}");
    }
}

fn usr(host: &Host) {
    assert!(host.try_run(&["touch", "/usr/x"]).is_err());
    let ours = host.run(&[
        "find",
        "/usr",
        "-xdev",
        "-newer",
        "/etc/agent/agent.toml",
        "-name",
        "*agent*",
    ]);
    assert_eq!(ours, "");
    let pid = host.agent_pid();
    let program = host.run(&["readlink", &format!("/proc/{pid}/exe")]);
    assert_eq!(program.trim(), "/opt/bin/agent");
}

fn early_logs(host: &Host) {
    assert!(!crate::place::all_well(&host.status()));
    host.log(4711);
    host.wait_journal("\"id\":4711");
}

fn containers(host: &Host) {
    // By the agent's own first call, over the socket that systemd holds.
    host.wait_state("docker.service", "active");
    let started_by = host.property("docker.service", "TriggeredBy");
    assert_eq!(started_by, "docker.socket");
    host.load_images();
    host.wait_well();
    let mains = host.pids();
    assert_eq!(mains.len(), CONTAINERS.len());
    for main in mains {
        let pid = main.split(' ').next_back().unwrap();
        let cgroup = host.run(&["cat", &format!("/proc/{pid}/cgroup")]);
        assert!(!cgroup.contains("agent.service"), "{cgroup}");
    }
    let said = host.get(8080, "/log?n=1&from=815").unwrap();
    assert_eq!(said.status, 200);
    host.wait_journal("\"id\":815");
}

fn page(host: &Host) {
    let reply = host.get(METRICS, "/metrics").unwrap();
    assert_eq!(reply.status, 200);
    let kind = reply.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = reply.text();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    for family in [
        "node_cpu_seconds_total",
        "node_memory_MemTotal_bytes",
        "agent_container_up",
    ] {
        assert!(text.contains(&format!("# TYPE {family} ")), "{family}");
    }
    assert!(
        text.contains("agent_container_up{container=\"app\"} 1"),
        "{text}"
    );
}

fn heartbeat(host: &Host) {
    assert_eq!(host.get(HEARTBEAT, "/heartbeat").unwrap().status, 200);
}

fn rights(host: &Host) {
    let group = host.run(&["getent", "group", "agent"]);
    let gid = group.split(':').nth(2).unwrap();
    host.run(&["/opt/bin/agent", "status"]);
    let as_nobody = |groups: &str| {
        let ids = ["setpriv", "--reuid=65534", "--regid=65534", groups];
        let ask = ["/opt/bin/agent", "status"];
        host.output(&[&ids[..], &ask].concat()).status.code()
    };
    assert_eq!(as_nobody(&format!("--groups={gid}")), Some(0));
    assert_eq!(as_nobody("--clear-groups"), Some(2));
}
