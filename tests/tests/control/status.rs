//! `agent status`: exit codes, and a document that is what docs/status.md says.

use crate::place::{WEB, code, text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use tests::agent::Place;
use tests::program::workspace;
use tests::{http, wait};

#[test]
fn a_container_that_cannot_start_degrades_status_and_heartbeat_by_name() {
    let place = Place::new();
    let agent = place.start(WEB);
    let status = wait::until("status says why", || {
        let status = place.cli(&["status"]);
        (code(&status) == 1 && text(&status).contains("web")).then(|| text(&status))
    });
    assert!(status.contains("docker"), "{status}");
    let one = place.cli(&["status", "web"]);
    assert_eq!(code(&one), 1, "{}", text(&one));

    let beat = http::get(place.heartbeat, "/heartbeat", &[]).unwrap();
    assert_eq!(beat.status, 503);
    assert!(
        beat.text().contains("\"container web\":"),
        "{}",
        beat.text()
    );
    for path in ["/livez", "/readyz"] {
        let reply = http::get(place.heartbeat, path, &[]).unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
    assert_eq!(http::get(place.heartbeat, "/x", &[]).unwrap().status, 404);

    let wanted = place.path("no-docker.sock").display().to_string();
    let docker = wait::until("Docker was asked", || {
        let docker = agent.status()["docker"].clone();
        (docker["reachable"] == false).then_some(docker)
    });
    assert!(
        docker["error"].as_str().unwrap().contains(&wanted),
        "{docker}"
    );

    // One that does not count leaves the host well.
    let rest = WEB.to_owned() + "essential = false\n";
    place.write(&rest);
    let reload = place.cli(&["reload"]);
    assert_eq!(code(&reload), 0, "{}", text(&reload));
    assert_eq!(code(&place.cli(&["status"])), 0);
    assert_eq!(code(&place.cli(&["status", "web"])), 1);
}

#[test]
fn all_well_is_0_and_the_agent_gone_is_2() {
    let place = Place::new();
    let agent = place.start("");
    let status = place.cli(&["status"]);
    assert_eq!(code(&status), 0, "{}", text(&status));
    agent.kill();
    assert_eq!(code(&place.cli(&["status"])), 2);
}

#[test]
fn the_json_document_has_the_documented_keys_and_no_other() {
    let place = Place::new();
    let job = "\n[jobs.nightly]\nimage = \"web:1\"\nschedule = \"0 4 * * *\"\n";
    let _agent = place.start(&format!("{WEB}{job}"));
    let json = place.cli(&["status", "--json"]);
    let document: Value = serde_json::from_slice(&json.stdout).unwrap();
    let mut found = BTreeSet::new();
    keys(&document, "", &mut found);
    let text = fs::read_to_string(workspace().join("docs/status.md")).unwrap();
    let mut documented = documented(&text);
    // Null until the container has run once; its parts are pinned in unit tests.
    documented.retain(|key| !key.starts_with("containers[].last_exit."));
    documented.retain(|key| !key.starts_with("containers[].pull."));
    found.remove("containers[].last_exit");
    // Empty until the job has run.
    documented.retain(|key| !key.starts_with("jobs[].runs[]."));
    documented.retain(|key| !key.starts_with("jobs[].history[]."));
    found.remove("jobs[].runs");
    found.remove("jobs[].history");
    found.remove("containers[].pull");
    // Null without update_engine.
    documented.retain(|key| !key.starts_with("host.update."));
    found.remove("host.update");
    assert_eq!(found, documented);
}

/// `logs.outputs[].name`; a fact's own name is NAME.
fn keys(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        // By the container's ports, which are no keys.
        Value::Object(_) if path.ends_with("[].ports") => {
            into.insert(path.to_owned());
        }
        Value::Object(map) => {
            for (key, value) in map {
                let key = if path == "facts" { "NAME" } else { key };
                let dot = if path.is_empty() { "" } else { "." };
                keys(value, &format!("{path}{dot}{key}"), into);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for value in list {
                keys(value, &format!("{path}[]"), into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

/// The first column of the document's table, `a.{b,c}` written out.
fn documented(page: &str) -> BTreeSet<String> {
    let table = page.split("## The status document").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let cells = table.lines().filter(|line| line.starts_with("| `"));
    let names = cells.flat_map(|line| line.split('|').nth(1).unwrap().split("`"));
    let names = names.filter(|name| name.chars().any(char::is_alphabetic));
    let mut keys = BTreeSet::new();
    for name in names {
        match name.split_once('{') {
            Some((stem, rest)) => {
                let last = rest.trim_end_matches('}').split(',');
                keys.extend(last.map(|last| format!("{stem}{last}")));
            }
            None => {
                keys.insert(name.to_owned());
            }
        }
    }
    keys
}
