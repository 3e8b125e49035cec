//! Changed containers: when they are replaced, in which order, and what a bad one costs.

use crate::place::{Stage, app, seconds, served, wait_other, wait_state};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::agent::{Agent, free_port};
use tests::{http, wait};

const TWO: &str = "environment = { MODE = \"two\" }";

fn update(name: &str, words: &str) -> String {
    format!("[containers.\"{name}\".update]\n{words}\n")
}

fn pending(agent: &Agent<'_>, name: &str) -> Value {
    wait::until(&format!("{name} has an update pending"), || {
        Some(agent.container(name)).filter(|now| now["update"].is_string())
    })
}

#[test]
fn an_image_that_cannot_be_had_costs_the_old_container_nothing() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("imaged", ""));
    let before = agent.wait_well("imaged");
    // A registry on a port where nobody listens.
    let nowhere = format!("{}/never:1", free_port());
    stage
        .place
        .write(&app("imaged", "").replace("agent-test/app:1", &nowhere));
    stage.order(&["reload"]);
    wait::until("the pull has failed", || {
        let now = agent.container("imaged");
        let word = now["update"].as_str().unwrap_or_default();
        word.contains("could not be pulled").then_some(())
    });
    wait::holds_for(seconds(3), "the old one serves on", || {
        let now = agent.container("imaged");
        now["pid"] == before["pid"] && now["state"] == "running"
    });
    assert!(stage.proxy.called("POST", "/kill").is_empty());
    stage.place.write(&app("imaged", ""));
    stage.order(&["reload"]);
    wait::until("nothing is pending", || {
        agent.container("imaged")["update"].is_null().then_some(())
    });
    assert_eq!(agent.container("imaged")["pid"], before["pid"]);
}

#[test]
fn a_change_found_at_the_start_is_pending_for_ten_seconds_then_one_goes_after_the_other() {
    let stage = Stage::new();
    let names = ["turn-a", "turn-b", "turn-c"];
    let ports = names.map(|_| free_port());
    let config = |extra: &str| -> String {
        let pairs = names.iter().zip(ports);
        pairs
            .map(|(name, port)| served(name, port, extra))
            .collect()
    };
    let agent = stage.place.start(&config(""));
    let before = names.map(|name| agent.wait_well(name));
    assert!(agent.stop().success());
    stage.place.write(&config(TWO));
    stage.proxy.forget();
    let mut agent = stage.place.spawn();
    agent.wait_ready();
    let began = Instant::now();
    for name in names {
        pending(&agent, name);
    }
    while began.elapsed() < seconds(8) {
        assert_eq!(stage.proxy.mutations(), [""; 0], "{:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut others_down = 0;
    wait::until("all are replaced", || {
        let now = names.map(|name| agent.container(name));
        let down = now.iter().filter(|one| one["well"] != true).count();
        others_down = others_down.max(down);
        let fresh = now
            .iter()
            .zip(&before)
            .all(|(now, before)| now["id"] != before["id"]);
        (fresh && down == 0).then_some(())
    });
    assert_eq!(others_down, 1, "more than one was down at a time");
}

#[test]
fn apply_manual_waits_for_the_operators_restart() {
    let stage = Stage::new();
    let config = |extra: &str| app("manual", extra) + &update("manual", "apply = \"manual\"");
    let agent = stage.place.start(&config(""));
    let before = agent.wait_well("manual");
    assert!(agent.stop().success());
    stage.place.write(&config(TWO));
    let mut agent = stage.place.spawn();
    agent.wait_ready();
    let now = pending(&agent, "manual");
    assert!(
        now["update"].as_str().unwrap().contains("agent restart"),
        "{now}"
    );
    wait::holds_for(seconds(12), "it is left alone", || {
        agent.container("manual")["pid"] == before["pid"]
    });
    stage.order(&["restart", "manual"]);
    let after = wait_other(&agent, &before);
    assert!(after["update"].is_null(), "{after}");
    let env = stage.daemon.inspect("manual", ".Config.Env");
    assert!(env.contains("MODE=two"), "{env}");
}

/// Behind a port that Docker chooses, with a probe inside, beside its successor during an update.
fn overlapping(name: &str, extra: &str, within: &str) -> String {
    app(name, &format!("ports = [\"8080\"]\n{extra}"))
        + &format!(
            "[containers.\"{name}\".probes]\nreadiness = {{ exec = [\"/app\", \"check\"], period = \"500ms\", timeout = \"2s\" }}\n"
        )
        + &update(
            name,
            &format!("order = \"overlap\"\nready_within = \"{within}\"\nrollback = true"),
        )
        + &format!("[containers.\"{name}\".drain]\nderegister_wait = \"1s\"\n")
}

/// The ports of the host at which status says that it serves.
fn bound(now: &Value) -> Option<u16> {
    let address = now["ports"]["8080/tcp"][0].as_str()?;
    address.rsplit(':').next()?.parse().ok()
}

fn answers(port: u16) -> bool {
    let address = ([127, 0, 0, 1], port).into();
    http::get(address, "/heartbeat", &[]).is_ok_and(|reply| reply.status == 200)
}

#[test]
fn during_an_update_that_overlaps_one_of_the_two_always_answers() {
    let stage = Stage::new();
    let agent = stage.place.start(&overlapping("lapped", "", "20s"));
    let before = agent.wait_well("lapped");
    let old = bound(&before).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hammer = scope.spawn(|| {
            let (mut n, mut refused) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                n += 1;
                let one_answers = answers(old) || {
                    let published = stage.daemon.docker(&[
                        "ps",
                        "--filter",
                        "label=agent.container=lapped",
                        "--format",
                        "{{.Ports}}",
                    ]);
                    let ports = published.split([',', '\n']).filter_map(|one| {
                        let host = one.split("->").next()?;
                        host.rsplit(':').next()?.parse().ok()
                    });
                    ports.into_iter().any(answers)
                };
                refused += u32::from(!one_answers);
            }
            (n, refused)
        });
        stage.place.write(&overlapping("lapped", TWO, "20s"));
        stage.order(&["reload"]);
        let after = wait_other(&agent, &before);
        let after = wait::until("the new one is well", || {
            let now = agent.container("lapped");
            (now["well"] == true && now["update"].is_null() && now["id"] == after["id"])
                .then_some(now)
        });
        over.store(true, Ordering::Relaxed);
        let (n, refused) = hammer.join().unwrap();
        assert!(n > 50, "{n}");
        assert_eq!(refused, 0, "of {n}");
        assert!(answers(bound(&after).unwrap()));
        assert_eq!(
            stage.daemon.inspect("lapped", ".Id"),
            after["id"].as_str().unwrap()
        );
    });
    wait::until("the new one has the name alone", || {
        (stage.names("lapped") == ["lapped", "lapped.prev"]).then_some(())
    });
}

#[test]
fn a_successor_that_does_not_get_ready_leaves_the_old_one_serving() {
    let stage = Stage::new();
    let agent = stage.place.start(&overlapping("robust", "", "20s"));
    let before = agent.wait_well("robust");
    let port = bound(&before).unwrap();
    for bad in [
        "command = [\"9999\"]",
        "command = [\"job\", \"1\", \"7\"]",
        "entrypoint = [\"/none\"]",
    ] {
        stage.place.write(&overlapping("robust", bad, "3s"));
        stage.order(&["reload"]);
        wait::until(&format!("{bad} is given up"), || {
            assert!(answers(port), "the old one does not serve");
            let now = agent.container("robust");
            (now["rolled_back"] == true && now["update"].is_null()).then_some(())
        });
        assert_eq!(agent.container("robust")["pid"], before["pid"]);
        wait::until("nothing of it is left", || {
            (stage.names("robust") == ["robust"]).then_some(())
        });
    }
    let tried = stage
        .proxy
        .called("POST", "/containers/create?name=robust.next")
        .len();
    assert_eq!(tried, 3, "tried again without a change");
    stage.place.write(&overlapping("robust", TWO, "20s"));
    stage.order(&["reload"]);
    wait_other(&agent, &before);
}

#[test]
fn an_agent_killed_during_an_overlap_is_followed_by_one_that_ends_it() {
    let stage = Stage::new();
    let agent = stage.place.start(&overlapping("handed", "", "30s"));
    let before = agent.wait_well("handed");
    stage.place.write(&overlapping("handed", TWO, "30s"));
    stage.order(&["reload"]);
    wait::until("the new one stands beside it", || {
        stage
            .names("handed")
            .contains(&"handed.next".to_owned())
            .then_some(())
    });
    agent.kill();
    let mut agent = stage.place.spawn();
    agent.wait_ready();
    wait_other(&agent, &before);
    wait::until("the new one has the name alone", || {
        let env = stage
            .daemon
            .try_docker(&["inspect", "-f", "{{.Config.Env}}", "handed"]);
        let is_new = env.is_ok_and(|env| env.contains("MODE=two"));
        (is_new && stage.names("handed") == ["handed", "handed.prev"]).then_some(())
    });
}

#[test]
fn a_new_shape_that_is_no_good_is_rolled_back_and_not_tried_again_until_the_config_changes() {
    let stage = Stage::new();
    let ports = [free_port(), free_port()];
    let words = "rollback = true\nready_within = \"4s\"";
    let config = |late: &str, dying: &str| {
        served("late-shape", ports[0], late)
            + &update("late-shape", words)
            + &served("dying-shape", ports[1], dying)
            + &update("dying-shape", words.replace("4s", "60s").as_str())
    };
    let agent = stage.place.start(&config("", ""));
    let names = ["late-shape", "dying-shape"];
    let before = names.map(|name| agent.wait_well(name));
    // A shape is good after a minute without a doubt, which a busy machine may cast.
    wait::until_within(seconds(150), "both are known to be good", || {
        let memory = std::fs::read_to_string(stage.place.path("state/supervise.json")).ok()?;
        (memory.matches("\"last_good\":{").count() == 2).then_some(())
    });
    stage.place.write(&config(
        "command = [\"9999\"]",
        "command = [\"job\", \"0\", \"7\"]",
    ));
    stage.order(&["reload"]);
    for (name, before) in names.iter().zip(&before) {
        let after = wait::until(&format!("{name} is rolled back"), || {
            let now = agent.container(name);
            (now["rolled_back"] == true && now["well"] == true && now["id"] != before["id"])
                .then_some(now)
        });
        let label = "index .Config.Labels \"agent.spec\"";
        let old = stage.daemon.inspect(name, label);
        assert!(!old.is_empty(), "{after}");
        let told = stage.events(name);
        assert!(
            told.iter()
                .any(|event| event["reason"].as_str().unwrap().contains("rolled back")),
            "{told:?}"
        );
        let rollbacks = stage.metric(&format!(
            "agent_container_rollbacks_total{{container=\"{name}\"}}"
        ));
        assert_eq!(rollbacks.as_deref(), Some("1"));
    }
    let shapes = names.map(|name| stage.daemon.inspect(name, ".Id"));
    stage.proxy.forget();
    stage.order(&["reload"]);
    wait::holds_for(seconds(3), "the bad ones are not tried again", || {
        names.map(|name| stage.daemon.inspect(name, ".Id")) == shapes
    });
    assert!(stage.proxy.called("POST", "/containers/create").is_empty());
    stage.place.write(&config(TWO, TWO));
    stage.order(&["reload"]);
    for name in names {
        wait::until("a changed config is tried", || {
            let env = stage
                .daemon
                .try_docker(&["inspect", "-f", "{{.Config.Env}}", name])
                .ok()?;
            env.contains("MODE=two").then_some(())
        });
        let now = wait_state(&agent, name, "running");
        assert_eq!(now["rolled_back"], false, "{now}");
    }
}
