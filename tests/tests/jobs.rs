//! Jobs on a real Docker: orders, deadlines, retries, agents that die, one minute of the schedule.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::sync::Mutex;
use std::time::Duration;
use tests::agent::{Agent, Place};
use tests::daemon::Daemon;
use tests::{http, wait};

/// Daemons cost much: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn place_on(daemon: &Daemon) -> Place {
    let mut place = Place::new();
    place.docker_socket = daemon.socket();
    place
}

/// A job that works for so long and ends with that code; due once a year unless `extra` says so.
fn job(name: &str, seconds: u32, code: u32, extra: &str) -> String {
    let schedule = if extra.contains("schedule") {
        ""
    } else {
        "schedule = \"@yearly\"\n"
    };
    format!(
        "[jobs.{name}]\nimage = \"agent-test/app:1\"\nentrypoint = [\"/app\"]\n\
         command = [\"job\", \"{seconds}\", \"{code}\"]\n{schedule}{extra}\n"
    )
}

fn names(daemon: &Daemon) -> Vec<String> {
    let all = daemon.docker(&["ps", "-a", "--format", "{{.Names}}"]);
    let mut names: Vec<String> = all.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn shown(agent: &Agent<'_>, name: &str) -> Value {
    let status = agent.status();
    let list = status["jobs"].as_array().unwrap();
    let found = list.iter().find(|one| one["name"] == name);
    found
        .unwrap_or_else(|| panic!("no job {name} in {status}"))
        .clone()
}

/// Waits for `n` ended runs; the newest.
fn ended(agent: &Agent<'_>, name: &str, n: usize) -> Value {
    wait::until(&format!("{name} has ended {n} times"), || {
        let job = shown(agent, name);
        let history = job["history"].as_array().unwrap();
        (history.len() == n).then(|| history[0].clone())
    })
}

fn running(agent: &Agent<'_>, name: &str) -> Value {
    wait::until(&format!("{name} runs"), || {
        let job = shown(agent, name);
        (job["state"] == "running").then(|| job["runs"][0].clone())
    })
}

fn order(place: &Place, words: &[&str]) -> (Option<i32>, String) {
    let output = place.cli(words);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn metric(place: &Place, series: &str) -> Option<String> {
    let page = http::get(place.metrics, "/metrics", &[]).unwrap().text();
    let mut lines = page.lines();
    lines.find_map(|line| Some(line.strip_prefix(series)?.trim().to_owned()))
}

#[test]
fn the_operators_runs_end_as_their_exit_codes_say_and_leave_only_the_last_failed_container() {
    let _turn = turn();
    let daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    let config = job("good", 0, 0, "") + &job("bad", 0, 3, "");
    let agent = place.start(&config);
    for n in 1..=2 {
        let (code, said) = order(&place, &["start", "bad"]);
        assert_eq!(
            (code, said.trim()),
            (Some(0), format!("bad: run {n} begins").as_str())
        );
        let end = ended(&agent, "bad", n);
        assert_eq!((&end["class"], &end["code"]), (&"error".into(), &3.into()));
    }
    assert_eq!(order(&place, &["start", "good"]).0, Some(0));
    let end = ended(&agent, "good", 1);
    assert_eq!(
        (&end["class"], &end["cause"]),
        (&"success".into(), &"operator".into())
    );
    wait::until("only the last failed one is left", || {
        (names(&daemon) == ["bad.run-2"]).then_some(())
    });
    assert_eq!(order(&place, &["status", "good"]).0, Some(0));
    assert_eq!(order(&place, &["status", "bad"]).0, Some(1));
    let series = "agent_job_runs_total{job=\"bad\",result=\"error\"}";
    assert_eq!(metric(&place, series).as_deref(), Some("2"));
    let success = "agent_job_last_success_timestamp_seconds{job=\"good\"}";
    assert!(metric(&place, success).is_some());
    assert_eq!(
        metric(&place, "agent_job_running{job=\"bad\"}").as_deref(),
        Some("0")
    );
}

#[test]
fn stop_timeout_and_a_second_start_do_what_the_page_says() {
    let _turn = turn();
    let daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    let deaf = "stop_signal = \"SIGUSR1\"\nstop_grace_period = \"1s\"\ntimeout = \"2s\"";
    let config = job("long", 600, 0, "") + &job("deaf", 600, 0, deaf);
    let agent = place.start(&config);
    assert_eq!(order(&place, &["start", "long"]).0, Some(0));
    running(&agent, "long");
    let (code, said) = order(&place, &["start", "long"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("run 1 is under way"), "{said}");
    assert_eq!(order(&place, &["restart", "long"]).0, Some(1));
    assert_eq!(order(&place, &["stop", "long"]).0, Some(0));
    let end = ended(&agent, "long", 1);
    assert_eq!(end["class"], "stopped");
    assert_eq!(order(&place, &["start", "deaf"]).0, Some(0));
    let end = ended(&agent, "deaf", 1);
    assert_eq!(
        (&end["class"], &end["code"]),
        (&"timeout".into(), &137.into())
    );
}

#[test]
fn a_failed_run_is_tried_again_in_a_fresh_container() {
    let _turn = turn();
    let daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    let agent = place.start(&job("flaky", 0, 4, "retries = 1"));
    assert_eq!(order(&place, &["start", "flaky"]).0, Some(0));
    wait::until("it waits for its second attempt", || {
        (shown(&agent, "flaky")["state"] == "backoff").then_some(())
    });
    // Half of the wait is another agent's.
    agent.kill();
    let agent = place.start(&job("flaky", 0, 4, "retries = 1"));
    let end = ended(&agent, "flaky", 1);
    assert_eq!((&end["attempt"], &end["code"]), (&2.into(), &4.into()));
    wait::until("the second attempt's container is what is kept", || {
        (names(&daemon) == ["flaky.run-1.2"]).then_some(())
    });
}

#[test]
fn a_run_outlives_the_agent_and_its_end_is_recorded_whenever_it_was() {
    let _turn = turn();
    let daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    let config = job("long", 600, 0, "") + &job("brief", 3, 5, "");
    let agent = place.start(&config);
    for name in ["long", "brief"] {
        assert_eq!(order(&place, &["start", name]).0, Some(0));
    }
    let before = running(&agent, "long")["id"].clone();
    running(&agent, "brief");
    agent.kill();
    wait::until("the brief one has ended while nobody looked", || {
        (daemon.inspect("brief.run-1", ".State.Running") == "false").then_some(())
    });
    let agent = place.start(&config);
    assert_eq!(running(&agent, "long")["id"], before, "started again");
    let end = ended(&agent, "brief", 1);
    assert_eq!((&end["class"], &end["code"]), (&"error".into(), &5.into()));
    let finished = daemon.inspect("brief.run-1", ".State.FinishedAt");
    assert_eq!(end["ended"].as_str().unwrap()[..19], finished[..19]);
    // Out of the config: stopped and removed.
    place.write("");
    assert_eq!(order(&place, &["reload"]).0, Some(0));
    wait::until("nothing of either is left", || {
        names(&daemon).is_empty().then_some(())
    });
    drop(agent);
}

#[test]
fn agents_killed_around_a_launch_run_it_once() {
    let _turn = turn();
    let daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    let config = job("once", 600, 0, "");
    let mut agent = place.start(&config);
    for (round, pause) in [0, 20, 60, 150].into_iter().enumerate() {
        let (code, said) = order(&place, &["start", "once"]);
        assert_eq!(code, Some(0), "{said}");
        std::thread::sleep(Duration::from_millis(pause));
        agent.kill();
        agent = place.start(&config);
        // An agent that died before it wrote anything down has begun nothing.
        if shown(&agent, "once")["runs"] == Value::Array(vec![]) {
            wait::holds_for(Duration::from_secs(1), "nothing was begun", || {
                names(&daemon).is_empty()
            });
            continue;
        }
        running(&agent, "once");
        assert_eq!(names(&daemon).len(), 1, "round {round}");
        assert_eq!(order(&place, &["stop", "once"]).0, Some(0));
        wait::until("it is removed", || names(&daemon).is_empty().then_some(()));
    }
}

#[test]
fn docker_killed_under_a_run_ends_it_and_the_job_goes_on() {
    let _turn = turn();
    let mut daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    let agent = place.start(&job("long", 600, 0, ""));
    assert_eq!(order(&place, &["start", "long"]).0, Some(0));
    running(&agent, "long");
    daemon.crash_and_restart();
    // The daemon that comes back ends what runs; this program takes its signal for a good end.
    let end = ended(&agent, "long", 1);
    assert_eq!(end["number"], 1);
    assert_eq!(order(&place, &["start", "long"]).0, Some(0));
    running(&agent, "long");
}

#[test]
fn a_minute_of_the_schedule_runs_once_beside_containers_that_are_left_alone() {
    let _turn = turn();
    let daemon = Daemon::start(&["app"]);
    let place = place_on(&daemon);
    let web = "[containers.web]\nimage = \"agent-test/app:1\"\nentrypoint = [\"/app\"]\n";
    let config = web.to_owned() + &job("tick", 0, 0, "schedule = \"* * * * *\"");
    let agent = place.start(&config);
    let before = agent.wait_well("web");
    let next = shown(&agent, "tick")["next_run"].clone();
    assert!(next.as_str().unwrap().ends_with(":00Z"), "{next}");
    let end = wait::until_within(Duration::from_secs(75), "the minute has come", || {
        let job = shown(&agent, "tick");
        job["history"].get(0).cloned()
    });
    assert_eq!(
        (&end["class"], &end["cause"]),
        (&"success".into(), &"schedule".into())
    );
    assert_eq!(
        end["begun"].as_str().unwrap()[..17],
        next.as_str().unwrap()[..17]
    );
    let agent = {
        agent.kill();
        place.start(&config)
    };
    // The minute that has run is not run again by the next agent.
    wait::holds_for(Duration::from_secs(3), "it ran twice", || {
        shown(&agent, "tick")["history"].as_array().unwrap().len() <= 2
    });
    assert_eq!(agent.wait_well("web")["pid"], before["pid"]);
}
