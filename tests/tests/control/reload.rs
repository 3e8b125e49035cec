//! A reload: all or nothing, told to whoever asked and to `agent status`.

use crate::place::{WEB, code, text};
use rustix::process::Signal;
use std::fs;
use tests::agent::Place;
use tests::forward::{Client, Mode, frame, numbered};
use tests::wait;

const ENRICH: &str = "[logs.enrich]\nplace = \"${node.place}\"\n";

fn node(place: &str) -> String {
    format!("[node]\nplace = \"{place}\"\n{ENRICH}")
}

/// Sends one record and returns the line that is printed of it.
fn printed(place: &Place, agent: &tests::agent::Agent<'_>, id: u64) -> String {
    let mut client = Client::tcp(place.forward);
    let bytes = frame(Mode::Message, "t", &[numbered(id)], Some("c"));
    client.send(&bytes).unwrap();
    assert_eq!(client.ack().as_deref(), Some("c"));
    let wanted = format!("\"id\":{id},");
    wait::until("the record is printed", || {
        let found = agent.stdout();
        let line = found.lines().find(|line| line.contains(&wanted));
        line.map(str::to_owned)
    })
}

#[test]
fn a_changed_file_takes_effect_by_command_and_by_signal() {
    let place = Place::new();
    let agent = place.start(&node("one"));
    assert!(printed(&place, &agent, 1).contains("\"place\":\"one\""));

    place.write(&(node("two") + WEB));
    let reload = place.cli(&["reload"]);
    assert_eq!(code(&reload), 0, "{}", text(&reload));
    assert!(text(&reload).contains("web: "), "{}", text(&reload));
    assert!(printed(&place, &agent, 2).contains("\"place\":\"two\""));
    assert_eq!(agent.container("web")["image"], "web:1");

    place.write(&node("three"));
    agent.signal(Signal::HUP);
    wait::until("SIGHUP is obeyed", || {
        let status = agent.status();
        // It goes when Docker comes back; until then it counts no more.
        (status["healthy"] == true && status["facts"]["place"]["value"] == "three").then_some(())
    });
    assert!(printed(&place, &agent, 3).contains("\"place\":\"three\""));
    assert_eq!(agent.stop().code(), Some(0));
}

#[test]
fn a_faulty_file_is_refused_with_its_line_and_the_old_settings_run_on() {
    let place = Place::new();
    let mut agent = place.start(&node("one"));
    let good = fs::read_to_string(place.config()).unwrap();
    let line = good.lines().count() + 1;
    let wanted = format!("{}:{line}:1: ", place.config().display());
    fs::write(
        place.config(),
        good.replace("one", "two") + "colour = \"red\"\n[oops]\n",
    )
    .unwrap();

    let reload = place.cli(&["reload"]);
    // An entry of the last table: any name is right in [logs.enrich], so [oops] is the fault.
    let wanted = wanted.replace(&format!(":{line}:1: "), &format!(":{}:2: ", line + 1));
    assert_eq!(code(&reload), 1);
    assert!(
        text(&reload).starts_with(&wanted),
        "{wanted}: {}",
        text(&reload)
    );
    agent.wait_said("READY=1");
    let status = agent.status();
    let error = status["config"]["error"].as_str().unwrap();
    assert!(error.starts_with(&wanted), "{error}");
    assert_eq!(status["facts"]["place"]["value"], "one");
    let table = text(&place.cli(&["status"]));
    assert!(table.contains(&wanted), "{table}");
    assert!(printed(&place, &agent, 1).contains("\"place\":\"one\""));
    wait::until("the log tells of it", || {
        agent.stderr().contains("reload refused").then_some(())
    });

    // The same by signal, then mended.
    fs::write(place.config(), "[").unwrap();
    agent.signal(Signal::HUP);
    wait::until("the second refusal is shown", || {
        let error = agent.status()["config"]["error"].clone();
        error.as_str().unwrap().contains(":1:").then_some(())
    });
    place.write(&node("two"));
    assert_eq!(code(&place.cli(&["reload"])), 0);
    let status = agent.status();
    assert!(status["config"]["error"].is_null(), "{status}");
    assert!(printed(&place, &agent, 2).contains("\"place\":\"two\""));
}

#[test]
fn what_cannot_change_live_is_refused_by_name_and_nothing_else_is_taken() {
    let place = Place::new();
    let agent = place.start(&node("one"));
    let good = fs::read_to_string(place.config()).unwrap();
    let metrics = format!("listen = [\"{}\"]", place.metrics);
    for (part, from, to) in [
        ("metrics", metrics.as_str(), "listen = []"),
        (
            "cloud",
            "imds = false",
            "imds = false\nendpoint = \"http://127.0.0.1:1\"",
        ),
        ("docker", "[docker]\n", "[docker]\ntimeout = \"9s\"\n"),
        ("agent", "[agent]\n", "[agent]\nstop_timeout = \"9s\"\n"),
        (
            "agent.log.format",
            "[agent]\n",
            "[agent]\nlog.format = \"json\"\n",
        ),
        ("logs.buffer", ENRICH, "[logs.buffer]\nmax_chunks = 9\n"),
        ("logs.inputs", "forward.sock", "other.sock"),
    ] {
        assert!(good.contains(from), "{from}");
        let changed = good.replace(from, to).replace("\"one\"", "\"two\"");
        fs::write(place.config(), changed + WEB).unwrap();
        let reload = place.cli(&["reload"]);
        let said = text(&reload);
        assert_eq!(code(&reload), 1, "{part}: {said}");
        assert!(said.contains(part), "{part}: {said}");
        assert!(said.contains("restart"), "{part}: {said}");
        let status = agent.status();
        assert!(status["config"]["error"].is_string(), "{part}: {status}");
        assert_eq!(status["facts"]["place"]["value"], "one", "{part}");
        assert_eq!(status["containers"].as_array().unwrap().len(), 0, "{part}");
    }
    fs::write(place.config(), good).unwrap();
    assert_eq!(code(&place.cli(&["reload"])), 0);
    assert!(agent.status()["config"]["error"].is_null());
}
