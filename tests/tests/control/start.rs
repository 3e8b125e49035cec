//! What keeps an agent from starting, and that it says so and leaves nothing behind.

use crate::place::{code, text};
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tests::agent::{Agent, Place, binary};
use tests::program::command;

const SOON: Duration = Duration::from_secs(5);

/// The exit code and all it said.
fn ended(agent: &mut Agent<'_>) -> (i32, String) {
    let status = agent.wait_end(SOON);
    (status.code().unwrap(), agent.stderr())
}

#[test]
fn every_fault_of_a_config_is_told_with_its_place_and_run_changes_nothing() {
    let place = Place::new();
    let head = format!(
        "[agent]\nstate_dir = \"{}\"\n",
        place.path("state").display()
    );
    let faulty = head
        + "stop_timeout = 5\n\
           [metrics]\nlisten = \"nonsense\"\ncolectors = 1\n\
           [container.web]\nimage = \"web:1\"\n\
           [containers.app]\nimag = \"app:1\"\nmem_limit = \"lots\"\n\
           [logs.outputs.a]\ntype = \"kafka\"\n\
           [logs.buffer]\nmax_chunks = 1\n";
    fs::write(place.config(), faulty).unwrap();
    let file = place.config().display().to_string();
    let check = command(binary()).args(["check", &file]).output().unwrap();
    let said = text(&check);
    assert_eq!(code(&check), 1, "{said}");
    assert!(check.stdout.is_empty(), "{said}");
    for (line, column, word) in [
        (3, 16, "stop_timeout"),
        (5, 10, "nonsense"),
        (6, 1, "colectors"),
        (7, 2, "container"),
        (10, 1, "imag"),
        (11, 13, "mem_limit"),
        (13, 8, "kafka"),
        (15, 14, "max_chunks"),
    ] {
        let place = format!("{file}:{line}:{column}: ");
        let fault = said.lines().find(|line| line.starts_with(&place));
        let fault = fault.unwrap_or_else(|| panic!("nothing at {place} in\n{said}"));
        assert!(fault.contains(word), "{fault}");
    }

    let mut agent = place.spawn();
    assert_eq!(ended(&mut agent), (1, said));
    for name in ["state", "control.sock", "forward.sock"] {
        assert!(!place.path(name).exists(), "{name} was made");
    }
    assert_eq!(agent.stdout(), "");
    assert_eq!(agent.said().len(), 0);
}

#[test]
fn a_config_that_is_not_there_is_told_by_check_and_run() {
    let place = Place::new();
    let file = place.config().display().to_string();
    let check = command(binary()).args(["check", &file]).output().unwrap();
    assert_eq!(code(&check), 2);
    assert!(text(&check).contains(&file), "{}", text(&check));
    let (code, said) = ended(&mut place.spawn());
    assert_eq!(code, 1);
    assert!(said.contains(&file), "{said}");
}

#[test]
fn a_port_in_use_is_told_with_its_holder() {
    for pick in [
        (|place: &Place| place.metrics) as fn(&Place) -> _,
        |place| place.heartbeat,
        |place| place.forward,
    ] {
        let place = Place::new();
        let address = pick(&place);
        let _held = TcpListener::bind(address).unwrap();
        place.write("");
        let (code, said) = ended(&mut place.spawn());
        assert_eq!(code, 1);
        let wanted = format!("cannot listen on {address}: in use by ");
        let holder = said.split_once(&wanted).map(|(_, holder)| holder.trim());
        let holder = holder.unwrap_or_else(|| panic!("no {wanted:?} in {said}"));
        let us = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(holder, format!("{}, pid {}", us.trim(), std::process::id()));
    }
}

#[test]
fn a_second_agent_leaves_at_once_and_names_the_first() {
    let place = Place::new();
    let first = place.start("");
    let pid = format!("agent, pid {}", first.pid());
    // The very same config; the same state under another control socket; the same control
    // socket over another state.
    for (name, state, control) in [
        ("same", "state", "control.sock"),
        ("state", "state", "other.sock"),
        ("control", "other", "control.sock"),
    ] {
        let second = Place::new();
        second.write("");
        let text = fs::read_to_string(second.config()).unwrap();
        let text = text
            .replace(
                &(path(&second, "state") + "\""),
                &(path(&place, state) + "\""),
            )
            .replace(&path(&second, "control.sock"), &path(&place, control));
        fs::write(second.config(), text).unwrap();
        let started = Instant::now();
        let (code, said) = ended(&mut second.spawn());
        assert_eq!(code, 1, "{name}");
        assert!(said.contains(&pid), "{name}: {pid} is not in {said}");
        assert!(said.contains("another agent"), "{name}: {said}");
        assert!(started.elapsed() < Duration::from_secs(3), "{name}");
    }
    assert_eq!(code(&place.cli(&["status"])), 0, "the first runs on");
    assert_eq!(first.stop().code(), Some(0));
}

fn path(place: &Place, name: &str) -> String {
    place.path(name).display().to_string()
}

#[test]
fn what_kill_9_leaves_behind_does_not_stand_in_the_way() {
    let place = Place::new();
    place.start("").kill();
    assert!(place.control().exists());
    let agent = place.start("");
    assert_eq!(code(&place.cli(&["status"])), 0);
    assert_eq!(agent.stop().code(), Some(0));
}
