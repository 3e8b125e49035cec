//! The documents lead where they say: links, the commands that they name, alert rules.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tests::agent;
use tests::program::{command, stdout, workspace};

/// README and what lies below docs/, with their texts.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = vec![workspace().join("README.md")];
    let mut folders = vec![workspace().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    found.into_iter().map(read).collect()
}

/// As GitHub makes them of headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let line = line.trim_start_matches('#').trim().to_lowercase();
        let kept = line.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c),
            _ => None,
        });
        kept.collect()
    };
    headings.map(anchor).collect()
}

/// What stands in `](…)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link)
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_is_there() {
    let documents = documents();
    let mut broken = Vec::new();
    let mut n_links = 0;
    for (path, text) in &documents {
        for link in links(text).filter(|link| !link.contains("://")) {
            n_links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let leads = target.exists()
                && (anchor.is_empty()
                    || fs::read_to_string(&target)
                        .is_ok_and(|text| anchors(&text).contains(anchor)));
            if !leads {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(n_links > 50, "only {n_links} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The words behind `agent ` at the beginning of a line of code, or of code within a line.
fn commands(text: &str) -> BTreeSet<&str> {
    let blocks = text
        .lines()
        .filter_map(|line| line.strip_prefix("    agent "));
    let inline = text
        .split("`agent ")
        .skip(1)
        .filter_map(|rest| rest.split_once('`'))
        .map(|(code, _)| code);
    let first = |code: &'_ str| code.split([' ', '\n']).next().unwrap_or_default().len();
    let names = blocks.chain(inline).map(|code| &code[..first(code)]);
    names
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase()) && !name.is_empty())
        .collect()
}

#[test]
fn every_command_that_a_document_names_is_one_of_the_agents() {
    let help = stdout(command(agent::binary()).arg("--help"), "the agent").unwrap();
    let known: BTreeSet<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(known.contains("status"), "{help}");
    for (path, text) in documents() {
        let unknown: Vec<&str> = commands(&text)
            .into_iter()
            .filter(|name| !known.contains(name))
            .collect();
        // Decisions speak of what is planned, too.
        let is_decision = path.starts_with(workspace().join("docs/decisions"));
        assert!(
            unknown.is_empty() || is_decision,
            "{}: agent {unknown:?}",
            path.display()
        );
    }
}

fn alerts(name: &str) -> PathBuf {
    workspace().join("docs/alerts").join(name)
}

#[test]
fn alert_rules_fire_when_they_should_and_not_before() {
    let hint = "apt-get install prometheus";
    let rules = alerts("agent.rules.yml");
    stdout(
        command("promtool").args(["check", "rules"]).arg(&rules),
        hint,
    )
    .unwrap();
    let tests = alerts("agent.test.yml");
    stdout(
        command("promtool").args(["test", "rules"]).arg(&tests),
        hint,
    )
    .unwrap();
    let text = fs::read_to_string(rules).unwrap();
    let tested = fs::read_to_string(tests).unwrap();
    for alert in text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        assert!(
            tested.contains(&format!("alertname: {alert}\n")),
            "{alert} has no test"
        );
        let anchor = alert.to_lowercase();
        let runbook = fs::read_to_string(workspace().join("docs/runbook.md")).unwrap();
        assert!(
            anchors(&runbook).contains(&anchor),
            "{alert} is not in the runbook"
        );
    }
}

fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else {
            all.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn alert_rules_ask_for_families_that_the_agent_has() {
    let mut code = String::new();
    sources(&workspace().join("agent/src"), &mut code);
    let rules = fs::read_to_string(alerts("agent.rules.yml")).unwrap();
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let families: BTreeSet<&str> = words
        .filter(|word| word.starts_with("agent_") || word.starts_with("node_"))
        .filter(|word| !word.ends_with('_'))
        .collect();
    assert!(families.len() > 12, "{families:?}");
    for family in families {
        let exact = code.contains(&format!("\"{family}\""));
        // Made of /proc/meminfo's own names.
        let is_made = family.starts_with("node_memory_");
        assert!(exact || is_made, "{family}");
    }
}
