//! What keeps an agent from starting, and that it says so and leaves nothing behind.

use crate::place::{code, text};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
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

#[test]
fn what_stands_in_the_way_of_the_control_socket_is_told_and_left_alone() {
    let place = Place::new();
    place.write("");
    fs::write(place.control(), "precious").unwrap();
    let (code, said) = ended(&mut place.spawn());
    assert_eq!(code, 1);
    assert!(said.contains("a file that is not a socket"), "{said}");
    assert!(said.contains("control.sock"), "{said}");
    assert!(!said.contains("another agent"), "{said}");
    assert_eq!(fs::read_to_string(place.control()).unwrap(), "precious");
}

#[test]
fn a_state_directory_full_of_nonsense_does_not_stop_the_start() {
    let place = Place::new();
    let state = place.path("state");
    fs::create_dir_all(state.join("buffer")).unwrap();
    fs::write(state.join("supervise.json"), "{\"x\":").unwrap();
    for name in ["junk", "stdout.cursor", "00000000000000000001.log"] {
        fs::write(state.join("buffer").join(name), [0xff; 3000]).unwrap();
    }
    let agent = place.start("");
    assert_eq!(code(&place.cli(&["status"])), 0);
    assert!(
        agent.stderr().contains("supervise.json"),
        "{}",
        agent.stderr()
    );
    assert_eq!(agent.stop().code(), Some(0));
}

#[test]
fn listeners_that_cannot_be_taken_over_are_told() {
    for (announced, name, wanted) in [
        ("LISTEN_FDS=x", "metrics", "LISTEN_FDS"),
        ("LISTEN_FDS=1", "metrics", "descriptor 3 (metrics)"),
    ] {
        let place = Place::new();
        place.write("");
        let config = place.config();
        let script =
            format!("{announced} LISTEN_FDNAMES={name} LISTEN_PID=$$ exec \"$@\" 3</dev/null");
        let wrapper = ["sh", "-c", &script, "sh"];
        let arguments = ["run", "--config", config.to_str().unwrap()];
        let (code, said) = ended(&mut place.spawn_with(&wrapper, &arguments, &[]));
        assert_eq!(code, 1);
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn the_sockets_are_for_the_group_and_the_state_for_nobody_else() {
    let place = Place::new();
    let _agent = place.start("");
    for (name, wanted) in [
        ("control.sock", 0o660),
        ("forward.sock", 0o660),
        ("state", 0o700),
    ] {
        let mode = fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, wanted, "{name}: {:o}", mode & 0o777);
    }
}
