//! The room behind the house's real HTTP server.

use super::{expect, host, parse_text};
use crate::host::roots::Roots;
use crate::http;
use crate::listener::Listener;
use crate::metrics::{COLLECTORS, Filter, Metrics, Options, Settings};
use crate::pulse::Pulse;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a container, a virtual machine or another kernel may lack.
const MAY_BE_ABSENT: [&str; 16] = [
    "bonding",
    "conntrack",
    "dmi",
    "dmmultipath",
    "hwmon",
    "infiniband",
    "kernel_hung",
    "mdadm",
    "nfs",
    "nfsd",
    "nvme",
    "powersupplyclass",
    "pressure",
    "schedstat",
    "time",
    "watchdog",
];

pub struct Answer {
    pub status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

pub async fn get(address: SocketAddr, target: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap()[9..12].parse().unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Answer {
        status,
        headers,
        body: answer[end + 4..].to_vec(),
    }
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// The room on a port of its own; the server ends with the set.
pub async fn serve(roots: Roots, collectors: &[&str]) -> (Arc<Metrics>, SocketAddr, JoinSet<()>) {
    serve_with(roots, collectors, Options::default()).await
}

async fn serve_with(
    roots: Roots,
    collectors: &[&str],
    options: Options,
) -> (Arc<Metrics>, SocketAddr, JoinSet<()>) {
    let settings = Settings {
        listen: Vec::new(),
        collectors: collectors.iter().map(|name| (*name).into()).collect(),
        roots,
        options,
    };
    let registry = prometheus::Registry::new();
    let own = prometheus::IntGauge::new("agent_test", "Own family.").unwrap();
    registry.register(Box::new(own)).unwrap();
    let metrics = Metrics::new(&settings, registry, &super::nobody());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let beat = Pulse::default().register("metrics", Duration::from_secs(60));
    let mut tasks = JoinSet::new();
    tasks.spawn(http::serve(
        Listener::Tcp(listener),
        None,
        metrics.clone(),
        beat,
        CancellationToken::new(),
    ));
    (metrics, address, tasks)
}

#[tokio::test]
async fn the_page_of_this_host_is_whole_and_says_so_in_the_status() {
    let (metrics, address, _tasks) = serve(Roots::default(), COLLECTORS).await;
    let answer = get(address, "/metrics", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert!(!answer.headers.contains_key("content-encoding"));
    let pages = parse_text(answer.text());
    for name in COLLECTORS
        .iter()
        .filter(|name| !MAY_BE_ABSENT.contains(name))
    {
        let labels = [("collector", *name)];
        expect(&pages, "node_scrape_collector_success", &labels, 1.0);
    }
    for family in [
        "node_uname_info",
        "node_exporter_build_info",
        "process_open_fds",
        "agent_test",
    ] {
        assert!(pages.contains_key(family), "{family}");
    }
    let in_flight = "promhttp_metric_handler_requests_in_flight";
    expect(&pages, in_flight, &[], 1.0);
    let mut names: Vec<&str> = answer
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .collect();
    let printed = names.clone();
    names.sort_by_key(|line| line.split(' ').next());
    assert_eq!(printed, names, "families are not sorted");

    let second = parse_text(get(address, "/metrics", "").await.text());
    let requests = "promhttp_metric_handler_requests_total";
    expect(&second, requests, &[("code", "200")], 1.0);
    let status = metrics.status();
    assert_eq!(status.scrapes, 2);
    assert!(status.last_duration.is_some() && status.collectors_failed.is_empty());
    assert!(status.collectors_ok >= COLLECTORS.len() - MAY_BE_ABSENT.len());
}

#[tokio::test]
async fn gzip_is_the_same_page() {
    let (_dir, roots) = host(&[("proc/loadavg", "1 2 3 4/5 6\n")]);
    let (_metrics, address, _tasks) = serve(roots, &["loadavg"]).await;
    let answer = get(address, "/metrics", "Accept-Encoding: gzip\r\n").await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer.body[..])
        .read_to_string(&mut text)
        .unwrap();
    expect(&parse_text(&text), "node_load15", &[], 3.0);
    let refused = get(address, "/metrics", "Accept-Encoding: gzip;q=0\r\n").await;
    assert!(refused.text().contains("node_load15 3\n"));
}

#[tokio::test]
async fn other_paths_and_queries_answer_as_node_exporter_does() {
    let (_dir, roots) = host(&[("proc/loadavg", "1 2 3 4/5 6\n")]);
    let (_metrics, address, _tasks) = serve(roots, &["loadavg", "stat"]).await;
    let landing = get(address, "/", "").await;
    assert_eq!(landing.status, 200);
    assert!(landing.headers["content-type"].starts_with("text/html"));
    assert!(landing.text().contains("href=\"/metrics\""));
    assert_eq!(get(address, "/metrics/", "").await.status, 404);
    let wrong = get(address, "/metrics?collect[]=cpu", "").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().ends_with("disabled collector: cpu"));

    let chosen = get(address, "/metrics?collect[]=loadavg", "").await;
    let pages = parse_text(chosen.text());
    assert_eq!(pages["node_scrape_collector_success"].series.len(), 1);
    assert!(pages.contains_key("process_open_fds"));
}

#[tokio::test]
async fn many_scrapes_at_once_are_all_answered() {
    let (_dir, roots) = host(&[("proc/loadavg", "1 2 3 4/5 6\n")]);
    let (metrics, address, _tasks) = serve(roots, &["loadavg"]).await;
    let mut clients = JoinSet::new();
    for _ in 0..30 {
        clients.spawn(async move { get(address, "/metrics", "").await.status });
    }
    assert_eq!(clients.join_all().await, [200; 30]);
    assert_eq!(metrics.status().scrapes, 30);
}

#[tokio::test]
async fn another_path_and_a_page_without_itself_as_configured() {
    let (_dir, roots) = host(&[("proc/loadavg", "1 2 3 4/5 6\n")]);
    let options = Options {
        telemetry_path: "/node".into(),
        disable_exporter_metrics: true,
        ..Options::default()
    };
    let (_metrics, address, _tasks) = serve_with(roots, &["loadavg"], options).await;
    assert_eq!(get(address, "/metrics", "").await.status, 404);
    assert!(
        get(address, "/", "")
            .await
            .text()
            .contains("href=\"/node\"")
    );
    let pages = parse_text(get(address, "/node", "").await.text());
    for family in ["node_load1", "agent_test", "node_exporter_build_info"] {
        assert!(pages.contains_key(family), "{family}");
    }
    let itself = |name: &&String| name.starts_with("process_") || name.starts_with("promhttp_");
    assert_eq!(pages.keys().find(itself), None);
}

#[tokio::test]
async fn scrapes_beyond_the_limit_are_told_to_come_back() {
    let (_dir, roots) = host(&[("proc/loadavg", "1 2 3 4/5 6\n")]);
    let options = Options {
        max_requests: 1,
        ..Options::default()
    };
    let (_metrics, address, _tasks) = serve_with(roots, &["loadavg"], options).await;
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        clients.spawn(async move {
            let answer = get(address, "/metrics", "").await;
            (answer.status, answer.text().to_owned())
        });
    }
    let answers = clients.join_all().await;
    let refused = "Limit of concurrent requests reached (1), try again later.\n";
    assert!(answers.iter().any(|(status, _)| *status == 200));
    assert!(
        answers
            .iter()
            .any(|(status, text)| *status == 503 && text == refused)
    );
    assert!(
        answers
            .iter()
            .all(|(status, _)| [200, 503].contains(status))
    );
    // The place is free again.
    assert_eq!(get(address, "/metrics", "").await.status, 200);
}

#[tokio::test]
async fn chosen_devices_and_fields_alone_are_on_the_page() {
    let disk = |name: &str| format!("8 0 {name} 1 2 3 4 5 6 7 8 9 10 11\n");
    let disks = [disk("sda"), disk("sda1"), disk("sdb"), disk("loop0")].concat();
    let (_dir, roots) = host(&[
        ("proc/diskstats", &disks),
        ("proc/vmstat", "pgpgin 1\nnr_free_pages 2\nnr_dirty 3\n"),
    ]);
    let options = Options {
        diskstats: Filter {
            include: Some("^(sda1|loop)".into()),
            exclude: None,
        },
        netdev: Filter::excluding("^lo$"),
        vmstat_fields: "^nr_".into(),
        ..Options::default()
    };
    let (_metrics, address, _tasks) =
        serve_with(roots, &["diskstats", "netdev", "vmstat"], options).await;
    let page = get(address, "/metrics", "").await;
    let pages = parse_text(page.text());
    let reads = &pages["node_disk_reads_completed_total"].series;
    let devices: Vec<&str> = reads
        .keys()
        .map(|labels| labels["device"].as_str())
        .collect();
    assert_eq!(devices, ["loop0", "sda1"]);
    assert!(!page.text().contains("device=\"lo\""));
    expect(&pages, "node_vmstat_nr_dirty", &[], 3.0);
    assert!(!pages.contains_key("node_vmstat_pgpgin"));
}
