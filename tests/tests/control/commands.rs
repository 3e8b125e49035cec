//! The command line by itself: help, wrong words, no agent.

use crate::place::{code, text};
use tests::agent::{Place, binary};
use tests::program::command;

const COMMANDS: [&str; 8] = [
    "run", "check", "ignition", "status", "reload", "restart", "start", "stop",
];

#[test]
fn help_of_every_command_tells_its_exit_codes() {
    for name in COMMANDS {
        let help = command(binary()).args([name, "--help"]).output().unwrap();
        let said = text(&help);
        assert_eq!(code(&help), 0, "{said}");
        assert!(said.contains(&format!("Usage: agent {name}")), "{said}");
        assert!(said.contains("Exit: 0 "), "{said}");
        assert!(help.stderr.is_empty(), "{said}");
    }
    let help = command(binary()).arg("--help").output().unwrap();
    for name in COMMANDS {
        assert!(text(&help).contains(&format!("\n  {name} ")), "{name}");
    }
    let version = command(binary()).arg("--version").output().unwrap();
    assert!(text(&version).starts_with("agent "));
}

#[test]
fn a_wrong_word_exits_2_and_the_right_one_is_suggested() {
    for (words, suggestion) in [
        (&["statsu"][..], "'status'"),
        (&["status", "--jsn"], "'--json'"),
        (&["run", "--confg", "x"], "'--config'"),
        (&["restart"], "<NAME>"),
        (&["stop"], "<NAME|--all>"),
    ] {
        let run = command(binary()).args(words).output().unwrap();
        assert_eq!(code(&run), 2, "{words:?}");
        assert!(text(&run).contains(suggestion), "{words:?}: {}", text(&run));
        assert!(run.stdout.is_empty());
    }
}

#[test]
fn without_an_agent_every_command_exits_2_and_says_where_it_asked() {
    let place = Place::new();
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["reload"],
        &["restart", "web"],
        &["stop", "--all"],
        &["start", "web"],
    ] {
        let run = place.cli(words);
        let said = text(&run);
        assert_eq!(code(&run), 2, "{words:?}: {said}");
        assert!(said.contains("no agent answers on"), "{said}");
        assert!(said.contains("control.sock"), "{said}");
    }
}

#[test]
fn a_name_that_is_no_container_is_refused_by_a_running_agent() {
    let place = Place::new();
    let _agent = place.start("");
    for name in ["web", "not here", "a/b", "", "?", "stop", "%2f"] {
        for words in [
            ["restart", name],
            ["stop", name],
            ["start", name],
            ["status", name],
        ] {
            let run = place.cli(&words);
            let said = text(&run);
            assert_eq!(code(&run), 1, "{words:?}: {said}");
            assert!(said.contains(name), "{words:?}: {said}");
            assert!(said.contains("no container"), "{words:?}: {said}");
        }
    }
}
