//! Debian's Prometheus scrapes the agent and finds what dashboards and alerts ask for.

use crate::page::{Beside, installed};
use crate::web::{HASH, certificate, with_web};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use tests::agent::{Place, free_port};
use tests::{http, wait};

/// Prometheus with one job, whose target stands in `job`, and its API.
fn prometheus(place: &Place, job: &str) -> (Beside, SocketAddr) {
    let program = installed("prometheus", "prometheus");
    let config = place.path("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n\
         - job_name: node\n{job}"
    );
    fs::write(&config, text).unwrap();
    let api = free_port();
    let beside = Beside::start(
        &program,
        &[
            &format!("--config.file={}", config.display()),
            &format!("--storage.tsdb.path={}", place.path("tsdb").display()),
            &format!("--web.listen-address={api}"),
        ],
    );
    (beside, api)
}

/// The value of the only series that the query finds, once there is one.
fn query(api: SocketAddr, query: &str) -> Option<f64> {
    // Not up yet: no connection, or 503.
    let reply = http::get(api, &format!("/api/v1/query?query={query}"), &[]).ok()?;
    let answer: Value = serde_json::from_slice(&reply.body).ok()?;
    match answer["data"]["result"].as_array()?.as_slice() {
        [one] => one["value"][1].as_str()?.parse().ok(),
        _ => None,
    }
}

#[test]
fn prometheus_scrapes_the_agent_and_has_its_series() {
    let place = Place::new();
    let _agent = place.start("");
    let target = format!(
        "  static_configs: [ {{ targets: [ \"{}\" ] }} ]\n",
        place.metrics
    );
    let (_prometheus, api) = prometheus(&place, &target);
    // 0 where the first scrape was refused or could not be parsed.
    wait::until("the agent is up to Prometheus", || {
        query(api, "up").filter(|up| *up > 0.0)
    });
    for (name, least) in [
        ("node_load1", 0.0),
        ("node_memory_MemAvailable_bytes", 1e6),
        ("node_time_seconds", 1.7e9),
        ("node_boot_time_seconds", 1.0),
        ("count(node_cpu_seconds_total)", 8.0),
        ("count(node_scrape_collector_success==1)", 15.0),
        ("agent_docker_up", 0.0),
        ("agent_log_buffer_bytes", 0.0),
        ("count(agent_log_bad_frames_total)", 1.0),
        ("scrape_samples_scraped", 200.0),
    ] {
        let escaped = name.replace("==", "%3D%3D");
        let found = wait::until(&format!("Prometheus has {name}"), || query(api, &escaped));
        assert!(found >= least, "{name} is {found}");
    }
    let series = "count({__name__=~\"agent_.%2B\"})";
    let series = series
        .replace('{', "%7B")
        .replace('}', "%7D")
        .replace('"', "%22");
    assert!(
        query(api, &series) > Some(15.0),
        "{:?}",
        query(api, &series)
    );
    // Nothing was lost in a scrape: neither duplicates nor samples out of order.
    let page = http::get(api, "/metrics", &[]).unwrap().text();
    for name in [
        "prometheus_target_scrapes_sample_duplicate_timestamp_total",
        "prometheus_target_scrapes_sample_out_of_order_total",
    ] {
        assert!(page.contains(&format!("\n{name} 0\n")), "{name}");
    }
}

#[test]
fn prometheus_scrapes_through_tls_with_a_login() {
    let place = Place::new();
    certificate(&place, "web", None);
    with_web(
        &place,
        &format!(
            "tls_server_config: {{cert_file: web.crt, key_file: web.key}}\n\
             basic_auth_users: {{alice: {HASH}}}\n"
        ),
    );
    let mut agent = place.spawn();
    agent.wait_ready();
    let (_prometheus, api) = prometheus(
        &place,
        &format!(
            "  scheme: https\n  tls_config: {{ ca_file: web.crt }}\n\
             \x20 basic_auth: {{ username: alice, password: fakepassword }}\n\
             \x20 static_configs: [ {{ targets: [ \"{}\" ] }} ]\n",
            place.metrics
        ),
    );
    wait::until("the agent is up to Prometheus", || {
        query(api, "up").filter(|up| *up > 0.0)
    });
    wait::until("node_load1 is there", || query(api, "node_load1"));
}
