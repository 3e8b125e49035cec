//! Docker's events are hints: lost, doubled or swapped ones change no outcome.

use crate::place::{Stage, app, restarts, seconds, wait_other};
use tests::proxy::Events;
use tests::wait;

#[test]
fn an_end_of_which_no_event_tells_is_found_by_the_next_list() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("silent", ""));
    let before = agent.wait_well("silent");
    stage.proxy.events(Events::Lost);
    stage.daemon.kill_main("silent");
    let after = wait_other(&agent, &before);
    assert_eq!(after["restarts"], 1, "{after}");
    assert_eq!(after["last_exit"]["code"], 137, "{after}");
}

#[test]
fn doubled_events_count_one_end() {
    let stage = Stage::new();
    stage.proxy.events(Events::Doubled);
    let agent = stage.place.start(&app("doubled", ""));
    for n in 1..=2 {
        let before = agent.wait_well("doubled");
        stage.daemon.kill_main("doubled");
        wait_other(&agent, &before);
        assert_eq!(restarts(&agent, "doubled"), n);
    }
    let after = agent.wait_well("doubled");
    wait::holds_for(seconds(2), "it is left alone", || {
        agent.container("doubled")["pid"] == after["pid"]
    });
}

#[test]
fn swapped_events_count_one_end_and_start_no_second_one() {
    let stage = Stage::new();
    stage.proxy.events(Events::Swapped);
    let agent = stage.place.start(&app("swapped", ""));
    let before = agent.wait_well("swapped");
    stage.daemon.docker(&["kill", "swapped"]);
    let after = wait_other(&agent, &before);
    assert_eq!(after["restarts"], 1, "{after}");
    wait::holds_for(seconds(2), "it is left alone", || {
        agent.container("swapped")["pid"] == after["pid"]
    });
    assert_eq!(stage.names("swapped"), ["swapped", "swapped.prev"]);
}

#[test]
fn a_cut_stream_is_taken_up_again_and_what_ended_meanwhile_is_seen() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("cut-off", ""));
    let before = agent.wait_well("cut-off");
    stage.proxy.hide();
    wait::until("Docker is gone", || {
        (agent.status()["docker"]["reachable"] == false).then_some(())
    });
    stage.daemon.kill_main("cut-off");
    stage.proxy.show();
    wait_other(&agent, &before);
    assert_eq!(restarts(&agent, "cut-off"), 1);
}
