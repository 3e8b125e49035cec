//! What the endpoint answers to plain HTTP.

use crate::page::{families, names, value};
use flate2::read::GzDecoder;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use tests::agent::Place;
use tests::forward::{Client, Mode, frame, numbered};
use tests::http;

const USER: u32 = 65534;

#[test]
fn gzip_and_identity_give_the_same_families() {
    let place = Place::new();
    let _agent = place.start("");
    let plain = http::get(place.metrics, "/metrics", &[]).unwrap();
    assert_eq!(plain.status, 200);
    assert_eq!(plain.header("content-encoding"), None);
    let kind = plain.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let packed = http::get(place.metrics, "/metrics", &["accept-encoding: gzip"]).unwrap();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() * 3 < plain.body.len());
    let mut text = String::new();
    let mut gzip = GzDecoder::new(packed.body.as_slice());
    gzip.read_to_string(&mut text).unwrap();
    assert_eq!(families(&text), families(&plain.text()));
    assert!(text.ends_with('\n'));
    // Whoever refuses gzip does not get it.
    let refused = http::get(place.metrics, "/metrics", &["accept-encoding: gzip;q=0"]).unwrap();
    assert_eq!(refused.header("content-encoding"), None);
}

#[test]
fn the_landing_page_leads_to_the_metrics_and_all_else_is_404() {
    let place = Place::new();
    let _agent = place.start("");
    let landing = http::get(place.metrics, "/", &[]).unwrap();
    assert_eq!(landing.status, 200);
    assert!(
        landing
            .header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    assert!(landing.text().contains("href=\"/metrics\""));
    for path in ["/metric", "/metrics/", "/favicon.ico", "//", "/status"] {
        let reply = http::get(place.metrics, path, &[]).unwrap();
        assert_eq!(reply.status, 404, "{path}");
    }
}

#[test]
fn collect_selects_collectors_and_refuses_unknown_ones() {
    let place = Place::new();
    let _agent = place.start("");
    let reply = http::get(place.metrics, "/metrics?collect[]=loadavg", &[]).unwrap();
    let page = reply.text();
    let node: Vec<String> = names(&page)
        .into_iter()
        .filter(|name| name.starts_with("node_") && !name.starts_with("node_scrape_"))
        .filter(|name| name != "node_exporter_build_info")
        .collect();
    assert_eq!(node, ["node_load1", "node_load15", "node_load5"]);
    let escaped = "/metrics?collect%5B%5D=loadavg&collect%5B%5D=filefd";
    let page = http::get(place.metrics, escaped, &[]).unwrap().text();
    assert!(names(&page).contains("node_filefd_allocated"));
    assert!(!names(&page).contains("node_memory_MemFree_bytes"));
    let unknown = http::get(place.metrics, "/metrics?collect[]=nope", &[]).unwrap();
    assert_eq!(unknown.status, 400);
    assert!(unknown.text().contains("nope"), "{}", unknown.text());
}

#[test]
fn an_excluded_collector_is_not_on_the_page() {
    let place = Place::new();
    place.write("");
    let text = std::fs::read_to_string(place.config()).unwrap();
    let listen = "[metrics]\ncollectors.exclude = [\"loadavg\"]\n";
    std::fs::write(place.config(), text.replace("[metrics]\n", listen)).unwrap();
    let mut agent = place.spawn();
    agent.wait_ready();
    let page = http::get(place.metrics, "/metrics", &[]).unwrap().text();
    assert!(!names(&page).contains("node_load1"));
    assert!(names(&page).contains("node_memory_MemFree_bytes"));
}

#[test]
fn twenty_scrapes_at_once_are_all_answered() {
    let place = Place::new();
    let agent = place.start("");
    let metrics = place.metrics;
    let scrapes: Vec<_> = (0..20)
        .map(|n| {
            std::thread::spawn(move || {
                let gzip = ["accept-encoding: gzip"];
                let headers = if n % 2 == 0 { &gzip[..] } else { &[] };
                http::get(metrics, "/metrics", headers).unwrap()
            })
        })
        .collect();
    for scrape in scrapes {
        let reply = scrape.join().unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.body.len() > 1000);
    }
    assert_eq!(agent.status()["metrics"]["scrapes"], 20);
}

#[test]
fn an_ordinary_user_gets_the_same_families_from_the_same_collectors() {
    let root = Place::new();
    let _agent = root.start("");
    let expected = http::get(root.metrics, "/metrics", &[]).unwrap().text();

    let place = Place::new();
    place.write("");
    chown(place.path(""), Some(USER), Some(USER)).unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path(""), open).unwrap();
    let (user, group) = (format!("--reuid={USER}"), format!("--regid={USER}"));
    let wrapper = [
        "setpriv",
        &user,
        &group,
        "--clear-groups",
        "--pdeathsig",
        "KILL",
    ];
    let config = place.config();
    let arguments = ["run", "--config", config.to_str().unwrap()];
    let mut agent = place.spawn_with(&wrapper, &arguments, &[]);
    agent.wait_ready();
    let page = http::get(place.metrics, "/metrics", &[]).unwrap().text();
    let missing: Vec<_> = names(&expected)
        .difference(&names(&page))
        .cloned()
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What this host has no source for is 0 for root as well.
    assert_eq!(successes(&page), successes(&expected));
    assert!(
        successes(&page)
            .iter()
            .filter(|line| line.ends_with(" 1"))
            .count()
            >= 15
    );
}

/// The lines that tell how each collector fared.
fn successes(page: &str) -> Vec<&str> {
    let lines = page.lines();
    lines
        .filter(|line| line.starts_with("node_scrape_collector_success{"))
        .collect()
}

#[test]
fn what_the_agent_does_shows_in_its_own_families() {
    let place = Place::new();
    let agent = place.start("[containers.web]\nimage = \"web:1\"\n");
    let before = http::get(place.metrics, "/metrics", &[]).unwrap().text();
    let mut client = Client::tcp(place.forward);
    let records = [numbered(1), numbered(2), numbered(3)];
    let bytes = frame(Mode::Packed, "t", &records, Some("c"));
    client.send(&bytes).unwrap();
    assert_eq!(client.ack().as_deref(), Some("c"));
    let after = http::get(place.metrics, "/metrics", &[]).unwrap().text();
    let bytes = |page: &str| value(page, "agent_log_buffer_bytes");
    assert!(
        bytes(&after) > bytes(&before),
        "{} {}",
        bytes(&before),
        bytes(&after)
    );
    assert!((value(&after, "agent_docker_up") - 0.0).abs() < f64::EPSILON);
    assert_eq!(agent.status()["logs"]["records_in"], 3);
    let ours: Vec<String> = names(&after)
        .into_iter()
        .filter(|n| n.starts_with("agent_"))
        .collect();
    assert!(ours.len() > 15, "{ours:?}");
}
