//! The plan of the house, held by reading its source: which room may know which, and how long a file may be.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tests::program::workspace;

/// From left to right: a room may use what stands in a later row. Inside a row nobody knows a
/// neighbour, but for [`GROUND_PAIRS`].
const ROWS: &[&[&str]] = &[
    &["cli"],
    &["app"],
    &["config"],
    &["control", "heartbeat", "metrics"],
    &["machine"],
    &["logs", "supervise"],
    &["cloud", "docker", "facts", "host"],
    GROUND,
];
const GROUND: &[&str] = &[
    "backoff",
    "chain",
    "dns",
    "http",
    "ignition",
    "listener",
    "nss",
    "pulse",
    "secret",
    "telemetry",
];
/// Who may use whom on the ground; it makes no circle.
const GROUND_PAIRS: &[(&str, &str)] = &[("http", "listener"), ("http", "pulse"), ("dns", "chain")];
/// The layouts of the disk buffer outlive everything else: it knows no other room.
const ALONE: &str = "logs/buffer";
/// Files are about 500 lines long; here it ends.
const LONGEST: usize = 600;

fn row(room: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&room))
}

fn may_use(from: &str, to: &str) -> bool {
    match (row(from), row(to)) {
        (Some(a), Some(b)) => from == to || a < b || GROUND_PAIRS.contains(&(from, to)),
        _ => false,
    }
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Rooms named after `crate::`, braces included, with the line where they stand.
fn rooms_used(source: &str) -> BTreeMap<String, usize> {
    let code: Vec<&str> = source
        .lines()
        .map(|line| {
            if line.trim_start().starts_with("//") {
                ""
            } else {
                line
            }
        })
        .collect();
    let code = code.join("\n");
    let mut used = BTreeMap::new();
    for (at, start) in code.match_indices("crate::") {
        // `$crate` and `other_crate::` are no paths of ours.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + start.len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => heads(list),
            None => vec![word(rest)],
        };
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            used.entry(name).or_insert(line);
        }
    }
    used
}

fn word(text: &str) -> String {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    text[..end.unwrap_or(text.len())].to_owned()
}

/// The first word of each element of a use list, up to its closing brace.
fn heads(list: &str) -> Vec<String> {
    let mut names = vec![word(list)];
    let mut depth = 0;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&list[at + 1..])),
            _ => (),
        }
    }
    names
}

fn source() -> PathBuf {
    workspace().join("agent/src")
}

/// `logs/buffer/mod.rs` belongs to `logs`, `dns.rs` to `dns`; `main.rs` and `lib.rs` to none.
fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(source()).unwrap();
    let first = inside.components().next().unwrap();
    let name = first.as_os_str().to_string_lossy();
    let name = name.strip_suffix(".rs").unwrap_or(&name).to_owned();
    (name != "main" && name != "lib").then_some(name)
}

#[test]
fn rooms_know_only_what_stands_to_their_right() {
    let mut wrong = Vec::new();
    for file in rust_files(&source()) {
        let Some(room) = room_of(&file) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for (used, line) in rooms_used(&text) {
            if !may_use(&room, &used) {
                wrong.push(format!("{}:{line}: {room} uses {used}", file.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows point right only:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_buffer_knows_no_other_room() {
    let mut wrong = Vec::new();
    for file in rust_files(&source().join(ALONE)) {
        let text = fs::read_to_string(&file).unwrap();
        let path = ALONE.replace('/', "::");
        for (line, code) in text.lines().enumerate() {
            let code = code.trim_start();
            let others = code.replace(&format!("crate::{path}"), "");
            if !code.starts_with("//") && others.contains("crate::") {
                wrong.push(format!("{}:{}: {code}", file.display(), line + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{ALONE} stands alone:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_room_is_on_the_plan_and_on_the_map() {
    let map = fs::read_to_string(source().join("lib.rs")).unwrap();
    let on_map: BTreeSet<String> = map
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    let on_plan: BTreeSet<String> = ROWS
        .iter()
        .copied()
        .flatten()
        .map(|room| room.to_string())
        .collect();
    let on_disk: BTreeSet<String> = rust_files(&source())
        .iter()
        .filter_map(|file| room_of(file))
        .collect();
    assert_eq!(on_map, on_plan, "lib.rs against this test");
    assert_eq!(on_disk, on_plan, "agent/src against this test");
}

#[test]
fn the_ground_makes_no_circle() {
    for &(from, to) in GROUND_PAIRS {
        let mut reached = BTreeSet::from([to]);
        while let Some(next) = GROUND_PAIRS
            .iter()
            .find(|(a, b)| reached.contains(a) && !reached.contains(b))
        {
            reached.insert(next.1);
        }
        assert!(
            !reached.contains(from),
            "{from} comes back to itself over {to}"
        );
    }
}

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    for folder in ["agent", "tests"] {
        for file in rust_files(&workspace().join(folder)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            if lines > LONGEST {
                long.push(format!("{}: {lines}", file.display()));
            }
        }
    }
    assert!(
        long.is_empty(),
        "more than {LONGEST} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn an_arrow_to_the_left_and_one_to_a_neighbour_are_seen() {
    let text = "use crate::{\n    app,\n    docker::{self, Client},\n};\nlet x = crate::config::Y;\n// crate::cli\n";
    let used: Vec<String> = rooms_used(text).into_keys().collect();
    assert_eq!(used, ["app", "config", "docker"]);
    assert!(!may_use("supervise", "logs"));
    assert!(!may_use("docker", "supervise"));
    assert!(may_use("supervise", "docker"));
}

/// The links of the documentation lead somewhere.
#[test]
fn links_between_pages_lead_to_files() {
    let mut broken = Vec::new();
    let mut pages = vec![workspace().join("README.md")];
    for folder in ["docs", "docs/decisions", "packaging", "systemd", "ignition"] {
        let entries = fs::read_dir(workspace().join(folder));
        pages.extend(
            entries
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path()),
        );
    }
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|e| e == "md"))
    {
        let text = fs::read_to_string(page).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !page.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "links that lead nowhere:\n{}",
        broken.join("\n")
    );
}
