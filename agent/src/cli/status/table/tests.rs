use super::{bytes, span, whole};
use crate::control::protocol::{
    Config, Container, Docker, Exit, Fact, Host, Logs, Metrics, Output, Pull, Status, Update,
};
use std::collections::BTreeMap;

const NOW: &str = "2026-11-21T12:00:00Z";

fn container(name: &str, state: &str) -> Container {
    Container {
        name: name.into(),
        image: format!("registry.example/team/{name}:1.42.0"),
        state: state.into(),
        ready: None,
        well: state == "running",
        essential: true,
        id: Some("0f3a".into()),
        pid: Some(4711),
        started_at: Some("2026-11-18T08:00:00Z".into()),
        ports: BTreeMap::new(),
        restarts: 0,
        crash_loop: false,
        update: None,
        rolled_back: false,
        paused: false,
        pull: None,
        last_exit: None,
        retry_at: None,
        message: None,
    }
}

fn status() -> Status {
    let mut app = container("vf-export", "running");
    app.ready = Some(true);
    app.restarts = 2;
    app.last_exit = Some(Exit {
        code: 137,
        class: "oom".into(),
        at: "2026-11-18T07:59:58Z".into(),
    });
    let mut falcon = container("falcon", "backoff");
    falcon.pid = None;
    falcon.restarts = 7;
    falcon.last_exit = Some(Exit {
        code: 1,
        class: "error".into(),
        at: "2026-11-21T11:59:48Z".into(),
    });
    falcon.retry_at = Some("2026-11-21T12:00:48Z".into());
    falcon.message = Some("cannot open /opt/CrowdStrike".into());
    let fact = |value: &str| Fact {
        value: value.into(),
        source: "metadata".into(),
    };
    Status {
        version: "1.0.0".into(),
        pid: 1,
        uptime_seconds: 3 * 86_400 + 4 * 3_600,
        healthy: false,
        reasons: vec!["container falcon: backoff: cannot open /opt/CrowdStrike".into()],
        config: Config {
            files: vec![],
            loaded_at: NOW.into(),
            error: None,
        },
        facts: BTreeMap::from([
            ("region".into(), fact("us-east-1")),
            ("private_ip".into(), fact("10.1.2.3")),
        ]),
        docker: Docker {
            reachable: Some(true),
            version: Some("28.0.4".into()),
            since: None,
            error: None,
            root: Some("/var/lib/docker".into()),
            disk_used_percent: Some(62),
        },
        host: Host {
            systemd: Some("running".into()),
            ..Host::default()
        },
        jobs: vec![],
        containers: vec![app, falcon],
        logs: Logs {
            accepting: true,
            records_in: 812,
            records_unparsed: 0,
            bad_frames: 0,
            connections: 3,
            buffered_bytes: 1_258_291,
            buffer_limit_bytes: 1 << 30,
            oldest_seconds: Some(4),
            dropped: 0,
            error: None,
            outputs: vec![Output {
                name: "aggregator".into(),
                kind: "forward".into(),
                records_out: 800,
                pending_bytes: 1_258_291,
                oldest_seconds: Some(4),
                last_error: None,
            }],
        },
        metrics: Metrics {
            scrapes: 17,
            last_seconds: Some(0.0006),
            collectors_ok: 34,
            collectors_failed: vec![],
        },
    }
}

#[test]
fn status_reads_as_the_product_page_shows_it() {
    let text = whole(&status(), NOW.parse().unwrap());
    let wanted = "\
agent 1.0.0  up 3d 4h  us-east-1  10.1.2.3  DEGRADED
! container falcon: backoff: cannot open /opt/CrowdStrike
CONTAINER   STATE    READY  UP     RESTARTS  LAST EXIT           IMAGE
vf-export   running  yes    3d 4h  2         oom 137, 3d 4h ago  vf-export:1.42.0
falcon      backoff  -      -      7         error 1, 12s ago    falcon:1.42.0
            retry in 48s: \"cannot open /opt/CrowdStrike\"
LOGS        IN   OUT  BUFFERED         OLDEST  LAST ERROR
aggregator  812  800  1.2 MiB / 1.0 GiB  4s      -
METRICS     scrapes 17  last 0.6 ms  collectors 34 ok, 0 failed
HOST        docker 28.0.4  systemd ok  /var/lib/docker 62 % used  reboot: not needed
"
    .replace("BUFFERED         OLDEST", "BUFFERED           OLDEST");
    assert_eq!(text, wanted);
}

#[test]
fn the_host_line_says_what_is_known_of_updates_and_reboots() {
    let line = |host: Host| {
        let status = Status { host, ..status() };
        let text = whole(&status, NOW.parse().unwrap());
        text.lines().last().unwrap().to_owned()
    };
    let update = |operation: &str| Update {
        operation: operation.into(),
        progress: 0.43,
        new_version: "4593.2.0".into(),
        last_checked: None,
    };
    // Nobody to ask: nothing is claimed.
    let bare = line(Host::default());
    assert_eq!(bare, "HOST        docker 28.0.4  /var/lib/docker 62 % used");
    let downloading = line(Host {
        systemd: Some("degraded".into()),
        update: Some(update("downloading")),
        ..Host::default()
    });
    assert!(
        downloading.contains("  systemd degraded  "),
        "{downloading}"
    );
    assert!(
        downloading.ends_with("  update: 4593.2.0 43 %"),
        "{downloading}"
    );
    let needed = line(Host {
        update: Some(update("updated_need_reboot")),
        reboot_required: true,
        reboot_reason: Some("update 4593.2.0 is installed".into()),
        ..Host::default()
    });
    assert!(
        needed.ends_with("  reboot: needed, update 4593.2.0 is installed"),
        "{needed}"
    );
    let leaving = line(Host {
        shutting_down: true,
        ..Host::default()
    });
    assert!(leaving.ends_with("  shutting down"), "{leaving}");
}

#[test]
fn a_refused_reload_shows_until_it_is_mended() {
    let mut status = status();
    status.config.error = Some("agent.toml:3:1: unknown key \"imgae\"".into());
    let text = whole(&status, NOW.parse().unwrap());
    assert!(text.contains(
        "! config: reload refused, the settings before it run on: agent.toml:3:1: unknown key"
    ));
}

#[test]
fn spans_and_sizes_read_at_a_glance() {
    let spans = [
        (5, "5s"),
        (65, "1m 5s"),
        (3_700, "1h 1m"),
        (90_000, "1d 1h"),
    ];
    for (seconds, text) in spans {
        assert_eq!(span(seconds), text);
    }
    let sizes = [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (64 << 20, "64 MiB"),
    ];
    for (count, text) in sizes {
        assert_eq!(bytes(count), text);
    }
}

#[test]
fn a_pull_is_a_bar_with_its_numbers() {
    let mut status = status();
    status.containers[0].state = "pulling".into();
    status.containers[0].pull = Some(Pull {
        percent: 43,
        done_bytes: 12 << 20,
        total_bytes: 28 << 20,
    });
    let text = whole(&status, NOW.parse().unwrap());
    let bar = "image [########------------] 43 %  12 MiB of 28 MiB";
    assert!(text.contains(bar), "{text}");
}
