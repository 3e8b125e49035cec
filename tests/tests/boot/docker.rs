//! Docker restarts, is killed, is stopped, is given up by systemd; the agent outlives it and brings
//! the containers back.

use crate::place::{Host, Scenario};
use tests::wait;

pub const SCENARIOS: &[Scenario] = &[
    ("a_container_that_is_killed_comes_back", container),
    ("containers_come_back_after_docker_restarts", restarted),
    ("containers_come_back_after_docker_is_killed", killed),
    (
        "a_docker_that_was_stopped_is_started_by_the_next_question",
        stopped,
    ),
    ("a_docker_that_systemd_has_given_up_is_revived", given_up),
    ("docker_is_gone_and_the_page_and_the_logs_go_on", gone),
];

/// All well with other processes than those, under the same agent.
#[track_caller]
fn comes_back(host: &Host, agent: &str, mains: &[String]) {
    host.wait_others(mains, |_| false);
    assert_eq!(host.agent_pid(), agent, "the agent outlives Docker");
}

/// Three starts in a minute are the limit of its unit, and these scenarios are quick.
fn forget_starts(host: &Host) {
    host.run(&[
        "systemctl",
        "reset-failed",
        "docker.service",
        "docker.socket",
    ]);
}

fn container(host: &Host) {
    let (mains, agent) = (host.pids(), host.agent_pid());
    host.run(&["docker", "kill", "app", "sensor"]);
    comes_back(host, &agent, &mains);
}

fn restarted(host: &Host) {
    forget_starts(host);
    let (mains, agent) = (host.pids(), host.agent_pid());
    host.run(&["systemctl", "restart", "docker.service"]);
    comes_back(host, &agent, &mains);
}

fn killed(host: &Host) {
    forget_starts(host);
    let (mains, agent) = (host.pids(), host.agent_pid());
    host.run(&["systemctl", "kill", "-s", "KILL", "docker.service"]);
    comes_back(host, &agent, &mains);
}

fn stopped(host: &Host) {
    forget_starts(host);
    let (mains, agent) = (host.pids(), host.agent_pid());
    host.run(&["systemctl", "stop", "docker.service"]);
    comes_back(host, &agent, &mains);
    assert_eq!(host.property("docker.service", "ActiveState"), "active");
}

fn given_up(host: &Host) {
    forget_starts(host);
    let (mains, agent) = (host.pids(), host.agent_pid());
    wait::until("systemd gives Docker up", || {
        // It may be down at this moment.
        let _ = host.try_run(&["systemctl", "kill", "-s", "KILL", "docker.service"]);
        let said = host.run(&["journalctl", "--no-pager", "-o", "cat", "-u", "docker"]);
        let given_up = said.contains("Start request repeated too quickly");
        given_up.then_some(())
    });
    comes_back(host, &agent, &mains);
}

fn gone(host: &Host) {
    forget_starts(host);
    let agent = host.agent_pid();
    host.run(&["systemctl", "stop", "docker.socket", "docker.service"]);
    wait::until("the agent says that Docker is away", || {
        (host.status()["docker"]["reachable"] == false).then_some(())
    });
    let page = host.get(crate::place::METRICS, "/metrics").unwrap().text();
    assert!(page.contains("agent_docker_up 0"));
    assert!(page.contains("node_load1 "));
    host.log(3001);
    host.wait_journal("\"id\":3001");
    host.run(&["systemctl", "start", "docker.socket"]);
    host.wait_well();
    assert_eq!(host.agent_pid(), agent);
}
