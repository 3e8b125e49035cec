//! Real containers on a real daemon, supervised by the real binary.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tests::agent::{Place, free_port};
use tests::daemon::Daemon;
use tests::{http, wait};

/// Daemons and containers cost time that is measured here: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The export-service host: app, sensor, cAdvisor.
struct Host {
    daemon: Daemon,
    place: Place,
    app: SocketAddr,
    cadvisor: SocketAddr,
}

impl Host {
    fn new(images: &[&str]) -> Host {
        let daemon = Daemon::start(images);
        let mut place = Place::new();
        place.docker_socket = daemon.socket();
        Host {
            daemon,
            place,
            app: free_port(),
            // Where dashboards and scrapers of today's hosts look for it.
            cadvisor: ([127, 0, 0, 1], 4914).into(),
        }
    }

    fn app_config(&self, extra: &str) -> String {
        let port = self.app.port();
        format!(
            "[containers.app]\nimage = \"agent-test/app:1\"\nports = [\"{port}:8080\"]\n\
             stop_grace_period = \"5s\"\n{extra}\n[containers.app.probes]\n\
             readiness = {{ http = \":{port}/heartbeat\", period = \"300ms\", timeout = \"2s\", failures = 2 }}\n"
        )
    }

    fn falcon_config(&self, privileged: bool) -> String {
        format!(
            "[containers.falcon]\nimage = \"agent-test/falcon:1\"\nprivileged = {privileged}\n\
             network_mode = \"host\"\npid = \"host\"\nipc = \"host\"\nstop_grace_period = \"5s\"\n"
        )
    }

    fn cadvisor_config(&self) -> String {
        let port = self.cadvisor.port();
        format!(
            "[containers.cadvisor]\nimage = \"agent-test/cadvisor:1\"\nports = [\"{port}:8080\"]\n\
             volumes = [\"/:/rootfs:ro\", \"/var/run:/var/run:ro\", \"/sys:/sys:ro\"]\n\
             stop_grace_period = \"5s\"\n"
        )
    }

    /// id and start of every container: equal before and after means untouched.
    fn picture(&self) -> BTreeMap<String, String> {
        let format = "{{.Name}}={{.Id}} {{.State.Pid}} {{.State.StartedAt}}";
        // One that is removed between the two calls fails the second.
        let all = wait::until("all that is listed can be inspected", || {
            let ids = self.daemon.docker(&["ps", "-aq", "--no-trunc"]);
            let mut inspect = vec!["inspect", "-f", format];
            inspect.extend(ids.lines());
            self.daemon.try_docker(&inspect).ok()
        });
        let pairs = all.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(name, rest)| (name.trim_start_matches('/').into(), rest.into()))
            .collect()
    }
}

#[test]
fn three_containers_come_up_and_outlive_the_agent_untouched() {
    let _turn = turn();
    let host = Host::new(&["app", "falcon", "cadvisor"]);
    let config = host.app_config("depends_on = { falcon = \"started\" }")
        + &host.falcon_config(false)
        + &host.cadvisor_config();
    let agent = host.place.start(&config);
    for name in ["app", "falcon", "cadvisor"] {
        agent.wait_well(name);
    }
    // ours, by label, with the hash of what was asked for
    for name in ["app", "falcon", "cadvisor"] {
        let labels = host.daemon.inspect(name, "json .Config.Labels");
        let labels: BTreeMap<String, String> = serde_json::from_str(&labels).unwrap();
        assert_eq!(labels["agent.managed-by"], "agent");
        assert_eq!(labels["agent.container"], name);
        assert!(labels["agent.spec"].len() > 16, "{labels:?}");
    }
    // the app serves, the sensor sees the host, cAdvisor measures containers
    assert_eq!(http::get(host.app, "/heartbeat", &[]).unwrap().status, 200);
    let seen = wait::until("the sensor speaks", || {
        let logs = host.daemon.docker(&["logs", "falcon"]);
        serde_json::from_str::<serde_json::Value>(logs.lines().next()?).ok()
    });
    assert!(
        seen["pid"].as_u64().unwrap() > 10,
        "not the host's pids: {seen}"
    );
    assert!(
        seen["interfaces"].as_u64().unwrap() >= 2,
        "not the host's network: {seen}"
    );
    let id = host.daemon.inspect("app", ".Id");
    wait::until("cAdvisor tells of the app's container", || {
        let page = http::get(host.cadvisor, "/metrics", &[]).ok()?.text();
        let families = page.contains("container_cpu_usage_seconds_total");
        (families && page.contains(&id)).then_some(())
    });
    let status = host.place.cli(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    wait::until("the heartbeat is well", || {
        let reply = http::get(host.place.heartbeat, "/heartbeat", &[]).unwrap();
        (reply.status == 200).then_some(())
    });

    // kill -9 of the agent, then a new one: same processes, nothing recreated or restarted
    let before = host.picture();
    agent.kill();
    let since = host.daemon.docker(&["info", "-f", "{{.SystemTime}}"]);
    let agent = host.place.start(&config);
    for name in ["app", "falcon", "cadvisor"] {
        agent.wait_well(name);
    }
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(host.picture(), before);
    let until = host.daemon.docker(&["info", "-f", "{{.SystemTime}}"]);
    let events = host.daemon.docker(&[
        "events",
        "--since",
        &since,
        "--until",
        &until,
        "--filter",
        "type=container",
        "--format",
        "{{.Action}}",
    ]);
    assert_eq!(events, "", "the new agent changed something");

    // SIGTERM: the agent ends, containers stay
    assert!(agent.stop().success());
    assert_eq!(host.picture(), before);
}

#[test]
fn a_killed_main_process_comes_back_and_counts_as_a_restart() {
    let _turn = turn();
    let host = Host::new(&["app"]);
    let agent = host.place.start(&host.app_config(""));
    let before = agent.wait_well("app");
    host.daemon.kill_main("app");
    let after = wait::until("app runs with another pid", || {
        let now = agent.container("app");
        (now["well"] == true && now["pid"] != before["pid"]).then_some(now)
    });
    assert_eq!(
        after["restarts"].as_u64(),
        before["restarts"].as_u64().map(|n| n + 1)
    );
    assert_eq!(after["last_exit"]["code"], 137);
    let page = http::get(host.place.metrics, "/metrics", &[])
        .unwrap()
        .text();
    let counted = page.lines().any(|line| {
        line.starts_with("agent_container_restarts_total{")
            && line.contains("container=\"app\"")
            && line.ends_with(" 1")
    });
    assert!(counted, "no restart counted:\n{}", own_families(&page));

    // it leaves by itself with an error
    let _ = http::get(host.app, "/exit?code=3", &[]);
    wait::until("the exit code is known and the app is back", || {
        let now = agent.container("app");
        (now["last_exit"]["code"] == 3 && now["well"] == true).then_some(())
    });
}

fn own_families(page: &str) -> String {
    let lines: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("agent_"))
        .collect();
    lines.join("\n")
}

#[test]
fn readiness_follows_the_probe_and_the_heartbeat_follows_readiness() {
    let _turn = turn();
    let host = Host::new(&["app"]);
    let agent = host.place.start(&host.app_config(""));
    let before = agent.wait_well("app");
    http::get(host.app, "/fail", &[]).unwrap();
    wait::until("app is not ready", || {
        (agent.container("app")["ready"] == false).then_some(())
    });
    let reply = http::get(host.place.heartbeat, "/heartbeat", &[]).unwrap();
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("app"), "{}", reply.text());
    assert_eq!(
        http::get(host.place.heartbeat, "/livez", &[])
            .unwrap()
            .status,
        200
    );
    assert_eq!(
        http::get(host.place.heartbeat, "/readyz", &[])
            .unwrap()
            .status,
        200
    );
    assert_eq!(host.place.cli(&["status"]).status.code(), Some(1));
    http::get(host.app, "/heal", &[]).unwrap();
    let after = agent.wait_well("app");
    assert_eq!(
        after["pid"], before["pid"],
        "a readiness probe restarts nothing"
    );
    let reply = http::get(host.place.heartbeat, "/heartbeat", &[]).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn a_reload_replaces_only_what_changed() {
    let _turn = turn();
    let host = Host::new(&["app", "falcon"]);
    let agent = host
        .place
        .start(&(host.app_config("") + &host.falcon_config(false)));
    agent.wait_well("app");
    agent.wait_well("falcon");
    let before = host.picture();

    // another environment for the app: only it is replaced
    let changed = host.app_config("environment = { MODE = \"two\" }") + &host.falcon_config(false);
    host.place.write(&changed);
    let reload = host.place.cli(&["reload"]);
    assert_eq!(reload.status.code(), Some(0), "{reload:?}");
    wait::until("the app has its new environment", || {
        let environment = host
            .daemon
            .try_docker(&["inspect", "-f", "{{.Config.Env}}", "app"])
            .ok()?;
        environment.contains("MODE=two").then_some(())
    });
    agent.wait_well("app");
    let after = host.picture();
    assert_ne!(after["app"], before["app"]);
    assert_eq!(after["falcon"], before["falcon"]);

    // only a probe changed: no container is touched
    host.place
        .write(&changed.replace("failures = 2", "failures = 4"));
    assert_eq!(host.place.cli(&["reload"]).status.code(), Some(0));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(host.picture(), after);

    // by signal: the sensor is not wanted any more
    host.place
        .write(&host.app_config("environment = { MODE = \"two\" }"));
    agent.signal(Signal::HUP);
    wait::until("falcon is gone", || {
        (!host.picture().contains_key("falcon")).then_some(())
    });
    assert_eq!(host.picture()["app"], after["app"]);
    drop(agent);
}

#[test]
fn stop_goes_in_reverse_order_and_lasts_until_start() {
    let _turn = turn();
    let host = Host::new(&["app", "falcon"]);
    let config =
        host.app_config("depends_on = { falcon = \"started\" }") + &host.falcon_config(false);
    let agent = host.place.start(&config);
    agent.wait_well("app");
    agent.wait_well("falcon");
    let stop = host.place.cli(&["stop", "--all"]);
    assert_eq!(stop.status.code(), Some(0), "{stop:?}");
    for name in ["app", "falcon"] {
        wait::until("it is stopped", || {
            (agent.container(name)["state"] == "stopped").then_some(())
        });
    }
    let ended = |name: &str| host.daemon.inspect(name, ".State.FinishedAt");
    assert!(
        ended("app") <= ended("falcon"),
        "app depends on falcon: {} {}",
        ended("app"),
        ended("falcon")
    );
    wait::holds_for(
        Duration::from_secs(2),
        "a stopped container stays stopped",
        || agent.container("app")["state"] == "stopped",
    );
    assert_eq!(host.place.cli(&["start", "--all"]).status.code(), Some(0));
    let before = agent.wait_well("app");
    agent.wait_well("falcon");
    assert_eq!(host.place.cli(&["restart", "app"]).status.code(), Some(0));
    wait::until("app has been restarted", || {
        let now = agent.container("app");
        (now["well"] == true && now["pid"] != before["pid"]).then_some(())
    });
    let unknown = host.place.cli(&["restart", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

#[test]
fn the_rest_goes_on_while_docker_hangs_or_restarts() {
    let _turn = turn();
    let mut host = Host::new(&["app"]);
    let agent = host.place.start(&host.app_config(""));
    agent.wait_well("app");

    host.daemon.freeze();
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    host.place.cli(&["status"]);
    let status_took = began.elapsed();
    let metrics = http::get(host.place.metrics, "/metrics", &[]).unwrap();
    let heartbeat = http::get(host.place.heartbeat, "/livez", &[]).unwrap();
    wait::until("status says that Docker does not answer", || {
        (agent.status()["docker"]["reachable"] == false).then_some(())
    });
    host.daemon.thaw();
    assert!(
        status_took < Duration::from_secs(1),
        "status took {status_took:?}"
    );
    assert_eq!(metrics.status, 200);
    assert_eq!(heartbeat.status, 200);
    wait::until("Docker answers again", || {
        (agent.status()["docker"]["reachable"] == true).then_some(())
    });
    agent.wait_well("app");

    // without live-restore a daemon's death takes its containers along
    host.daemon.crash_and_restart();
    wait::until("the app is back under the new daemon", || {
        let running = host
            .daemon
            .try_docker(&["inspect", "-f", "{{.State.Running}}", "app"])
            .ok()?;
        let answers = http::get(host.app, "/heartbeat", &[]).is_ok_and(|reply| reply.status == 200);
        (running == "true" && answers && agent.container("app")["well"] == true).then_some(())
    });
}

#[test]
fn docker_absent_at_start_is_waited_for() {
    let _turn = turn();
    let host = Host::new(&["app"]);
    let mut place = Place::new();
    place.docker_socket = place.path("late.sock");
    let agent = place.start(&host.app_config(""));
    wait::until("status says so", || {
        (agent.status()["docker"]["reachable"] == false).then_some(())
    });
    assert_eq!(place.cli(&["status"]).status.code(), Some(1));
    assert_eq!(
        http::get(place.metrics, "/metrics", &[]).unwrap().status,
        200
    );
    assert_eq!(
        http::get(place.heartbeat, "/livez", &[]).unwrap().status,
        200
    );
    std::os::unix::fs::symlink(host.daemon.socket(), &place.docker_socket).unwrap();
    agent.wait_well("app");
}

#[test]
fn a_broken_container_backs_off_and_says_why_while_the_others_run() {
    let _turn = turn();
    let host = Host::new(&["app"]);
    let config = host.app_config("")
        + "[containers.missing]\nimage = \"agent-test/never-made:1\"\npull_policy = \"never\"\n\
           [containers.crasher]\nimage = \"agent-test/app:1\"\ncommand = [\"99999999\", \"x\"]\n\
           entrypoint = [\"/no-such-program\"]\n";
    let agent = host.place.start(&config);
    agent.wait_well("app");
    for name in ["missing", "crasher"] {
        wait::until("it backs off with a reason", || {
            let now = agent.container(name);
            let reason = now["message"].as_str().is_some_and(|text| !text.is_empty());
            (now["state"] == "backoff" && reason && now["retry_at"].is_string()).then_some(())
        });
    }
    let table = host.place.cli(&["status"]);
    assert_eq!(table.status.code(), Some(1));
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("never-made"), "{table}");
}

/// The sensor with all rights. Where this machine's daemon may not give them, the agent says what
/// Docker said and tries ever more rarely; tests/tests/privileged.rs runs it where they can be given.
#[test]
fn a_privileged_sensor_runs_or_its_refusal_is_shown() {
    let _turn = turn();
    let host = Host::new(&["falcon"]);
    let probe = [
        "run",
        "-d",
        "--name",
        "probe",
        "--privileged",
        "agent-test/falcon:1",
    ];
    let can = host.daemon.try_docker(&probe);
    let _ = host.daemon.try_docker(&["rm", "-f", "probe"]);
    let agent = host.place.start(&host.falcon_config(true));
    match can {
        Ok(_) => {
            agent.wait_well("falcon");
            assert_eq!(
                host.daemon.inspect("falcon", ".HostConfig.Privileged"),
                "true"
            );
        }
        Err(_) => {
            let refused = wait::until("falcon backs off", || {
                Some(agent.container("falcon")).filter(|now| now["state"] == "backoff")
            });
            let message = refused["message"].as_str().unwrap();
            assert!(message.contains("not permitted"), "{message}");
        }
    }
}
