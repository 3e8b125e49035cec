//! docs/config.md lists exactly the keys that the code reads, with the
//! defaults that hold, and its examples are right.

use super::read;
use super::round_trip::EVERYTHING;
use crate::config::document::{self, Entry, Value};
use crate::config::read::Report;
use crate::config::{effective, file};
use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!("../../../../docs/config.md");

/// Key → the default column, from the rows `| `key` | type | default | … |`.
pub fn documented() -> BTreeMap<&'static str, &'static str> {
    let mut keys = BTreeMap::new();
    for line in PAGE.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, key, _, default, ..] = cells.as_slice() else {
            continue;
        };
        if let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`')) {
            assert!(
                keys.insert(key, *default).is_none(),
                "{key} is listed twice"
            );
        }
    }
    keys
}

#[test]
fn the_page_lists_the_keys_that_are_read() {
    let report = Report::new(false);
    let (tree, faults) = document::parse(0, EVERYTHING);
    assert_eq!(faults, []);
    file::read(&tree, &report);
    let keys = report.keys.take();
    // A table whose keys are listed needs no row of its own.
    let is_table = |key: &String| keys.iter().any(|k| k.starts_with(&format!("{key}.")));
    let leaves: BTreeSet<&str> = keys
        .iter()
        .filter(|key| !is_table(key))
        .filter(|key| !is_as_for_containers(key, &keys))
        .map(String::as_str)
        .collect();
    let listed: BTreeSet<&str> = documented().into_keys().collect();
    // A table may have one all the same: where it may also be written as something shorter.
    let both = |key: &&str| leaves.contains(key) || !keys.contains(*key);
    let listed: BTreeSet<&str> = listed.into_iter().filter(both).collect();
    assert_eq!(listed, leaves);
}

/// The page says that a job is made of what a container is made of, and no more.
fn is_as_for_containers(key: &str, keys: &BTreeSet<String>) -> bool {
    let of_both = ["stop_grace_period", "pull_policy"];
    key.strip_prefix("jobs.NAME.").is_some_and(|key| {
        keys.contains(&format!("containers.NAME.{key}")) && !of_both.contains(&key)
    })
}

#[test]
fn the_page_shows_the_defaults_that_hold() {
    let sample = "[containers.NAME]\nimage = 'x'\nports = ['80:80']\n\
                  [containers.NAME.probes]\nstartup = { http = ':80' }\n\
                  readiness = { http = ':80' }\nliveness = { http = ':80' }\n\
                  [jobs.JOB]\nimage = 'x'\nschedule = '@daily'\n\
                  [logs.outputs.NAME]\ntype = 'forward'\nservers = ['x']\n";
    let settings = read(&[sample]).unwrap();
    let printed = effective::text(&settings)
        .replace("logs.inputs.docker", "logs.inputs.NAME")
        .replace("jobs.JOB", "jobs.NAME");
    let (tree, _) = document::parse(0, &printed);
    let mut n_compared = 0;
    for (key, default) in documented() {
        let Some(default) = default.strip_prefix('`').and_then(|d| d.strip_suffix('`')) else {
            continue;
        };
        let value = find(&tree, key).unwrap_or_else(|| panic!("{key} has no default"));
        assert_eq!(default, value, "{key}");
        n_compared += 1;
    }
    assert!(n_compared > 20, "only {n_compared} defaults compared");
}

fn find(tree: &[Entry], path: &str) -> Option<String> {
    let (head, rest) = path.split_once('.').unwrap_or((path, ""));
    let entry = tree.iter().find(|entry| entry.key == head)?;
    match &entry.node.value {
        Value::Table(entries) => find(entries, rest),
        value => Some(shown(value)),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.describe(),
    }
}

#[test]
fn the_pages_examples_are_right() {
    let mut n_examples = 0;
    for example in PAGE.split("```toml\n").skip(1) {
        let (text, _) = example.split_once("```").unwrap();
        if let Err(faults) = read(&[text]) {
            panic!("{faults}\n{text}");
        }
        n_examples += 1;
    }
    assert!(n_examples >= 5, "only {n_examples} examples");
}

const METRICS: &str = include_str!("../../../../docs/metrics.md");

/// Whether node_exporter's flags are all in that table its own help says, in tests/tests/metrics.
#[test]
fn flags_of_node_exporter_map_onto_keys_that_there_are() {
    let keys = documented();
    let mut n_rows = 0;
    for line in METRICS.lines().filter(|line| line.starts_with("| `--")) {
        let (_, key) = line[2..].split_once(" | ").unwrap();
        n_rows += 1;
        if key.starts_with("none: ") {
            continue;
        }
        let key = key.split('`').nth(1).unwrap_or_default();
        assert!(keys.contains_key(key), "{line}");
    }
    assert!(n_rows > 25, "only {n_rows} rows");
}
