//! Debian's node_exporter and promtool beside the agent, on the same host at the same time.

use crate::page::{Beside, families, installed, series};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use tests::agent::{Place, free_port};
use tests::program::{command, workspace};
use tests::{http, wait};

const COLLECTORS: [&str; 15] = [
    "cpu",
    "diskstats",
    "entropy",
    "filefd",
    "filesystem",
    "loadavg",
    "meminfo",
    "netdev",
    "netstat",
    "pressure",
    "sockstat",
    "stat",
    "time",
    "uname",
    "vmstat",
];

/// On the page of a newer node_exporter than Debian's 1.5, named as the kernel names them; for
/// where the table of its default families is not at hand.
const NEWER: [&str; 2] = [
    "node_netstat_TcpExt_TCPOFOQueue",
    "node_netstat_TcpExt_TCPRcvQDrop",
];

/// node_exporter's page with our collectors and no other.
fn twin() -> String {
    let program = installed("prometheus-node-exporter", "prometheus-node-exporter");
    let address = free_port();
    let mut arguments = vec![
        format!("--web.listen-address={address}"),
        "--collector.disable-defaults".into(),
    ];
    arguments.extend(COLLECTORS.map(|name| format!("--collector.{name}")));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _twin = Beside::start(&program, &arguments);
    wait::until("node_exporter answers", || {
        let reply = http::get(address, "/metrics", &[]).ok()?;
        (reply.status == 200).then(|| reply.text())
    })
}

fn ours() -> String {
    let place = Place::new();
    let _agent = place.start("");
    http::get(place.metrics, "/metrics", &[]).unwrap().text()
}

/// `family finding` lines of promtool; a page that it cannot parse fails.
fn findings(page: &str) -> BTreeSet<String> {
    let mut check = command(installed("promtool", "prometheus"));
    check.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut check = check
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = check.stdin.take().unwrap();
    stdin.write_all(page.as_bytes()).unwrap();
    drop(stdin);
    let done = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    // 0 no finding, 3 findings, 1 no page.
    let code = done.status.code();
    assert!(matches!(code, Some(0 | 3)), "{code:?}: {said}");
    said.lines().map(str::to_owned).collect()
}

/// The families that a default node_exporter can print, where the table is at hand.
fn default_families() -> BTreeSet<String> {
    let shared = std::env::var_os("AGENT_SHARED_DIR")
        .map_or_else(|| workspace().join("../shared"), PathBuf::from);
    let table = shared.join("node-exporter-fixtures/default-families.tsv");
    let table = fs::read_to_string(table).unwrap_or_default();
    let first = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split('\t').next());
    first
        .map(str::to_owned)
        .chain(NEWER.map(Into::into))
        .collect()
}

#[test]
fn promtool_finds_nothing_that_it_does_not_find_on_node_exporters_page() {
    let page = ours();
    let theirs = findings(&twin());
    let known = default_families();
    let mut faults = Vec::new();
    let found = findings(&page);
    for finding in found.difference(&theirs) {
        // The kernel's own names, taken over by node_exporter wherever it prints the family.
        let family = finding.split(' ').next().unwrap();
        if !(finding.contains("camelCase") && known.contains(family)) {
            faults.push(finding);
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    // The tool looks at the names: else it would find nothing here either.
    assert!(
        found.iter().any(|one| one.contains("camelCase")),
        "{found:?}"
    );
    assert!(
        !found.iter().any(|one| one.starts_with("agent_")),
        "{found:?}"
    );
}

#[test]
fn every_family_of_node_exporters_collectors_is_ours_with_the_same_type() {
    let (theirs, ours) = (families(&twin()), families(&ours()));
    let mut faults = Vec::new();
    let mut compared = 0;
    for (name, kind) in theirs.iter().filter(|(name, _)| name.starts_with("node_")) {
        if name == "node_exporter_build_info" {
            continue;
        }
        compared += 1;
        match ours.get(name) {
            None => faults.push(format!("{name} is missing")),
            Some(ours) if ours != kind => faults.push(format!("{name} is {ours}, not {kind}")),
            Some(_) => {}
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(compared > 150, "only {compared} families compared");
}

#[test]
fn label_sets_of_cpu_load_memory_and_filefd_are_node_exporters() {
    let (theirs, ours) = (twin(), ours());
    for prefix in ["node_cpu_", "node_load", "node_memory_", "node_filefd_"] {
        let (theirs, ours) = (series(&theirs, prefix), series(&ours, prefix));
        assert!(!theirs.is_empty(), "{prefix}");
        let differing: Vec<_> = theirs.symmetric_difference(&ours).collect();
        assert!(differing.is_empty(), "{prefix}: {differing:#?}");
    }
}
