//! Containers whose environment and secrets stand in files: missing, changed, hostile.

use crate::place::{Host, text, wait_message};
use std::fs;
use std::time::Duration;
use tests::wait;

#[test]
fn a_container_follows_its_files_and_waits_for_missing_ones() {
    let host = Host::new();
    let secret = host.place.path("token");
    let env = host.place.path("app.env");
    fs::write(&env, "MODE=one\n").unwrap();
    let config = format!(
        "[containers.app]\nimage = 'agent-test/app:1'\npull_policy = 'never'\nstop_grace_period = '1s'\n\
         env_file = '{}'\nsecrets = {{ TOKEN = {{ file = '{}' }} }}\n\
         [containers.other]\nimage = 'agent-test/app:1'\npull_policy = 'never'\nstop_grace_period = '1s'\n",
        env.display(),
        secret.display()
    );
    let agent = host.place.start(&config);
    // blocked with the reason, and nobody else is
    let message = wait_message(&agent, "app", "blocked", "secret TOKEN");
    assert!(message.contains(&*secret.to_string_lossy()), "{message}");
    assert!(message.contains("No such file"), "{message}");
    agent.wait_well("other");
    assert!(host.daemon.try_docker(&["inspect", "app"]).is_err());

    // hostile ones are told by name, never by content
    fs::write(&secret, b"hunter2\xff").unwrap();
    host.place.cli(&["restart", "app"]);
    wait_message(&agent, "app", "blocked", "is not UTF-8");

    // it starts once the file is right
    fs::write(&secret, "hunter2\n").unwrap();
    host.place.cli(&["restart", "app"]);
    agent.wait_well("app");
    assert_eq!(host.variable("app", "TOKEN").as_deref(), Some("hunter2"));
    assert_eq!(host.variable("app", "MODE").as_deref(), Some("one"));
    let first = host.id("app");

    // a reload without a change, and another agent, leave it alone
    assert!(host.place.cli(&["reload"]).status.success());
    wait::holds_for(Duration::from_secs(2), "the container stays", || {
        host.id("app") == first
    });
    agent.kill();
    let agent = host.place.start(&config);
    agent.wait_well("app");
    wait::holds_for(Duration::from_secs(2), "the container stays", || {
        host.id("app") == first
    });

    // another content makes another container, of this one alone
    let other = host.id("other");
    fs::write(&env, "# comment\nMODE=two\n").unwrap();
    assert!(host.place.cli(&["reload"]).status.success());
    wait::until("the container is replaced", || {
        let replaced = host.daemon.try_docker(&["inspect", "-f", "{{.Id}}", "app"]);
        replaced.ok().filter(|id| *id != first)
    });
    agent.wait_well("app");
    assert_eq!(host.variable("app", "MODE").as_deref(), Some("two"));
    assert_eq!(host.id("other"), other);

    // one that runs is not stopped for a file that has gone
    let second = host.id("app");
    fs::remove_file(&secret).unwrap();
    assert!(host.place.cli(&["reload"]).status.success());
    host.place.write(&config.replace(
        "[containers.other]",
        "labels = { new = 'yes' }\n[containers.other]",
    ));
    assert!(host.place.cli(&["reload"]).status.success());
    wait_message(&agent, "app", "running", "secret TOKEN");
    wait::holds_for(Duration::from_secs(2), "the container stays", || {
        host.id("app") == second
    });

    // the value is nobody's but Docker's
    let labels = host.inspected("app")["Config"]["Labels"].to_string();
    let shown = [
        agent.stderr(),
        agent.stdout(),
        agent.status().to_string(),
        labels,
    ];
    assert!(shown.iter().all(|text| !text.contains("hunter2")));
}

#[test]
fn check_shows_where_secrets_are_and_masks_what_looks_like_one() {
    let place = tests::agent::Place::new();
    let secret = place.path("token");
    fs::write(&secret, "hunter2\n").unwrap();
    place.write(&format!(
        "[containers.app]\nimage = 'app'\nsecrets = {{ TOKEN = {{ file = '{}' }} }}\n\
         environment = {{ DB_PASSWORD = 'hunter3', URL = 'mongodb://u:hunter4@db/x', MODE = 'plain' }}\n",
        secret.display()
    ));
    let config = place.config();
    let check = ["check", "--effective", &config.to_string_lossy()];
    let shown = place.cli(&check);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown));
    let shown = text(&shown);
    assert!(!shown.contains("hunter"), "{shown}");
    for part in [
        "DB_PASSWORD = \"***\"",
        "URL = \"***\"",
        "MODE = \"plain\"",
        "token",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // the mask is never taken for a value
    fs::write(&config, shown).unwrap();
    let again = place.cli(&check);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again).contains("is the mask of agent check"),
        "{}",
        text(&again)
    );
}
