//! Configs that make no sense, and words that would do harm where they are shown.

use crate::place::{Stage, app, message, wait_state};
use tests::proxy::Fault;
use tests::wait;

#[test]
fn an_edit_that_makes_no_sense_keeps_the_running_set() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("sane", ""));
    let before = agent.wait_well("sane");
    stage.proxy.forget();
    for nonsense in [
        app("sane", "depends_on = [\"nobody\"]"),
        app("sane", "imagee = \"typo\""),
        "[containers.sane\n".to_owned(),
        app("sane", "depends_on = [\"other\"]") + &app("other", "depends_on = [\"sane\"]"),
    ] {
        stage.place.write(&nonsense);
        assert_eq!(
            stage.place.cli(&["reload"]).status.code(),
            Some(1),
            "{nonsense}"
        );
        let error = agent.status()["config"]["error"].clone();
        assert!(error.is_string(), "{error}");
        assert_eq!(agent.container("sane")["pid"], before["pid"]);
    }
    assert_eq!(stage.proxy.mutations(), [""; 0]);
    stage.place.write(&(app("sane", "") + &app("saner", "")));
    stage.order(&["reload"]);
    assert!(agent.status()["config"]["error"].is_null());
    agent.wait_well("saner");
    assert_eq!(agent.container("sane")["pid"], before["pid"]);
}

#[test]
fn a_missing_secret_blocks_with_its_reason_and_heals() {
    let stage = Stage::new();
    let secret = stage.place.path("secret");
    let config = app("keyed", &format!("env_file = [\"{}\"]", secret.display()));
    let agent = stage.place.start(&(config + &app("keyless", "")));
    agent.wait_well("keyless");
    wait_state(&agent, "keyed", "blocked");
    let said = message(&agent, "keyed");
    assert!(said.contains(&*secret.to_string_lossy()), "{said}");
    std::fs::write(&secret, "TOKEN=hush-hush\n").unwrap();
    stage.order(&["restart", "keyed"]);
    agent.wait_well("keyed");
    let shown = agent.status().to_string() + &agent.stderr() + &agent.stdout();
    assert!(!shown.contains("hush-hush"));
}

#[test]
fn words_of_others_are_escaped_in_status_events_and_log() {
    let stage = Stage::new();
    let hostile =
        r#"{"message":"red \u001b[31malert\u0007\nfake: {\"level\":\"info\"}\r\u202eevil"}"#;
    stage
        .proxy
        .fault("POST", "/containers/create", 2, Fault::Fail(500, hostile));
    let agent = stage.place.start(&app("hostile", ""));
    wait::until("it says why", || {
        message(&agent, "hostile").contains("alert").then_some(())
    });
    let harmful = |text: &str| {
        text.chars()
            .find(|one| matches!(one, '\u{1b}' | '\u{7}' | '\r' | '\u{202e}'))
    };
    let said = message(&agent, "hostile");
    assert!(harmful(&said).is_none() && !said.contains('\n'), "{said:?}");
    for words in [&["status"][..], &["events"], &["events", "--json"]] {
        let shown = stage.place.cli(words);
        let text = String::from_utf8(shown.stdout).unwrap();
        assert!(harmful(&text).is_none(), "{words:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("fake")), "{text}");
    }
    let log = agent.stderr() + &agent.stdout();
    assert!(log.contains("alert") && harmful(&log).is_none(), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("fake")), "{log}");
    agent.wait_well("hostile");
}

#[test]
fn names_that_no_container_can_have_are_refused_before_anyone_is_asked() {
    let stage = Stage::new();
    let agent = stage.place.start(&app("proper", ""));
    agent.wait_well("proper");
    stage.proxy.forget();
    for name in [
        "../proper",
        "proper/json",
        "a b",
        "proper?force=1",
        "\u{1b}[31m",
    ] {
        let refused = stage.place.cli(&["restart", name]);
        assert_eq!(refused.status.code(), Some(1), "{name:?}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
    stage.place.write(&app("../proper", ""));
    assert_eq!(stage.place.cli(&["reload"]).status.code(), Some(1));
    assert_eq!(stage.proxy.mutations(), [""; 0]);
}
