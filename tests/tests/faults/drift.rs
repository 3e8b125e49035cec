//! What others do to a running container is put right without a replacement.

use crate::place::{Stage, app};
use serde_json::Value;
use tests::agent::Agent;
use tests::wait;

fn put_right(stage: &Stage, agent: &Agent<'_>, before: &Value, field: &str, wanted: &str) {
    let name = before["name"].as_str().unwrap();
    let id = before["id"].as_str().unwrap();
    wait::until(&format!("{field} is {wanted}"), || {
        (stage.daemon.inspect(id, field) == wanted).then_some(())
    });
    let after = agent.wait_well(name);
    assert_eq!(after["pid"], before["pid"]);
    assert_eq!(after["restarts"], 0);
    assert_eq!(stage.proxy.called("POST", "/containers/create").len(), 1);
}

#[test]
fn a_paused_container_goes_on() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("iced", ""));
    let before = agent.wait_well("iced");
    stage.daemon.docker(&["pause", "iced"]);
    put_right(&stage, &agent, &before, ".State.Paused", "false");
}

#[test]
fn a_renamed_container_gets_its_name_back() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("misnamed", ""));
    let before = agent.wait_well("misnamed");
    stage
        .daemon
        .docker(&["rename", "misnamed", "misnamed-by-hand"]);
    put_right(&stage, &agent, &before, ".Name", "/misnamed");
}

#[test]
fn a_restart_policy_of_dockers_is_taken_off() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("insured", ""));
    let before = agent.wait_well("insured");
    stage
        .daemon
        .docker(&["update", "--restart", "always", "insured"]);
    put_right(
        &stage,
        &agent,
        &before,
        ".HostConfig.RestartPolicy.Name",
        "no",
    );
}

#[test]
fn limits_that_someone_has_changed_are_set_again_and_those_that_no_config_sets_are_left() {
    let stage = Stage::new();
    let limits = "mem_limit = \"64m\"\npids_limit = 50\ncpus = 0.5";
    let agent = stage.place.start(&app("squeezed", limits));
    let before = agent.wait_well("squeezed");
    let change = "update --memory 32m --memory-swap 32m --pids-limit 20 --cpus 1.5 squeezed";
    let words: Vec<&str> = change.split(' ').collect();
    stage.daemon.docker(&words);
    let fields = ".HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus";
    put_right(&stage, &agent, &before, fields, "67108864 50 500000000");
    let told = stage.events("squeezed");
    let mended = told
        .iter()
        .filter(|one| one["reason"] == "put drift right")
        .count();
    assert_eq!(mended, 1, "{told:?}");

    stage
        .daemon
        .docker(&["update", "--cpu-shares", "512", "squeezed"]);
    agent.wait_well("squeezed");
    assert_eq!(
        stage
            .daemon
            .inspect("squeezed", ".HostConfig.CpuShares")
            .as_str(),
        "512"
    );
}
