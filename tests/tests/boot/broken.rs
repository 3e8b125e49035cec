//! A config that cannot be read, a program that cannot be run: said plainly, harmless to what runs,
//! and over as soon as it is repaired.

use crate::place::{self, Host, METRICS, Scenario};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tests::systemd_host::AGENT;
use tests::wait;

/// A key that nobody knows.
pub const CONFIG: &str = "[containers.app]\nimage = \"agent-test/app:1\"\nimagee = \"x\"\n";

pub const SCENARIOS: &[Scenario] = &[
    ("a_faulty_config_at_boot_is_named_in_the_journal", named),
    (
        "an_agent_that_cannot_start_is_tried_again_and_does_not_spin",
        does_not_spin,
    ),
    (
        "the_listeners_of_an_agent_that_cannot_start_refuse_nobody",
        listeners,
    ),
    ("a_repaired_config_is_taken_without_a_hand", repaired),
    (
        "a_program_that_cannot_be_run_harms_no_container",
        bad_program,
    ),
];

fn named(host: &Host) {
    host.wait_journal("imagee");
    let said = host.agent_journal();
    for part in ["/etc/agent/agent.toml:3", "containers.app.imagee", "image"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_ne!(host.property("agent", "ActiveState"), "active");
    assert_eq!(host.property("agent", "ExecMainStatus"), "1");
}

fn does_not_spin(host: &Host) {
    let restarts = || -> u64 { host.property("agent", "NRestarts").parse().unwrap() };
    let (before, began) = (restarts(), Instant::now());
    // As often as it likes, but no oftener than once a second.
    wait::until("it is tried three times more", || {
        (restarts() >= before + 3).then_some(())
    });
    let (tried, took) = (restarts() - before, began.elapsed());
    assert!(tried <= took.as_secs() + 2, "{tried} times in {took:?}");
}

fn listeners(host: &Host) {
    let address = SocketAddr::new(host.address(), METRICS);
    for _ in 0..20 {
        TcpStream::connect(address).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn repaired(host: &Host) {
    host.write("/etc/agent/agent.toml", place::CONFIG);
    host.wait_state("agent.service", "active");
    host.load_images();
    host.wait_well();
}

fn bad_program(host: &Host) {
    let mains = host.pids();
    let kept = format!("{AGENT}.kept");
    let script =
        format!("mv {AGENT} {kept}; head -c 4096 /dev/urandom >{AGENT}; chmod 755 {AGENT}");
    // The one that runs keeps its own file.
    host.shell(&script);
    host.wait_well();
    host.output(&["systemctl", "restart", "agent.service"]);
    wait::until("systemd says what is wrong", || {
        host.journal(Some("agent"))
            .contains("status=203/EXEC")
            .then_some(())
    });
    host.assert_same(&mains, Duration::from_secs(2));
    listeners(host);
    host.run(&["mv", &kept, AGENT]);
    host.wait_state("agent.service", "active");
    host.wait_well();
    assert_eq!(host.pids(), mains);
}
