//! Probes that go through a real daemon, of real containers: commands, Docker's own health check,
//! and ports behind Docker's proxy.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;
use tests::agent::{Agent, Place, free_port};
use tests::daemon::Daemon;
use tests::program::target_directory;
use tests::{http, wait};

struct Host {
    daemon: Daemon,
    place: Place,
    app: SocketAddr,
}

impl Host {
    fn new() -> Host {
        let daemon = Daemon::start(&["app"]);
        let mut place = Place::new();
        place.docker_socket = daemon.socket();
        Host {
            daemon,
            place,
            app: free_port(),
        }
    }

    /// One container with an init, so that orphans are reaped, and this readiness probe.
    fn config(&self, image: &str, readiness: &str) -> String {
        let port = self.app.port();
        format!(
            "[containers.app]\nimage = \"{image}\"\ninit = true\nports = [\"{port}:8080\"]\n\
             stop_grace_period = \"1s\"\n[containers.app.probes]\nreadiness = {{ {readiness} }}\n"
        )
    }

    fn start(&self, readiness: &str) -> Agent<'_> {
        let agent = self
            .place
            .start(&self.config("agent-test/app:1", readiness));
        agent.wait_well("app");
        agent
    }

    /// Another probe of the same run.
    fn reload(&self, readiness: &str) {
        self.place
            .write(&self.config("agent-test/app:1", readiness));
        let done = self.place.cli(&["reload"]);
        assert!(done.status.success(), "{done:?}");
    }

    /// All processes of the container, zombies too, as `state command line`.
    fn processes(&self) -> Vec<String> {
        let id = self.daemon.inspect("app", ".Id");
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            if read("cgroup").contains(&id) {
                let stat = read("stat");
                let state = stat.rsplit(')').next().unwrap_or_default().trim();
                let state = state.chars().next().unwrap_or('?');
                found.push(format!("{state} {}", read("cmdline").replace('\0', " ")));
            }
        }
        found
    }

    /// Only the init and the app are there.
    fn wait_clean(&self) {
        let mut seen = Vec::new();
        let clean = |seen: &[String]| seen.len() == 2 && !seen.iter().any(|p| p.contains("check"));
        wait::until_within(Duration::from_secs(20), "nothing is left behind", || {
            seen = self.processes();
            clean(&seen).then_some(())
        });
    }
}

fn exec(words: &str, rest: &str) -> String {
    format!("exec = [{words}], period = \"100ms\", {rest}")
}

const HEALTHY: &str = "exec = [\"/app\", \"check\"], period = \"100ms\", timeout = \"10s\"";

fn message(container: &Value) -> String {
    container["message"].as_str().unwrap_or_default().into()
}

fn wait_message(agent: &Agent<'_>, text: &str) -> Value {
    wait::until(&format!("the status says {text:?}"), || {
        Some(agent.container("app")).filter(|app| message(app).contains(text))
    })
}

#[test]
fn a_command_says_by_its_exit_code_and_its_last_words_whether_it_is_ready() {
    let host = Host::new();
    let agent = host.start(HEALTHY);
    http::get(host.app, "/fail", &[]).unwrap();
    let text = "readiness probe exec /app: exit code 1: heartbeat answered 503";
    assert_eq!(wait_message(&agent, text)["ready"], false);
    http::get(host.app, "/heal", &[]).unwrap();
    agent.wait_well("app");
    let cases = [
        (
            "\"/app\", \"check\", \"fail\"",
            "exec /app: exit code 1: told to \\u{1b}[31mfail",
        ),
        ("\"none\"", "executable file not found in $PATH"),
        ("\"/none\"", "no such file or directory"),
        (
            "\"/tmp\"",
            "exec /tmp: cannot be executed (126): OCI runtime",
        ),
        (
            "\"/app\", \"check\", \"garbage\"",
            "caf\u{fffd} \u{fffd}\\u{0}",
        ),
        (
            "\"/app\", \"check\", \"flood\"",
            "xx\\nthe end of the flood",
        ),
    ];
    for (words, text) in cases {
        host.reload(&exec(words, "timeout = \"30s\", failures = 1"));
        let app = wait_message(&agent, text);
        assert_eq!(app["ready"], false, "{app}");
        assert!(message(&app).len() < 4400, "{}", message(&app).len());
    }
    // two at a time would fail
    let once = "\"/app\", \"check\", \"once\"";
    host.reload(&exec(once, "timeout = \"30s\", failures = 1"));
    agent.wait_well("app");
    wait::holds_for(Duration::from_secs(3), "one at a time", || {
        agent.container("app")["ready"] == true
    });
    assert_eq!(agent.container("app")["restarts"], 0);
}

#[test]
fn commands_that_do_not_end_are_killed_with_all_that_they_began() {
    let host = Host::new();
    let agent = host.start(HEALTHY);
    for what in ["deaf", "fork", "session"] {
        let words = format!("\"/app\", \"check\", \"{what}\"");
        host.reload(&exec(&words, "timeout = \"500ms\", failures = 4"));
        let app = wait_message(&agent, "exec /app: did not end within 500ms");
        assert_eq!(app["ready"], false, "{app}");
        // at most one is alive at any time, whatever it consists of
        assert!(host.processes().len() <= 2 + 4, "{:?}", host.processes());
        host.reload(HEALTHY);
        agent.wait_well("app");
        // no more commands
        let port = host.app.port();
        host.reload(&format!("http = \":{port}/heartbeat\""));
        host.wait_clean();
    }
    // It ends well and leaves a child that holds on to its output.
    let leave = "\"/app\", \"check\", \"leave\"";
    host.reload(&exec(leave, "timeout = \"1s\""));
    agent.wait_well("app");
    assert!(!agent.stderr().contains("cannot be killed"));
}

#[test]
fn an_agent_kills_what_a_killed_one_has_left_behind() {
    let host = Host::new();
    let agent = host.start(HEALTHY);
    let deaf = "\"/app\", \"check\", \"session\"";
    host.reload(&exec(deaf, "timeout = \"1h\""));
    let began = || {
        host.processes()
            .iter()
            .filter(|p| p.contains("session"))
            .count()
            >= 2
    };
    wait::until("the command hangs", || began().then_some(()));
    agent.kill();
    assert!(began());
    host.place.write(&host.config("agent-test/app:1", HEALTHY));
    let mut agent = host.place.spawn();
    agent.wait_ready();
    wait::until("what it left is gone", || (!began()).then_some(()));
}

#[test]
fn a_paused_container_and_a_hung_docker_flip_nothing() {
    let host = Host::new();
    // Seldom: a Docker that pauses while it begins a command never unpauses.
    let agent = host.start("exec = [\"/app\", \"check\"], period = \"5s\", timeout = \"10s\"");
    // Else the agent lets it go on at once.
    assert!(host.place.cli(&["pause", "app"]).status.success());
    host.daemon.docker(&["pause", "app"]);
    let app = wait_message(&agent, "paused");
    assert_eq!(app["ready"], true, "{app}");
    wait::holds_for(Duration::from_secs(2), "ready while paused", || {
        agent.container("app")["ready"] == true
    });
    host.daemon.docker(&["unpause", "app"]);
    assert!(host.place.cli(&["resume", "app"]).status.success());
    wait::until("the doubt goes", || {
        (message(&agent.container("app")).is_empty()).then_some(())
    });
    host.daemon.freeze();
    wait::holds_for(Duration::from_secs(12), "ready while docker hangs", || {
        agent.container("app")["ready"] == true
    });
    host.daemon.thaw();
    agent.wait_well("app");
    host.reload(&exec("\"/app\", \"check\", \"fail\"", "timeout = \"30s\""));
    wait_message(&agent, "exit code 1");
    assert_eq!(agent.container("app")["restarts"], 0);
}

#[test]
fn dockers_own_health_check_counts_as_docker_says() {
    let host = Host::new();
    let healthcheck =
        "HEALTHCHECK --interval=1s --timeout=5s --retries=1 CMD [\"/app\", \"check\"]";
    let tar = target_directory().join("images/app.tar");
    let tar = tar.to_string_lossy();
    let entrypoint = "ENTRYPOINT [\"/app\"]";
    let import = [
        "import",
        "-c",
        entrypoint,
        "-c",
        healthcheck,
        &tar,
        "agent-test/native:1",
    ];
    host.daemon.docker(&import);
    let config = host.config("agent-test/native:1", "docker = true, period = \"200ms\"");
    let agent = host.place.start(&config);
    agent.wait_well("app");
    assert_eq!(
        host.daemon.inspect("app", ".State.Health.Status"),
        "healthy"
    );
    http::get(host.app, "/fail", &[]).unwrap();
    let text = "readiness probe docker: docker says unhealthy, exit code 1: heartbeat answered 503";
    assert_eq!(wait_message(&agent, text)["ready"], false);
    http::get(host.app, "/heal", &[]).unwrap();
    agent.wait_well("app");
    assert!(host.place.cli(&["pause", "app"]).status.success());
    host.daemon.docker(&["pause", "app"]);
    assert_eq!(wait_message(&agent, "paused")["ready"], true);
    host.daemon.docker(&["unpause", "app"]);
    assert!(host.place.cli(&["resume", "app"]).status.success());
    // without a HEALTHCHECK there is nothing to go by
    host.place
        .write(&host.config("agent-test/app:1", "docker = true, period = \"200ms\""));
    assert!(host.place.cli(&["reload"]).status.success());
    assert_eq!(wait_message(&agent, "no HEALTHCHECK")["ready"], false);
}

#[test]
fn a_port_behind_dockers_proxy_is_open_only_when_somebody_listens_behind_it() {
    let host = Host::new();
    let port = host.app.port();
    let tcp = format!("tcp = \":{port}\", period = \"100ms\"");
    let agent = host.start(&tcp);
    // the app now listens on another port than the published one
    let other = host.config("agent-test/app:1", &tcp);
    let other = other.replace("init = true", "init = true\ncommand = [\"8081\"]");
    host.place.write(&other);
    assert!(host.place.cli(&["reload"]).status.success());
    let text = format!("readiness probe tcp 127.0.0.1:{port}: the connection was closed at once");
    assert_eq!(wait_message(&agent, &text)["ready"], false);
}
