//! What the log tests ask of an agent beside what every test asks.

use rmpv::Value;
use std::fs;
use std::net::SocketAddr;
use tests::agent::{Agent, Place};
use tests::receiver::Record;
use tests::{http, wait};

/// The fleet's five fields, and where each comes from.
pub const ENRICHED: [(&str, &str); 5] = [
    ("aws_region", "eu-west-1"),
    ("product_name", "titan"),
    ("environment_tag", "prod1"),
    ("instance_id", "i-0123456789abcdef0"),
    ("ip_address", "10.1.2.3"),
];

const ENRICH: &str = r#"
[node]
region = "eu-west-1"
product = "titan"
environment = "prod1"
instance_id = "i-0123456789abcdef0"
private_ip = "10.1.2.3"

[logs.enrich]
aws_region = "${node.region}"
product_name = "${node.product}"
environment_tag = "${node.environment}"
instance_id = "${node.instance_id}"
ip_address = "${node.private_ip}"
"#;

/// Enrichment, a quick buffer, and one aggregator with acks.
pub fn forward_to(aggregator: SocketAddr) -> String {
    format!(
        "{ENRICH}\n[logs.buffer]\nflush_interval = \"100ms\"\n\
         [logs.outputs.aggregator]\ntype = \"forward\"\nservers = \"{aggregator}\"\nack_timeout = \"2s\"\n"
    )
}

/// One sample of the metrics page, as `name` or `name{label="value"}`; zero where it is not shown.
pub fn sample(place: &Place, name: &str) -> f64 {
    let page = http::get(place.metrics, "/metrics", &[]).unwrap().text();
    let value = page.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(' ')?;
        value.parse().ok()
    });
    value.unwrap_or(0.0)
}

pub fn bad_frames(place: &Place, reason: &str) -> f64 {
    sample(
        place,
        &format!("agent_log_bad_frames_total{{reason=\"{reason}\"}}"),
    )
}

/// Physical memory of the process. Unit: KiB.
pub fn rss(agent: &Agent<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse().unwrap()
}

/// Lines of the agent's own log that contain `text`.
pub fn said(agent: &Agent<'_>, text: &str) -> Vec<String> {
    let log = agent.stderr();
    let lines = log.lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}

/// Waits until `n` records of `tag` are there, and gives them.
pub fn arrived(tag: &str, n: usize, records: impl Fn() -> Vec<Record>) -> Vec<Record> {
    wait::until(&format!("{n} records of {tag} arrive"), || {
        let mut found = records();
        found.retain(|record| record.tag == tag);
        (found.len() >= n).then_some(found)
    })
}

pub fn assert_enriched(record: &Record) {
    for (field, value) in ENRICHED {
        assert_eq!(record.text(field), Some(value), "{field} of {record:?}");
    }
}

/// The field as the wire had it.
pub fn value<'a>(record: &'a Record, field: &str) -> Option<&'a Value> {
    record.fields.get(field)
}
