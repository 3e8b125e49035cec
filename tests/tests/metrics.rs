//! The page of node metrics, read by those who will read it: Prometheus, promtool, gzip.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use flate2::read::GzDecoder;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use tests::agent::{Place, free_port};
use tests::program::command;
use tests::{http, wait};

/// Ends its process with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn peer(arguments: &[&str]) -> Peer {
    let mut run = command("setpriv");
    run.args(["--pdeathsig", "KILL"]).args(arguments);
    let run = run
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Peer(run.spawn().unwrap())
}

fn page(address: SocketAddr) -> String {
    let reply = http::get(address, "/metrics", &[]).unwrap();
    assert_eq!(reply.status, 200);
    let kind = reply.header("content-type").unwrap();
    assert!(
        kind.starts_with("text/plain") && kind.contains("version=0.0.4"),
        "{kind}"
    );
    reply.text()
}

#[test]
fn prometheus_scrapes_it() {
    let place = Place::new();
    let _agent = place.start("");
    let web = free_port();
    std::fs::write(
        place.path("prometheus.yml"),
        format!(
            "scrape_configs:\n- job_name: node\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{}']\n",
            place.metrics
        ),
    )
    .unwrap();
    let _prometheus = peer(&[
        "prometheus",
        &format!("--config.file={}", place.path("prometheus.yml").display()),
        &format!("--storage.tsdb.path={}", place.path("tsdb").display()),
        &format!("--web.listen-address={web}"),
    ]);
    let value = |query: &str| -> Option<String> {
        let reply = http::get(web, &format!("/api/v1/query?query={query}"), &[]).ok()?;
        let answer: serde_json::Value = serde_json::from_slice(&reply.body).ok()?;
        let value = &answer["data"]["result"][0]["value"][1];
        value.as_str().map(str::to_owned)
    };
    wait::until("up == 1", || value("up").filter(|up| up == "1"));
    for family in [
        "node_memory_MemTotal_bytes",
        "node_load1",
        "node_filesystem_size_bytes",
        "agent_log_buffer_bytes",
    ] {
        wait::until(&format!("{family} is stored"), || value(family));
    }
    let boot = std::fs::read_to_string("/proc/stat").unwrap();
    let boot: f64 = boot
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .unwrap()
        .parse()
        .unwrap();
    let told: f64 = value("node_boot_time_seconds").unwrap().parse().unwrap();
    assert!((told - boot).abs() <= 1.0, "{told} {boot}");
}

/// Names of node_exporter 1.6 and later, which Debian's is not; promtool finds their spelling odd.
const LATER: [&str; 2] = [
    "node_netstat_TcpExt_TCPOFOQueue",
    "node_netstat_TcpExt_TCPRcvQDrop",
];

/// promtool's findings, one line each.
fn findings(page: &str) -> BTreeSet<String> {
    let mut child = command("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn promtool_finds_nothing_that_it_does_not_find_at_node_exporter() {
    let place = Place::new();
    let _agent = place.start("");
    let theirs_at = free_port();
    let _node_exporter = peer(&[
        "prometheus-node-exporter",
        &format!("--web.listen-address={theirs_at}"),
    ]);
    wait::until("node_exporter answers", || {
        http::get(theirs_at, "/metrics", &[]).ok()
    });
    let theirs = findings(&page(theirs_at));
    let ours = findings(&page(place.metrics));
    let known = |line: &str| LATER.iter().any(|name| line.starts_with(name));
    let more: Vec<&String> = ours
        .difference(&theirs)
        .filter(|line| !known(line))
        .collect();
    assert!(more.is_empty(), "findings of our own: {more:#?}");
    // promtool does look: a page with a fault has a finding
    assert!(!findings("# TYPE bad_total gauge\nbad_total 1\n").is_empty());
}

#[test]
fn the_families_of_the_first_collectors_are_there_and_each_collector_succeeds() {
    let place = Place::new();
    let _agent = place.start("");
    let page = page(place.metrics);
    for collector in [
        "cpu",
        "diskstats",
        "filefd",
        "filesystem",
        "loadavg",
        "meminfo",
        "netdev",
        "stat",
        "time",
        "uname",
        "vmstat",
    ] {
        let line = format!("node_scrape_collector_success{{collector=\"{collector}\"}} 1");
        assert!(page.lines().any(|found| found == line), "no {line}");
    }
    for family in [
        "node_cpu_seconds_total{",
        "node_memory_MemAvailable_bytes ",
        "node_load15 ",
        "node_filefd_allocated ",
        "node_network_receive_bytes_total{",
        "node_uname_info{",
        "node_time_seconds ",
        "node_vmstat_pgfault ",
        "node_context_switches_total ",
        "node_scrape_collector_duration_seconds{",
    ] {
        assert!(
            page.lines().any(|line| line.starts_with(family)),
            "no {family}"
        );
    }
    assert!(page.ends_with('\n'));
}

#[test]
fn gzip_is_given_to_those_who_ask() {
    let place = Place::new();
    let _agent = place.start("");
    let reply = http::get(place.metrics, "/metrics", &["accept-encoding: gzip"]).unwrap();
    assert_eq!(reply.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    GzDecoder::new(reply.body.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains("\nnode_load1 "));
    assert!(reply.body.len() < text.len() / 3);
    let plain = http::get(place.metrics, "/metrics", &[]).unwrap();
    assert_eq!(plain.header("content-encoding"), None);
}
