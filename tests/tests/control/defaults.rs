//! `agent run` without any config file: everything is there, on the default ports.

use crate::place::{code, text};
use serde_json::Value;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use tests::agent::{Place, binary};
use tests::forward::{Client, Mode, frame, numbered};
use tests::own::in_own_network;
use tests::program::command;
use tests::{http, wait};

const METRICS: ([u8; 4], u16) = ([127, 0, 0, 1], 9100);
const HEARTBEAT: ([u8; 4], u16) = ([127, 0, 0, 1], 8081);
const FORWARD: ([u8; 4], u16) = ([127, 0, 0, 1], 24224);
/// nobody, on Debian.
const USER: u32 = 65534;

#[test]
fn without_a_config_root_gets_metrics_heartbeat_control_and_logs_on_stdout() {
    let name = "defaults::without_a_config_root_gets_metrics_heartbeat_control_and_logs_on_stdout";
    if in_own_network(name) {
        serves(
            &[],
            &[],
            Path::new("/run/agent"),
            Path::new("/var/lib/agent"),
        );
    }
}

#[test]
fn without_a_config_an_ordinary_user_gets_the_same() {
    let name = "defaults::without_a_config_an_ordinary_user_gets_the_same";
    if in_own_network(name) {
        let home = tempfile::tempdir().unwrap();
        chown(home.path(), Some(USER), Some(USER)).unwrap();
        let runtime = home.path().join("run");
        std::fs::create_dir(&runtime).unwrap();
        chown(&runtime, Some(USER), Some(USER)).unwrap();
        let user = format!("--reuid={USER}");
        let group = format!("--regid={USER}");
        let wrapper = [
            "setpriv",
            &user,
            &group,
            "--clear-groups",
            "--pdeathsig",
            "KILL",
        ];
        let environment = [
            ("HOME", home.path().to_str().unwrap()),
            ("XDG_RUNTIME_DIR", runtime.to_str().unwrap()),
        ];
        let state = home.path().join(".local/state/agent");
        serves(&wrapper, &environment, &runtime.join("agent"), &state);
    }
}

fn serves(wrapper: &[&str], environment: &[(&str, &str)], runtime: &Path, state: &Path) {
    let place = Place::new();
    // Its notify socket must be reached by anybody.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path(""), open).unwrap();
    let mut environment = environment.to_vec();
    environment.push(("AWS_EC2_METADATA_DISABLED", "true"));
    let mut agent = place.spawn_with(wrapper, &["run"], &environment);
    agent.wait_ready();

    let page = http::get(METRICS.into(), "/metrics", &[]).unwrap();
    assert_eq!(page.status, 200);
    assert!(page.text().contains("\nnode_load1 "), "{}", page.text());
    let beat = http::get(HEARTBEAT.into(), "/heartbeat", &[]).unwrap();
    assert_eq!(
        (beat.status, beat.text().contains("\"ok\":true")),
        (200, true)
    );

    let mut tcp = Client::tcp(SocketAddr::from(FORWARD));
    let records = [numbered(1), numbered(2)];
    let bytes = frame(Mode::Forward, "by.tcp", &records, Some("c1"));
    tcp.send(&bytes).unwrap();
    assert_eq!(tcp.ack().as_deref(), Some("c1"));
    let mut unix = Client::unix(&runtime.join("forward.sock"));
    let bytes = frame(Mode::Message, "by.unix", &[numbered(3)], None);
    unix.send(&bytes).unwrap();
    let lines = wait::until("three records are printed", || {
        let lines: Vec<String> = agent.stdout().lines().map(str::to_owned).collect();
        (lines.len() == 3).then_some(lines)
    });
    let ids = lines.iter().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["level"], "info", "{line}");
        record["id"].as_u64().unwrap()
    });
    assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 3]);

    // The same user's command finds the socket by itself.
    let mut cli = command("setpriv");
    cli.args(&wrapper[wrapper.len().min(1)..]);
    cli.arg(binary()).arg("status").envs(environment);
    let status = cli.env_remove("AGENT_SOCKET").output().unwrap();
    assert_eq!(code(&status), 0, "{}", text(&status));
    assert!(runtime.join("control.sock").exists());
    assert!(state.join("buffer").is_dir());
    assert_eq!(agent.stop().code(), Some(0));
}
