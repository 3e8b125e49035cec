//! What an operator and a service manager see: start, status, check, reload, stop.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tests::agent::Place;
use tests::forward::{Client, Mode, frame, numbered};
use tests::program::{command, stdout};
use tests::{http, wait};

/// The agent without a config takes its well-known ports: one such test at a time.
static WELL_KNOWN: Mutex<()> = Mutex::new(());
const OFF_AWS: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Runs `agent run` as that user with nothing but environment, and asks it at its well-known ports.
fn without_config(user: &[&str], uid: u32) {
    let _one = WELL_KNOWN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let place = Place::new();
    let open = fs::Permissions::from_mode(0o777);
    for name in ["state", "runtime"] {
        fs::create_dir(place.path(name)).unwrap();
        std::os::unix::fs::chown(place.path(name), Some(uid), None).unwrap();
    }
    let root = place.path("stdout").parent().unwrap().to_owned();
    fs::set_permissions(&root, open).unwrap();
    for port in [9100, 24224, 8081] {
        if TcpListener::bind(loopback(port)).is_err() {
            panic!("port {port} is taken on this machine: stop what listens there");
        }
    }
    let state = place.path("state").display().to_string();
    let runtime = place.path("runtime").display().to_string();
    let environment = [
        OFF_AWS,
        ("XDG_STATE_HOME", state.as_str()),
        ("XDG_RUNTIME_DIR", runtime.as_str()),
        ("RUNTIME_DIRECTORY", runtime.as_str()),
    ];
    let binary = place.path("agent");
    fs::copy(tests::agent::binary(), &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let mut agent = place.spawn_with(user, &["run", "--state-dir", &state], &environment);
    agent.wait_ready();
    let page = http::get(loopback(9100), "/metrics", &[]).unwrap().text();
    assert!(page.contains("node_memory_MemTotal_bytes"));
    let heartbeat = http::get(loopback(8081), "/heartbeat", &[]).unwrap();
    assert_eq!(heartbeat.status, 200, "{}", heartbeat.text());
    let mut client = Client::tcp(loopback(24224));
    client
        .send(&frame(Mode::Message, "t", &[numbered(5)], Some("c")))
        .unwrap();
    assert_eq!(client.ack().as_deref(), Some("c"));
    wait::until("the record is printed", || {
        let text = agent.stdout();
        let line = text.lines().next()?;
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        (record["id"] == 5 || record["record"]["id"] == 5).then_some(())
    });
    let control = place.path("runtime").join("control.sock");
    let status = command(tests::agent::binary())
        .args(["status", "--socket", &control.to_string_lossy()])
        .output()
        .unwrap();
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    assert!(agent.stop().success());
}

#[test]
fn with_no_config_it_serves_everything_as_root() {
    without_config(&[], 0);
}

#[test]
fn with_no_config_it_serves_everything_as_an_ordinary_user() {
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    without_config(&nobody, 65534);
}

#[test]
fn status_exit_codes_tell_well_degraded_and_absent() {
    let place = Place::new();
    assert_eq!(
        place.cli(&["status"]).status.code(),
        Some(2),
        "nobody is there"
    );
    let agent = place.start("");
    let well = place.cli(&["status", "--json"]);
    assert_eq!(well.status.code(), Some(0), "{well:?}");
    let document: serde_json::Value = serde_json::from_slice(&well.stdout).unwrap();
    assert_eq!(document["healthy"], true);
    assert_eq!(document["pid"], agent.pid());
    drop(agent);
    // a container is wanted and Docker is not there
    let _agent = place.start("[containers.app]\nimage = \"app:1\"\n");
    let degraded = place.cli(&["status"]);
    assert_eq!(degraded.status.code(), Some(1), "{degraded:?}");
}

const FAULTY: &str = "[containers.app]\nimage = \"app:1\"\nprots = [\"8080:8080\"]\nmem_limit = \"6 apples\"\n\
    [containers.other]\nimage = \"app:1\"\ndepends_on = [\"nobody\"]\n[metrcs]\n";

#[test]
fn check_names_every_fault_with_line_and_column() {
    let place = Place::new();
    let file = place.path("faulty.toml");
    fs::write(&file, FAULTY).unwrap();
    let check = place.cli(&["check", &file.to_string_lossy()]);
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    let text = String::from_utf8_lossy(&check.stderr).into_owned();
    for (place, word) in [
        ("3:1", "ports"),
        ("4:", "mem_limit"),
        ("7:", "nobody"),
        ("8:2", "metrics"),
    ] {
        assert!(
            text.contains(&format!("faulty.toml:{place}")),
            "no {place} in:\n{text}"
        );
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    place.write("");
    let config = place.config();
    let right = place.cli(&["check", &config.to_string_lossy()]);
    assert_eq!(right.status.code(), Some(0), "{right:?}");
    // the effective configuration is a configuration again
    let effective = place.cli(&["check", "--effective", &config.to_string_lossy()]);
    let again = place.path("again.toml");
    fs::write(&again, &effective.stdout).unwrap();
    let again = place.cli(&["check", &again.to_string_lossy()]);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
}

#[test]
fn run_with_a_faulty_config_starts_nothing() {
    let place = Place::new();
    place.write(FAULTY);
    let mut agent = place.spawn();
    let status = agent.wait_end(Duration::from_secs(10));
    assert!(!status.success());
    assert!(agent.stderr().contains("prots"), "{}", agent.stderr());
    assert!(
        !place.path("state").exists(),
        "nothing is made before the config is right"
    );
}

#[test]
fn a_reload_with_a_faulty_file_changes_nothing() {
    let place = Place::new();
    let agent = place.start("[node]\nproduct = \"titan\"\n");
    place.write(FAULTY);
    let reload = place.cli(&["reload"]);
    assert_eq!(reload.status.code(), Some(1), "{reload:?}");
    let status = agent.status();
    assert_eq!(status["facts"]["product"]["value"], "titan");
    assert!(status["config"]["error"].is_string(), "{status}");
    assert_eq!(status["containers"].as_array().unwrap().len(), 0);
    // and a right one is applied, and told to systemd
    place.write("[node]\nproduct = \"atlas\"\n");
    agent.signal(Signal::HUP);
    wait::until("the new fact holds", || {
        (agent.status()["facts"]["product"]["value"] == "atlas").then_some(())
    });
    let said = agent.said();
    let at = |word: &str| {
        said.iter()
            .rposition(|line| line.starts_with(word))
            .unwrap()
    };
    assert!(at("RELOADING=1") < at("READY=1"), "{said:?}");
    assert!(
        said.iter().any(|line| line.starts_with("MONOTONIC_USEC=")),
        "{said:?}"
    );
    assert!(agent.status()["config"]["error"].is_null());
}

#[test]
fn systemd_hears_ready_then_the_watchdog_then_stopping() {
    let place = Place::new();
    place.write("");
    let config = place.config();
    let arguments = ["run", "--config", &config.to_string_lossy()];
    let mut agent = place.spawn_with(&[], &arguments, &[("WATCHDOG_USEC", "600000")]);
    agent.wait_ready();
    agent.wait_said("WATCHDOG=1");
    let began = Instant::now();
    agent.signal(Signal::TERM);
    agent.wait_said("STOPPING=1");
    assert!(agent.wait_end(Duration::from_secs(12)).success());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        place.cli(&["status"]).status.code(),
        Some(2),
        "nobody is there any more"
    );
}

#[test]
fn a_port_in_use_is_named_with_its_holder() {
    let place = Place::new();
    let held = TcpListener::bind(place.metrics).unwrap();
    place.write("");
    let mut agent = place.spawn();
    let status = agent.wait_end(Duration::from_secs(10));
    assert_eq!(status.code(), Some(1));
    let text = agent.stderr();
    assert!(text.contains(&place.metrics.to_string()), "{text}");
    assert!(
        text.contains(&format!("pid {}", std::process::id())),
        "{text}"
    );
    drop(held);
}

#[test]
fn a_second_agent_on_the_same_control_socket_is_refused() {
    let place = Place::new();
    let agent = place.start("");
    let mut second = place.spawn();
    assert_eq!(second.wait_end(Duration::from_secs(10)).code(), Some(1));
    assert!(
        second.stderr().contains("control.sock"),
        "{}",
        second.stderr()
    );
    assert_eq!(
        place.cli(&["status"]).status.code(),
        Some(0),
        "the first one is still there"
    );
    drop(agent);
}

/// systemd-socket-activate holds the sockets: first the forward input, then metrics.
#[test]
fn sockets_held_by_systemd_are_taken_by_name() {
    let place = Place::new();
    // Nothing else may bind these: the config says other addresses than the handed-over sockets have.
    let (forward, metrics) = (tests::agent::free_port(), tests::agent::free_port());
    place.write("");
    let (forward_text, metrics_text) = (forward.to_string(), metrics.to_string());
    let activate = [
        "systemd-socket-activate",
        "-l",
        &forward_text,
        "-l",
        &metrics_text,
        "--fdname=forward:metrics",
        "-E",
        "NOTIFY_SOCKET",
    ];
    let config = place.config();
    let mut agent = place.spawn_with(
        &activate,
        &["run", "--config", &config.to_string_lossy()],
        &[],
    );
    // The first connection starts the agent and is served by it.
    let reply = wait::until("the agent answers on the socket that was held", || {
        let mut stream = TcpStream::connect(metrics).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .ok()?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    });
    assert!(reply.contains("node_load1"), "{reply}");
    agent.wait_ready();
    let mut client = Client::tcp(forward);
    client
        .send(&frame(Mode::Message, "t", &[numbered(1)], Some("c")))
        .unwrap();
    assert_eq!(client.ack().as_deref(), Some("c"));
}

#[test]
fn the_control_socket_is_for_its_group_and_state_for_us_alone() {
    let place = Place::new();
    let _agent = place.start("");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.control()), 0o660);
    assert_eq!(mode(&place.path("state")), 0o700);
}

#[test]
fn help_and_version_are_on_stdout() {
    for word in ["--help", "--version"] {
        let text = stdout(command(tests::agent::binary()).arg(word), "").unwrap();
        assert!(text.contains("agent"), "{text}");
    }
}
