//! Others on the host: a second agent, and containers that the agent did not make.

use crate::place::{Stage, app, message, state, wait_other, wait_state};
use std::time::Duration;
use tests::wait;

#[test]
fn a_second_agent_leaves_and_names_the_first() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("single", ""));
    agent.wait_well("single");
    stage.proxy.forget();
    let config = stage.place.config();
    let second = stage
        .place
        .cli(&["run", "--config", &config.to_string_lossy()]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let said = String::from_utf8_lossy(&[second.stdout, second.stderr].concat()).into_owned();
    assert!(said.contains(&format!("pid {}", agent.pid())), "{said}");
    assert_eq!(stage.proxy.mutations(), [""; 0]);
    assert_eq!(state(&agent, "single"), "running");
}

fn foreigner(stage: &Stage, name: &str) -> String {
    let run = [
        "run",
        "-d",
        "--name",
        name,
        "--entrypoint",
        "/app",
        "agent-test/app:1",
    ];
    stage.daemon.docker(&run)
}

#[test]
fn a_foreign_holder_of_the_name_is_refused_named_and_left_alone() {
    let stage = Stage::new();
    let id = foreigner(&stage, "taken");
    let agent = stage.place.start(&app("taken", ""));
    wait_state(&agent, "taken", "blocked");
    let said = message(&agent, "taken");
    assert!(said.contains(&id[..12]), "{said}");
    assert_eq!(stage.daemon.inspect("taken", ".Id"), id);
    assert_eq!(stage.daemon.inspect("taken", ".State.Running"), "true");
    let made = stage.proxy.mutations();
    assert!(made.iter().all(|call| call.contains("/create")), "{made:?}");
    stage.daemon.docker(&["rm", "-f", "taken"]);
    stage.order(&["restart", "taken"]);
    agent.wait_well("taken");
}

#[test]
fn a_foreign_holder_is_adopted_as_it_is_until_its_next_restart() {
    let stage = Stage::new();
    let id = foreigner(&stage, "fostered");
    let pid = stage.daemon.inspect("fostered", ".State.Pid");
    let agent = stage.place.start(&app("fostered", "takeover = \"adopt\""));
    let before = agent.wait_well("fostered");
    assert_eq!(before["id"], id.as_str());
    assert_eq!(before["pid"].to_string(), pid);
    wait::holds_for(Duration::from_secs(2), "it is left alone", || {
        stage.daemon.inspect("fostered", ".State.Pid") == pid
    });
    stage.order(&["restart", "fostered"]);
    wait_other(&agent, &before);
    let label = "index .Config.Labels \"agent.container\"";
    assert_eq!(stage.daemon.inspect("fostered", label), "fostered");
}

#[test]
fn a_foreign_holder_is_stopped_with_grace_kept_and_replaced() {
    let stage = Stage::new();
    let id = foreigner(&stage, "ousted");
    let agent = stage.place.start(&app("ousted", "takeover = \"replace\""));
    let after = agent.wait_well("ousted");
    assert_ne!(after["id"], id.as_str());
    let aside = format!("ousted.before-agent-{}", &id[..12]);
    assert_eq!(stage.daemon.inspect(&aside, ".Id"), id);
    // It heard SIGTERM and left with 0; a kill would be 137.
    assert_eq!(stage.daemon.inspect(&aside, ".State.ExitCode"), "0");
}
