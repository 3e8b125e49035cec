//! The disk of the state directory is full: nothing is acknowledged that is not stored, all else
//! goes on, and it heals by itself.

use crate::place::{CONFIG, Host, METRICS, Scenario};
use rmpv::Value;
use tests::forward::{Client, Mode, frame, numbered};
use tests::systemd_host::Plan;
use tests::wait;

pub const SCENARIOS: &[Scenario] = &[
    (
        "on_a_full_disk_nothing_is_acknowledged_until_it_is_stored",
        full,
    ),
    (
        "on_a_full_disk_containers_are_supervised_and_the_page_is_served",
        supervised,
    ),
    ("an_agent_starts_on_a_full_disk", started),
    ("a_disk_with_space_again_takes_logs_again", healed),
];

/// More than what is set aside for the open segment. Unit: bytes.
const LARGE: usize = 1 << 20;

pub fn boot() -> Host {
    let config = format!("{CONFIG}\n[logs.buffer]\nchunk_size = \"256KiB\"\n");
    let plan = Plan::new().tmpfs("/var/lib/agent:size=16m,mode=700");
    let host = Host::boot_with(&config, plan);
    host.load_images();
    host.wait_well();
    host
}

fn fill(host: &Host) {
    host.output(&["dd", "if=/dev/zero", "of=/var/lib/agent/fill", "bs=64k"]);
}

fn full(host: &Host) {
    fill(host);
    let socket = host.root().join("run/agent/forward.sock");
    let mut client = Client::unix(&socket);
    let mut record = numbered(4001);
    if let Value::Map(fields) = &mut record {
        fields.push(("text".into(), "x".repeat(LARGE).into()));
    }
    let bytes = frame(Mode::Message, "t", &[record], Some("large"));
    // No more than the socket takes.
    std::thread::scope(|scope| {
        scope.spawn(|| client.send(&bytes).unwrap());
    });
    let logs = wait::until("the agent says that nothing can be stored", || {
        Some(host.status()["logs"].clone()).filter(|logs| logs["accepting"] == false)
    });
    assert!(
        logs["error"].to_string().contains("No space left"),
        "{logs}"
    );
    assert!(!host.agent_journal().contains("\"id\":4001"));
    host.run(&["rm", "/var/lib/agent/fill"]);
    assert_eq!(client.ack().as_deref(), Some("large"));
    wait::until("the agent takes logs again", || {
        (host.status()["logs"]["accepting"] == true).then_some(())
    });
}

fn supervised(host: &Host) {
    fill(host);
    let (mains, agent) = (host.pids(), host.agent_pid());
    host.run(&["docker", "kill", "sensor"]);
    host.wait_others(&mains, |at| at == 0);
    let page = host.get(METRICS, "/metrics").unwrap();
    assert_eq!(page.status, 200);
    assert_eq!(host.agent_pid(), agent);
}

fn started(host: &Host) {
    let mains = host.pids();
    host.run(&["systemctl", "restart", "agent.service"]);
    host.wait_well();
    assert_eq!(host.pids(), mains);
}

fn healed(host: &Host) {
    let agent = host.agent_pid();
    host.run(&["rm", "/var/lib/agent/fill"]);
    host.log(4002);
    host.wait_journal("\"id\":4002");
    let logs = wait::until("the fault is over", || {
        Some(host.status()["logs"].clone()).filter(|logs| logs["error"].is_null())
    });
    assert_eq!(logs["accepting"], true);
    assert_eq!(host.agent_pid(), agent);
}
