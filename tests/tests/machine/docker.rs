//! Docker's units, given up by systemd.

use crate::{CONFIG, CONTAINERS, Machine, all_well};
use std::time::Duration;
use tests::systemd_host::SystemdHost;
use tests::wait;

/// Kills the daemon whenever it is up, until systemd has given it up.
fn crash_docker(host: &SystemdHost) {
    wait::until_within(Duration::from_secs(90), "systemd gives docker up", || {
        let _ = host.try_run(&["systemctl", "kill", "-s", "KILL", "docker"]);
        let log = host.shell("journalctl -u docker -o cat --no-pager");
        log.contains("Start request repeated too quickly")
            .then_some(())
    });
}

#[test]
fn docker_that_systemd_has_given_up_is_revived_unless_the_config_says_no() {
    let machine = Machine::start(&format!("{CONFIG}{CONTAINERS}"));
    let host = &machine.host;
    machine.until("all is well", all_well);
    crash_docker(host);
    machine.until("all is well again", all_well);
    let page = machine.page();
    assert!(
        page.contains("agent_docker_revivals_total{result=\"started\",unit=\"docker.service\"}"),
        "{page}"
    );
    let events = machine.events();
    let revived = events.iter().find(|event| event[0] == "docker.service");
    let revived = revived.unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!((&revived[1][..], &revived[2][..]), ("failed", "starting"));
    assert!(
        revived[3].contains("reset and started, try "),
        "{revived:?}"
    );

    // What somebody has stopped stays so.
    host.run(&["systemctl", "stop", "docker.socket", "docker.service"]);
    machine.until("docker is away", |status| {
        status["docker"]["reachable"] == false
    });
    wait::holds_for(Duration::from_secs(15), "docker stays stopped", || {
        host.property("docker", "ActiveState") == "inactive"
    });

    // And nothing is done where the config says so.
    host.shell("systemctl start docker.socket docker.service; printf '[docker]\\nrevive = false\\n' >>/etc/agent/agent.toml; systemctl restart agent");
    machine.until("all is well with another config", all_well);
    host.shell("systemctl reset-failed docker; journalctl --rotate --vacuum-time=1s -q");
    crash_docker(host);
    wait::holds_for(Duration::from_secs(15), "docker stays down", || {
        host.property("docker", "ActiveState") == "failed"
    });
}
