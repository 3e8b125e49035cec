//! The queries that people have: alerts, recording rules and dashboards, asked of Debian's
//! Prometheus about the agent and about two releases of node_exporter on the same host.

use crate::page::{Beside, installed};
use crate::twin::{releases, twin, with_texts};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use tests::agent::{Place, free_port};
use tests::program::{command, output, workspace};
use tests::{http, wait};

const AGENT: &str = "agent";
/// Samples of each target before ranges of a minute say something.
const SAMPLES: usize = 4;

fn file(name: &str) -> PathBuf {
    workspace().join("tests/tests/metrics").join(name)
}

fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric();
    let bytes = text.bytes().map(|byte| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    bytes.collect()
}

fn ask(api: SocketAddr, path: &str) -> Value {
    let reply = http::get(api, path, &[]).unwrap();
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["status"], "success", "{path}: {answer}");
    answer["data"].clone()
}

fn query(api: SocketAddr, expression: &str) -> Vec<Value> {
    let data = ask(api, &format!("/api/v1/query?query={}", encoded(expression)));
    data["result"].as_array().unwrap().clone()
}

/// Prometheus with the rules and one job, each target under its name as `instance`.
fn prometheus(place: &Place, targets: &[(&str, SocketAddr)]) -> (Beside, SocketAddr) {
    let targets: Vec<String> = targets
        .iter()
        .map(|(name, address)| {
            format!("  - targets: [\"{address}\"]\n    labels: {{ instance: \"{name}\" }}\n")
        })
        .collect();
    let text = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
         rule_files: [ {} ]\nscrape_configs:\n- job_name: node\n  static_configs:\n{}",
        file("mixin.rules.yml").display(),
        targets.concat()
    );
    let config = place.path("prometheus.yml");
    fs::write(&config, text).unwrap();
    let api = free_port();
    let beside = Beside::start(
        &installed("prometheus", "prometheus"),
        &[
            &format!("--config.file={}", config.display()),
            &format!("--storage.tsdb.path={}", place.path("tsdb").display()),
            &format!("--web.listen-address={api}"),
        ],
    );
    (beside, api)
}

/// The dashboards' expressions.
fn dashboard() -> Vec<String> {
    let text = fs::read_to_string(file("dashboard.promql")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[test]
fn what_node_exporter_answers_to_dashboards_and_rules_the_agent_answers() {
    let place = Place::new();
    let config = with_texts(&place);
    let twins: Vec<(&str, Beside, SocketAddr)> = releases()
        .iter()
        .map(|(release, program)| {
            let (beside, address) = twin(program, &place, &[]);
            (*release, beside, address)
        })
        .collect();
    let _agent = place.start(&config);
    let mut targets = vec![(AGENT, place.metrics)];
    targets.extend(
        twins
            .iter()
            .map(|(release, _, address)| (*release, *address)),
    );
    let (_prometheus, api) = prometheus(&place, &targets);
    wait::until("Prometheus has samples of all targets", || {
        http::get(api, "/-/ready", &[])
            .ok()
            .filter(|r| r.status == 200)?;
        let up = query(api, "count_over_time(up[5m])");
        let ready = up.iter().filter(|one| {
            let n: usize = one["value"][1].as_str().unwrap().parse().unwrap();
            n >= SAMPLES
        });
        (ready.count() == targets.len()).then_some(())
    });
    let recorded = "instance:node_load1_per_cpu:ratio";
    wait::until("the rules were evaluated", || {
        (query(api, recorded).len() == targets.len()).then_some(())
    });

    let mut faults = Vec::new();
    let mut answered = 0;
    for expression in dashboard() {
        let of = |instance: &str| query(api, &expression.replace("$node", instance)).len();
        let there = twins.iter().map(|(release, ..)| of(release)).max().unwrap();
        let here = of(AGENT);
        answered += usize::from(there > 0);
        if there > 0 && here == 0 {
            faults.push(expression);
        }
    }
    assert!(answered > 150, "only {answered} queries have an answer");

    let groups = ask(api, "/api/v1/rules");
    let mut n_recorded = 0;
    for rule in groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
    {
        let name = rule["name"].as_str().unwrap();
        if rule["health"] != "ok" {
            faults.push(format!("{name}: {}", rule["lastError"]));
        }
        let expression = rule["query"].as_str().unwrap();
        let mut per: BTreeMap<String, usize> = BTreeMap::new();
        for one in query(api, expression) {
            let instance = one["metric"]["instance"].as_str().unwrap_or_default();
            *per.entry(instance.to_owned()).or_default() += 1;
        }
        let is_there = per.keys().any(|instance| instance != AGENT);
        n_recorded += usize::from(rule["type"] == "recording" && is_there);
        // An alert may be about to fire for one and not yet for the other: it has to be the rule.
        if is_there && !per.contains_key(AGENT) && rule["type"] == "recording" {
            faults.push(format!("{name}: {expression}"));
        }
        // What it compares has to be there even where nothing is wrong.
        for part in sides(expression) {
            let has = |instance: &str| {
                let found = query(api, &part);
                let mut instances = found.iter().map(|one| one["metric"]["instance"].clone());
                instances.any(|one| one == instance)
            };
            if twins.iter().any(|(release, ..)| has(release)) && !has(AGENT) {
                faults.push(format!("{name}: {part}"));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "without data from the agent: {faults:#?}"
    );
    assert!(
        n_recorded >= 11,
        "only {n_recorded} recording rules have data"
    );
    say(&format!(
        "{answered} of {} queries and {n_recorded} recording rules have an answer",
        dashboard().len()
    ));
}

/// For the log.
fn say(what: &str) {
    #![allow(clippy::print_stderr)]
    eprintln!("{what}");
}

/// The selectors of an expression, each a query of its own.
fn sides(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in expression.match_indices('{') {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let name = expression[..at].rsplit(|c| !is_name(c)).next().unwrap();
        let end = expression[at..].find('}').unwrap();
        if !name.is_empty() {
            found.insert(format!("{name}{}", &expression[at..=at + end]));
        }
    }
    found
}

#[test]
fn promtool_has_nothing_to_say_of_the_rules() {
    let mut check = command(installed("promtool", "prometheus"));
    check.args(["check", "rules"]).arg(file("mixin.rules.yml"));
    let done = output(&mut check, "").unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(
        done.status.success() && said.contains("SUCCESS: "),
        "{said}"
    );
}

/// Where the table of node_exporter's families is at hand: each name that the mixin or the
/// dashboard uses is in one of the expressions here.
#[test]
fn every_name_of_the_mixin_and_the_dashboard_is_asked_for() {
    let shared = std::env::var_os("AGENT_SHARED_DIR")
        .map_or_else(|| workspace().join("../shared"), PathBuf::from);
    let table = shared.join("node-exporter-fixtures/default-families.tsv");
    let Ok(table) = fs::read_to_string(&table) else {
        say(&format!("skipped: no {}", table.display()));
        return;
    };
    let rules = fs::read_to_string(file("mixin.rules.yml")).unwrap();
    let all = format!("{}\n{rules}", dashboard().join("\n"));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let asked: BTreeSet<&str> = all.split(|c| !is_name(c)).collect();
    let used = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, _, _, _, _, mixin, dashboard, ..] = columns.as_slice() else {
            return None;
        };
        (!mixin.is_empty() || !dashboard.is_empty()).then_some(*name)
    });
    let used: Vec<&str> = used.collect();
    let missing: Vec<&&str> = used.iter().filter(|name| !asked.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(used.len() > 200, "only {} names", used.len());
}
