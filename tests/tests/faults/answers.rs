//! Docker's answers: lost, late, wrong, or none.

use crate::place::{Stage, app, message, restarts, seconds, state, wait_other, wait_state};
use std::time::Instant;
use tests::proxy::Fault;
use tests::wait;

/// One runs under the name, and stays.
fn assert_single(stage: &Stage, name: &str) {
    wait::until("one runs, and at most one dead one is kept", || {
        let running = stage.daemon.docker(&["ps", "--format", "{{.Names}}"]);
        let running = running.lines().filter(|one| one.starts_with(name)).count();
        (running == 1 && stage.names(name).len() <= 2).then_some(())
    });
    let id = stage.daemon.inspect(name, ".Id");
    wait::holds_for(seconds(1), "it is left alone", || {
        stage.daemon.inspect(name, ".Id") == id
    });
}

#[test]
fn a_create_whose_answer_is_lost_makes_one_container() {
    let stage = Stage::new();
    stage
        .proxy
        .fault("POST", "/containers/create", 1, Fault::CutAfter);
    let agent = stage.place.start(&app("lost-create", ""));
    agent.wait_well("lost-create");
    assert_single(&stage, "lost-create");
}

#[test]
fn a_start_whose_answer_is_lost_starts_one_container() {
    let stage = Stage::new();
    stage.proxy.fault("POST", "/start", 1, Fault::CutAfter);
    let agent = stage.place.start(&app("lost-start", ""));
    agent.wait_well("lost-start");
    assert_single(&stage, "lost-start");
    assert_eq!(stage.proxy.called("POST", "/containers/create").len(), 1);
}

#[test]
fn a_rename_whose_answer_is_lost_keeps_one_container() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("lost-rename", ""));
    let before = agent.wait_well("lost-rename");
    stage.proxy.fault("POST", "/rename", 1, Fault::CutAfter);
    stage.daemon.kill_main("lost-rename");
    wait_other(&agent, &before);
    assert_single(&stage, "lost-rename");
}

#[test]
fn calls_that_docker_never_heard_of_are_made_again() {
    for (name, path) in [
        ("unheard-create", "/containers/create"),
        ("unheard-start", "/start"),
        ("unheard-version", "/version"),
    ] {
        let stage = Stage::new();
        stage.proxy.fault("", path, 1, Fault::CutBefore);
        let agent = stage.place.start(&app(name, ""));
        agent.wait_well(name);
        assert_single(&stage, name);
    }
}

#[test]
fn a_kill_whose_answer_is_lost_stops_the_container_once() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("lost-kill", ""));
    agent.wait_well("lost-kill");
    stage.proxy.fault("POST", "/kill", 1, Fault::CutAfter);
    stage.order(&["stop", "lost-kill"]);
    wait_state(&agent, "lost-kill", "stopped");
    assert_eq!(stage.daemon.inspect("lost-kill", ".State.ExitCode"), "0");
    wait::holds_for(seconds(2), "it stays stopped", || {
        state(&agent, "lost-kill") == "stopped"
    });
}

#[test]
fn a_container_whose_calls_hang_hangs_alone() {
    let stage = Stage::new();
    let agent = stage.place.start(&(app("hung", "") + &app("free", "")));
    let (hung, free) = (agent.wait_well("hung"), agent.wait_well("free"));
    stage
        .proxy
        .fault("POST", "/containers/create?name=hung", 1, Fault::Hold);
    stage.daemon.kill_main("hung");
    wait::until("its create hangs", || {
        (stage.proxy.n_held() == 1).then_some(())
    });
    stage.daemon.kill_main("free");
    let began = Instant::now();
    wait_other(&agent, &free);
    assert!(began.elapsed() < seconds(5), "{:?}", began.elapsed());
    stage.order(&["restart", "free"]);
    assert_eq!(agent.status()["docker"]["reachable"], true);
    assert_eq!(state(&agent, "hung"), "starting");
    stage.proxy.heal();
    wait_other(&agent, &hung);
}

#[test]
fn a_slow_inspect_of_one_container_holds_up_that_one_alone() {
    let stage = Stage::new();
    let agent = stage.place.start(&(app("slow", "") + &app("quick", "")));
    let (slow, quick) = (agent.wait_well("slow"), agent.wait_well("quick"));
    stage.proxy.fault("GET", "/json", 1, Fault::Hold);
    stage.daemon.kill_main("slow");
    wait::until("its inspect hangs", || {
        (stage.proxy.n_held() == 1).then_some(())
    });
    stage.daemon.kill_main("quick");
    let began = Instant::now();
    wait_other(&agent, &quick);
    assert!(began.elapsed() < seconds(5), "{:?}", began.elapsed());
    stage.proxy.heal();
    let after = wait_other(&agent, &slow);
    assert_eq!(after["restarts"], 1, "{after}");
    assert_single(&stage, "slow");
}

#[test]
fn refused_creates_climb_the_ladder_and_heal() {
    let stage = Stage::new();
    let error = "{\"message\":\"the disk is on fire\"}";
    stage
        .proxy
        .fault("POST", "/containers/create", 3, Fault::Fail(500, error));
    let agent = stage.place.start(&app("refused", ""));
    let now = wait_state(&agent, "refused", "backoff");
    let said = now["message"].as_str().unwrap();
    assert!(said.contains("the disk is on fire"), "{said}");
    agent.wait_well("refused");
    let tries = stage.proxy.called("POST", "/containers/create");
    let gaps: Vec<_> = tries
        .windows(2)
        .map(|two| (two[1].at - two[0].at).as_secs_f64())
        .collect();
    assert_eq!(gaps.len(), 3, "{gaps:?}");
    // A first start is not a fall: the ladder's first rungs may be climbed at once.
    assert!(gaps[2] > gaps[1] && gaps[2] >= 1.6, "{gaps:?}");
    assert_eq!(
        stage
            .metric("agent_container_start_failures_total{container=\"refused\"}")
            .as_deref(),
        Some("3")
    );
}

#[test]
fn starts_that_fail_leave_nothing_behind_and_heal() {
    let stage = Stage::new();
    let error = "{\"message\":\"no such device\"}";
    stage
        .proxy
        .fault("POST", "/start", 2, Fault::Fail(500, error));
    let agent = stage.place.start(&app("stillborn", ""));
    wait::until("it says why", || {
        message(&agent, "stillborn")
            .contains("no such device")
            .then_some(())
    });
    agent.wait_well("stillborn");
    wait::until("nothing else is left", || {
        (stage.names("stillborn") == ["stillborn"]).then_some(())
    });
}

#[test]
fn answers_that_make_no_sense_are_asked_for_again() {
    let stage = Stage::new();
    for (path, body) in [
        ("/containers/json", "[{\"Id\":7}]"),
        ("/json", "<html>"),
        ("/version", "nonsense"),
    ] {
        stage.proxy.fault("GET", path, 1, Fault::Fail(200, body));
    }
    let agent = stage.place.start(&app("garbled", ""));
    agent.wait_well("garbled");
    assert_single(&stage, "garbled");
    assert_eq!(restarts(&agent, "garbled"), 0);
}
