//! How containers end: the ladder of restarts, and the class that each end is given.

use crate::place::{Stage, app, brief, message, restarts, seconds, wait_other, wait_state};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::proxy::{Call, Events};
use tests::wait;

#[test]
fn restarts_come_at_once_then_after_1_2_and_4_seconds_and_ask_no_registry() {
    let stage = Stage::new();
    let _agent = stage.place.start(&brief("ladder", 0, 1));
    let starts = || -> Vec<Call> { stage.proxy.called("POST", "/start") };
    wait::until("it has been started five times", || {
        (starts().len() >= 5).then_some(())
    });
    let starts = starts();
    let gaps = starts.windows(2).map(|two| two[1].at - two[0].at);
    // ±20 %, and what a start and its end take on a busy machine.
    let slack = seconds(3);
    for (gap, wait) in gaps.zip([0, 1, 2, 4].map(Duration::from_secs)) {
        let envelope = wait.mul_f64(0.8)..=wait.mul_f64(1.2) + slack;
        assert!(envelope.contains(&gap), "{gap:?} is not in {envelope:?}");
    }
    let pulls = stage.proxy.called("POST", "/images/create");
    assert!(pulls.is_empty(), "{pulls:?}");
}

#[test]
fn five_ends_within_ten_minutes_are_shown_as_a_crash_loop() {
    let stage = Stage::new();
    let agent = stage
        .place
        .start(&(brief("looping", 0, 1) + &app("steady", "")));
    let before = wait::until("it has ended four times", || {
        let now = agent.container("looping");
        (now["restarts"] == 4 && now["state"] == "backoff").then_some(now)
    });
    assert_eq!(before["crash_loop"], false, "{before}");
    wait::until("it has ended five times", || {
        (restarts(&agent, "looping") == 5).then_some(())
    });
    wait::until("it is flagged", || {
        (agent.container("looping")["crash_loop"] == true).then_some(())
    });
    assert_eq!(agent.container("steady")["crash_loop"], false);
}

#[test]
fn each_end_has_its_class_in_status_and_metrics() {
    let stage = Stage::new();
    // Long enough to be seen running, short enough to wait for.
    let config = brief("ends-clean", 1, 0)
        + &brief("ends-error", 1, 3)
        + &brief("ends-config", 1, 127)
        + &app("ends-signal", "")
        + &app("ends-external", "");
    let agent = stage.place.start(&config);
    agent.wait_well("ends-signal");
    agent.wait_well("ends-external");
    stage.daemon.kill_main("ends-signal");
    stage.daemon.docker(&["stop", "ends-external"]);
    for (name, class, code) in [
        ("ends-clean", "clean", 0),
        ("ends-error", "error", 3),
        ("ends-config", "config", 127),
        ("ends-signal", "signal", 137),
        ("ends-external", "external", 0),
    ] {
        let exit = wait::until(&format!("{name} has ended"), || {
            Some(agent.container(name)["last_exit"].clone()).filter(|exit| exit.is_object())
        });
        assert_eq!(
            (&exit["class"], &exit["code"]),
            (&class.into(), &code.into()),
            "{name}"
        );
        let series =
            format!("agent_container_restarts_total{{container=\"{name}\",reason=\"{class}\"}}");
        let count = stage.metric(&series);
        assert!(
            count.as_deref().is_some_and(|count| count != "0"),
            "{series} {count:?}"
        );
    }
}

/// Gives it a log line to make that is bigger than its memory.
fn overeat(stage: &Stage, name: &str) {
    let address = stage.daemon.inspect(name, ".NetworkSettings.IPAddress");
    let address = format!("{address}:8080").parse().unwrap();
    let _ = tests::http::get(address, "/log?n=1&bytes=300000000", &[]);
}

#[test]
fn what_memory_was_too_short_for_is_shown_as_oom() {
    let stage = Stage::new();
    let limit = "mem_limit = \"16m\"\nmemswap_limit = \"16m\"";
    let agent = stage.place.start(&app("hungry", limit));
    let before = agent.wait_well("hungry");
    overeat(&stage, "hungry");
    let after = wait_other(&agent, &before);
    assert_eq!(after["last_exit"]["class"], "oom", "{after}");
    let series = "agent_container_restarts_total{container=\"hungry\",reason=\"oom\"}";
    assert_eq!(stage.metric(series).as_deref(), Some("1"));
}

#[test]
fn where_dockers_event_of_it_is_lost_the_cgroup_tells_of_the_oom() {
    let stage = Stage::new();
    stage.proxy.events(Events::Without("\"oom\""));
    let limit = "mem_limit = \"16m\"\nmemswap_limit = \"16m\"";
    let agent = stage.place.start(&app("unheard", limit));
    let before = agent.wait_well("unheard");
    overeat(&stage, "unheard");
    let after = wait_other(&agent, &before);
    assert_eq!(after["last_exit"]["class"], "oom", "{after}");
}

#[test]
fn what_only_another_config_can_mend_waits_a_minute_and_starts_at_once_with_one() {
    let stage = Stage::new();
    let agent = stage.place.start(&brief("unfit", 0, 126));
    let now = wait_state(&agent, "unfit", "backoff");
    assert!(now["retry_at"].is_string(), "{now}");
    let until = wait::until("the wait is written down", || {
        let memory = std::fs::read(stage.place.path("state/supervise.json")).ok()?;
        let memory: serde_json::Value = serde_json::from_slice(&memory).ok()?;
        memory["containers"]["unfit"]["wait_until"].as_u64()
    });
    let series = "agent_container_backoff_seconds{container=\"unfit\"}";
    let shown: f64 = stage.metric(series).unwrap().parse().unwrap();
    assert!((48.0..=72.0).contains(&shown), "{shown}");
    let left = UNIX_EPOCH + Duration::from_millis(until);
    let left = left.duration_since(SystemTime::now()).unwrap();
    assert!(
        (seconds(40)..=seconds(73)).contains(&left),
        "{left:?}: {now}"
    );
    stage.place.write(&app("unfit", ""));
    stage.order(&["reload"]);
    agent.wait_well("unfit");
}

#[test]
fn what_others_stop_comes_back_at_once_and_what_fights_us_climbs() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("fought", ""));
    let before = agent.wait_well("fought");
    stage.daemon.docker(&["kill", "fought"]);
    let after = wait_other(&agent, &before);
    assert_eq!(after["last_exit"]["class"], "external", "{after}");
    assert_eq!(after["crash_loop"], false);
    stage.daemon.docker(&["kill", "fought"]);
    // The second brief run is no accident.
    wait_state(&agent, "fought", "backoff");
    let said = message(&agent, "fought");
    assert!(said.contains("external"), "{said}");
}

#[test]
fn what_others_remove_is_made_again() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("snatched", ""));
    let before = agent.wait_well("snatched");
    stage.daemon.docker(&["rm", "-f", "snatched"]);
    let after = wait_other(&agent, &before);
    assert_ne!(after["id"], before["id"]);
    wait::holds_for(seconds(2), "it is left alone", || {
        agent.container("snatched")["pid"] == after["pid"]
    });
}
