//! One agent after the other over the same state: newer, older, and older over what a newer wrote.
//!
//! The newer agent is the same program in another file, told apart by its hash: a second build would
//! take minutes and show no more. What a newer format looks like to an older agent is written here
//! by hand.

use crate::life::nobody_is_refused;
use crate::place::{CONFIG, Host, Scenario};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;
use tests::agent::{binary, free_port};
use tests::ignition;
use tests::program::{command, stdout};
use tests::receiver::Receiver;
use tests::systemd_host::AGENT;
use tests::wait;

pub const SCENARIOS: &[Scenario] = &[
    (
        "an_upgrade_touches_no_container_and_refuses_no_connection",
        upgrade,
    ),
    ("so_does_a_rollback", rollback),
    (
        "state_in_a_newer_format_is_kept_aside_and_the_agent_runs_on_without",
        newer_state,
    ),
    (
        "what_was_kept_aside_serves_the_newer_agent_again",
        back_again,
    ),
];

const STATE: &str = "/var/lib/agent";
const HINT: &str = "apt-get install docker.io (tests/run does)";

/// Where all logs of the group go; while it is away they stay in the buffer.
static AGGREGATOR: Mutex<Option<Receiver>> = Mutex::new(None);
static ADDRESS: LazyLock<SocketAddr> =
    LazyLock::new(|| SocketAddr::from(([0, 0, 0, 0], free_port().port())));

fn aggregator_up() {
    *AGGREGATOR.lock().unwrap() = Some(Receiver::start_at(*ADDRESS));
}

fn aggregator_down() {
    *AGGREGATOR.lock().unwrap() = None;
}

fn has_arrived(id: u64) -> bool {
    let aggregator = AGGREGATOR.lock().unwrap();
    aggregator.as_ref().unwrap().ids().contains_key(&id)
}

#[track_caller]
fn wait_arrived(id: u64) {
    wait::until(&format!("record {id} arrives"), || {
        has_arrived(id).then_some(())
    });
}

pub fn boot() -> Host {
    let field = "{{(index .IPAM.Config 0).Gateway}}";
    let mut inspect = command("docker");
    let gateway = stdout(
        inspect.args(["network", "inspect", "-f", field, "bridge"]),
        HINT,
    )
    .unwrap();
    let server = format!("{}:{}", gateway.trim(), ADDRESS.port());
    let stdout_output = "[logs.outputs.here]\ntype = \"stdout\"\n";
    let rest = format!(
        "[logs.outputs.aggregator]\ntype = \"forward\"\nservers = [\"{server}\"]\nrequire_ack = true\n\
         [logs.buffer]\nflush_interval = \"100ms\"\n\
         [containers.batch]\nimage = \"agent-test/app:1\"\ncommand = [\"8090\"]\nnetwork_mode = \"host\"\n\
         pull_policy = \"never\"\nessential = false\n"
    );
    assert!(CONFIG.contains(stdout_output));
    let host = Host::boot_well(&CONFIG.replace(stdout_output, &rest));
    wait::until("the batch runs", || {
        is(&host, "batch", "running").then_some(())
    });
    host.run(&[AGENT, "stop", "batch"]);
    assert!(is(&host, "batch", "stopped"));
    host
}

fn is(host: &Host, name: &str, state: &str) -> bool {
    let status = host.status();
    let containers = status["containers"].as_array().unwrap();
    containers
        .iter()
        .any(|one| one["name"] == name && one["state"] == state)
}

/// The program with bytes behind its end, which nobody loads.
fn next_build(directory: &Path) -> PathBuf {
    let path = directory.join("agent");
    fs::copy(binary(), &path).unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"the next build").unwrap();
    assert_ne!(ignition::hash(&path), ignition::hash(&binary()));
    path
}

/// The file that the agent's process runs.
fn running(host: &Host) -> PathBuf {
    inside(host, &format!("/proc/{}/exe", host.agent_pid()))
}

/// As an upgrade does it: written beside, moved over.
fn install(host: &Host, program: &Path) {
    let beside = format!("{AGENT}.new");
    fs::copy(program, inside(host, &beside)).unwrap();
    host.run(&["mv", &beside, AGENT]);
}

fn inside(host: &Host, path: &str) -> PathBuf {
    host.root().join(path.trim_start_matches('/'))
}

/// Another agent in place of the one that runs: a record that was not delivered, the operator's
/// word, the containers and the listeners are what they were.
fn exchange(host: &Host, program: &Path, id: u64) {
    let mains = host.pids();
    aggregator_down();
    host.log(id);
    install(host, program);
    nobody_is_refused(host, || {
        host.run(&["systemctl", "restart", "agent.service"]);
        host.wait_well();
    });
    assert_eq!(ignition::hash(&running(host)), ignition::hash(program));
    assert_eq!(host.pids(), mains);
    aggregator_up();
    wait_arrived(id);
    assert!(is(host, "batch", "stopped"));
    assert!(!host.agent_journal().contains("newer agent"));
}

fn upgrade(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    exchange(host, &next_build(directory.path()), 5001);
}

fn rollback(host: &Host) {
    exchange(host, &binary(), 5002);
}

/// Puts the digit behind a magic into each file of that kind.
fn set_format(buffer: &Path, extension: &str, at: &[usize], digit: u8) {
    let mut changed = 0;
    for entry in fs::read_dir(buffer).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|one| one == extension) {
            let mut bytes = fs::read(&path).unwrap();
            for at in at {
                if let Some(byte) = bytes.get_mut(*at) {
                    *byte = digit;
                }
            }
            fs::write(&path, bytes).unwrap();
            changed += 1;
        }
    }
    assert!(changed > 0, "no {extension} in {}", buffer.display());
}

fn newer_state(host: &Host) {
    let mains = host.pids();
    aggregator_down();
    host.log(5003);
    host.run(&["systemctl", "stop", "agent.service"]);
    let state = inside(host, STATE);
    let at = |name: &str| state.join(name);
    let supervise = fs::read_to_string(at("supervise.json")).unwrap();
    let supervise = supervise.replacen("\"version\":1", "\"version\":2,\"new\":{}", 1);
    let supervise = supervise.replace("\"climb\":0", "\"climb\":\"none\"");
    fs::write(at("supervise.json"), &supervise).unwrap();
    fs::write(at("jobs.json"), "{\"version\":2,\"jobs\":[]}").unwrap();
    let mut events = OpenOptions::new()
        .append(true)
        .open(at("events.jsonl"))
        .unwrap();
    events
        .write_all(b"{\"v\":2,\"seq\":1000000,\"new\":true}\n")
        .unwrap();
    set_format(&at("buffer"), "seg", &[3], b'2');
    set_format(&at("buffer"), "cursor", &[3, 512 + 3], b'2');

    host.run(&["systemctl", "start", "agent.service"]);
    host.wait_well();
    assert_eq!(host.pids(), mains);
    for what in ["supervision memory", "memory of jobs", "the log buffer"] {
        host.wait_journal(&format!(
            "{what} was written by a newer agent and is kept aside for it"
        ));
    }
    host.wait_journal("lines of the audit log were written by a newer agent");
    assert_eq!(
        fs::read_to_string(at("supervise.json.v2")).unwrap(),
        supervise
    );
    assert!(at("jobs.json.v2").exists() && at("buffer.v2").exists());
    wait::holds_for(Duration::from_secs(2), "the batch stays stopped", || {
        is(host, "batch", "stopped")
    });
    let running = host.try_run(&["docker", "inspect", "-f", "{{.State.Running}}", "batch"]);
    assert_ne!(running.unwrap_or_default().trim(), "true");

    aggregator_up();
    host.log(5004);
    wait_arrived(5004);
    host.run(&[AGENT, "events", "-n", "3"]);
}

/// What the page on upgrades says: with the newer agent, move it back.
fn back_again(host: &Host) {
    assert!(!has_arrived(5003));
    let mains = host.pids();
    host.run(&["systemctl", "stop", "agent.service"]);
    let directory = tempfile::tempdir().unwrap();
    install(host, &next_build(directory.path()));
    // The newer agent reads it; this stand-in for it does so in its own format.
    let aside = inside(host, STATE).join("buffer.v2");
    set_format(&aside, "seg", &[3], b'1');
    set_format(&aside, "cursor", &[3, 512 + 3], b'1');
    host.shell(&format!(
        "cd {STATE} && mv buffer buffer.old && mv buffer.v2 buffer"
    ));
    host.run(&["systemctl", "start", "agent.service"]);
    host.wait_well();
    wait_arrived(5003);
    assert_eq!(host.pids(), mains);
    assert!(is(host, "batch", "stopped"));
}
