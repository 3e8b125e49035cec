//! The README's first command runs through, and leaves nothing behind.

use tests::agent::binary;
use tests::daemon::Daemon;
use tests::program::{command, output, workspace};

#[test]
fn the_demo_runs_through_and_leaves_no_container() {
    let daemon = Daemon::start(&[]);
    let mut demo = command(workspace().join("packaging/demo"));
    let host = format!("unix://{}", daemon.socket().display());
    demo.arg("--check")
        .env("AGENT_BIN", binary())
        .env("DOCKER_HOST", host);
    let ran = output(&mut demo, "packaging/demo").expect("it is a program");
    let said = String::from_utf8_lossy(&ran.stdout);
    let complained = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{complained}");
    for step in [
        "heartbeat is 200",
        "one scrape",
        "one log line",
        "it is back",
        "a reload replaced the app",
    ] {
        assert!(said.contains(step), "no {step:?} in:\n{said}");
    }
    assert_eq!(daemon.docker(&["ps", "-aq"]), "");
}
