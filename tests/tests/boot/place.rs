//! A host that was provisioned by Ignition, and what its scenarios ask of it.

use crate::provision;
use serde_json::Value;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tests::forward::{Client, Mode, frame, numbered};
use tests::program::{command, stdout, target_directory, workspace};
use tests::systemd_host::{Plan, SystemdHost};
use tests::{http, wait};

/// Two containers as the fleet has them: a web service that logs to the agent, and the sensor. The
/// images are on the machine's disk, as after a pull.
pub const CONFIG: &str = r#"
[node]
region = "eu-west-1"
product = "titan"
environment = "test"
instance_id = "i-0boot"
private_ip = "127.0.0.1"

[cloud]
imds = false

[heartbeat]
listen = ["0.0.0.0:8081"]

[containers.app]
image = "agent-test/app:1"
environment = { GREETING = "hello" }
network_mode = "host"
pull_policy = "never"
stop_grace_period = "5s"
logging = { tag = "campaigns" }
[containers.app.probes]
readiness = { http = ":8080/heartbeat", period = "1s", timeout = "1s", failures = 2 }

[containers.sensor]
image = "agent-test/falcon:1"
privileged = true
network_mode = "host"
pid = "host"
essential = false
pull_policy = "never"
stop_grace_period = "1s"

[logs.outputs.here]
type = "stdout"
"#;

pub const CONTAINERS: [&str; 2] = ["app", "sensor"];
pub const METRICS: u16 = 9100;
pub const HEARTBEAT: u16 = 8081;

pub struct Host {
    host: SystemdHost,
}

impl Deref for Host {
    type Target = SystemdHost;

    fn deref(&self) -> &SystemdHost {
        &self.host
    }
}

/// One promise that a booted host keeps.
pub type Scenario = (&'static str, fn(&Host));

/// Plays them in order on one host; the name of the one that fails is the last that is printed.
pub fn play(host: &Host, scenarios: &[Scenario]) {
    for (name, act) in scenarios {
        let began = Instant::now();
        eprintln!("{name} …");
        act(host);
        eprintln!("{name}: {:.1} s", began.elapsed().as_secs_f64());
    }
}

impl Host {
    pub fn boot(agent_toml: &str) -> Host {
        Host::boot_with(agent_toml, Plan::new())
    }

    pub fn boot_with(agent_toml: &str, plan: Plan) -> Host {
        let mut make = command(workspace().join("tests/images/make"));
        stdout(make.args(["app", "falcon"]), "see above").unwrap();
        let images = target_directory().join("images");
        let root = provision::root(agent_toml);
        let host = plan
            .provisioned()
            .bind(&format!("{}:/images:ro", images.display()))
            .overlay(root.path())
            .boot();
        Host { host }
    }

    /// Puts the images where a pull would have put them. Starts Docker, if nobody has.
    pub fn load_images(&self) {
        for (image, program) in [("app", "app"), ("falcon", "falcon")] {
            let entrypoint = format!("ENTRYPOINT [\"/{program}\"]");
            let tar = format!("/images/{program}.tar");
            let name = format!("agent-test/{image}:1");
            self.run(&["docker", "import", "--change", &entrypoint, &tar, &name]);
        }
    }

    /// A host on which all is well.
    pub fn boot_well(agent_toml: &str) -> Host {
        let host = Host::boot(agent_toml);
        host.load_images();
        host.wait_well();
        host
    }

    pub fn control(&self) -> PathBuf {
        self.root().join("run/agent/control.sock")
    }

    /// `GET /status`. None: no agent answers.
    pub fn try_status(&self) -> Option<Value> {
        let reply = http::request_unix(&self.control(), "GET", "/status").ok()?;
        serde_json::from_slice(&reply.body).ok()
    }

    pub fn status(&self) -> Value {
        wait::until("the agent answers", || self.try_status())
    }

    /// Waits until the agent says that all containers are well.
    #[track_caller]
    pub fn wait_well(&self) -> Value {
        wait::until("all containers are well", || {
            self.try_status().filter(all_well)
        })
    }

    /// Main processes of the containers, as Docker has them.
    #[track_caller]
    pub fn pids(&self) -> Vec<String> {
        self.try_pids().unwrap()
    }

    /// As [`Host::pids`]. Errors: Docker is away.
    fn try_pids(&self) -> anyhow::Result<Vec<String>> {
        let mut inspect = vec!["docker", "inspect", "-f", "{{.Id}} {{.State.Pid}}"];
        inspect.extend(CONTAINERS);
        let shown = self.try_run(&inspect)?;
        Ok(shown.lines().map(str::to_owned).collect())
    }

    /// Waits until all is well and those of these containers that are not to stay are others.
    #[track_caller]
    pub fn wait_others(&self, before: &[String], stays: impl Fn(usize) -> bool) {
        wait::until("the containers are others, and well", || {
            self.try_status().filter(all_well)?;
            let now = self.try_pids().ok()?;
            let is_as_wanted = |(at, main): (usize, &String)| match stays(at) {
                true => *main == before[at],
                false => *main != before[at] && !main.ends_with(" 0"),
            };
            now.iter().enumerate().all(is_as_wanted).then_some(())
        });
    }

    pub fn agent_pid(&self) -> String {
        self.property("agent", "MainPID")
    }

    /// Waits until another process than that one is the agent, and says READY.
    pub fn wait_other_agent(&self, pid: &str) {
        wait::until("another agent is active", || {
            let now = self.agent_pid();
            let is_new = now != pid && now != "0";
            (is_new && self.property("agent", "ActiveState") == "active").then_some(())
        });
    }

    pub fn get(&self, port: u16, path: &str) -> anyhow::Result<http::Reply> {
        http::get(SocketAddr::new(self.address(), port), path, &[])
    }

    /// One record over the socket that Docker's log driver uses; acknowledged when this returns.
    pub fn log(&self, id: u64) {
        let socket = self.root().join("run/agent/forward.sock");
        let mut client = Client::unix(&socket);
        let bytes = frame(Mode::Message, "t", &[numbered(id)], Some("c"));
        client.send(&bytes).unwrap();
        assert_eq!(client.ack().as_deref(), Some("c"));
    }

    /// The agent's whole journal: its own words, and the records that it prints.
    pub fn agent_journal(&self) -> String {
        self.run(&["journalctl", "--no-pager", "-o", "cat", "-u", "agent"])
    }

    #[track_caller]
    pub fn wait_journal(&self, text: &str) {
        wait::until(&format!("the journal says {text:?}"), || {
            self.agent_journal().contains(text).then_some(())
        });
    }

    /// Whether that holds of every look for a while: the containers are who they were.
    #[track_caller]
    pub fn assert_same(&self, before: &[String], span: Duration) {
        wait::holds_for(span, "the containers are the same", || {
            self.pids() == before
        });
    }
}

/// Whether each of [`CONTAINERS`] runs and is well.
pub fn all_well(status: &Value) -> bool {
    let all = status["containers"].as_array();
    let is_well = |one: &Value| one["well"] == true && one["state"] == "running";
    CONTAINERS.iter().all(|name| {
        all.is_some_and(|all| all.iter().any(|one| one["name"] == *name && is_well(one)))
    })
}
