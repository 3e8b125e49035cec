//! Agents killed in the middle of a launch: the next one ends it once.

use crate::place::{Stage, app};
use serde_json::Value;
use tests::agent::Agent;
use tests::proxy::Fault;
use tests::wait;

/// Kills the main process, and the agent while its launch is held at that call.
fn killed_at(stage: &Stage, name: &str, call: (&'static str, &str, Fault)) -> Value {
    let agent = stage.place.start(&app(name, ""));
    let before = agent.wait_well(name);
    wait::until("the first start is over", || {
        (!stage.proxy.called("POST", "/start").is_empty() && stage.proxy.n_held() == 0)
            .then_some(())
    });
    let (method, path, fault) = call;
    stage.proxy.fault(method, path, 1, fault);
    stage.daemon.kill_main(name);
    wait::until("the launch is held", || {
        (stage.proxy.n_held() == 1).then_some(())
    });
    agent.kill();
    stage.proxy.heal();
    stage.proxy.forget();
    before
}

fn next<'a>(stage: &'a Stage, name: &str, before: &Value) -> (Agent<'a>, Value) {
    let mut agent = stage.place.spawn();
    agent.wait_ready();
    let after = agent.wait_well(name);
    assert_ne!(after["id"], before["id"]);
    wait::until("one runs under its name, and one dead one is kept", || {
        let tidy = stage.names(name) == [name.to_owned(), format!("{name}.prev")];
        (tidy && stage.daemon.inspect(name, ".Id") == after["id"].as_str().unwrap()).then_some(())
    });
    assert_eq!(after["restarts"], 1, "{after}");
    (agent, after)
}

#[test]
fn killed_after_the_rename() {
    let stage = Stage::new();
    let before = killed_at(
        &stage,
        "renaming",
        ("POST", "/containers/create", Fault::Hold),
    );
    assert_eq!(stage.names("renaming"), ["renaming.prev"]);
    next(&stage, "renaming", &before);
}

#[test]
fn killed_after_the_create() {
    let stage = Stage::new();
    let before = killed_at(&stage, "creating", ("POST", "/start", Fault::Hold));
    assert_eq!(stage.daemon.inspect("creating", ".State.Status"), "created");
    next(&stage, "creating", &before);
}

#[test]
fn killed_after_the_start() {
    let stage = Stage::new();
    let before = killed_at(&stage, "starting", ("POST", "/start", Fault::HoldAnswer));
    wait::until("it was started", || {
        (stage.daemon.inspect("starting", ".State.Running") == "true").then_some(())
    });
    let id = stage.daemon.inspect("starting", ".Id");
    let (_agent, after) = next(&stage, "starting", &before);
    assert_eq!(after["id"], id.as_str(), "started twice");
    let made = stage.proxy.called("POST", "/containers/create");
    assert!(made.is_empty(), "{made:?}");
}

#[test]
fn killed_in_the_middle_of_a_stop() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("halting", ""));
    agent.wait_well("halting");
    stage.proxy.fault("POST", "/kill", 1, Fault::Hold);
    // The order is answered only when it is done.
    let ordered = std::thread::scope(|scope| {
        let order = scope.spawn(|| stage.place.cli(&["stop", "halting"]));
        wait::until("the signal is held", || {
            (stage.proxy.n_held() == 1).then_some(())
        });
        wait::until("the order is written down", || {
            let memory = std::fs::read_to_string(stage.place.path("state/supervise.json")).ok()?;
            memory.contains("\"stopped\":true").then_some(())
        });
        agent.kill();
        order.join().unwrap()
    });
    assert_ne!(ordered.status.code(), Some(0), "said to be done");
    stage.proxy.heal();
    let mut agent = stage.place.spawn();
    agent.wait_ready();
    crate::place::wait_state(&agent, "halting", "stopped");
    assert_eq!(stage.daemon.inspect("halting", ".State.Running"), "false");
}
