//! The agent as a citizen of a host with systemd: its unit, logind, update_engine, Docker's units.

// A helper of a test may fail like the test.
#![allow(clippy::unwrap_used)]

mod bus;
mod docker;
mod unit;

use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tests::program::{command, stdout, target_directory, workspace};
use tests::systemd_host::{AGENT, Plan, SystemdHost};
use tests::{http, wait};

const RIGHTS: &str = "/opt/bin/rights";
const ENGINE: &str = "/opt/bin/update_engine";
/// Flatcar's, shortened: root owns the name and calls the methods.
const ENGINE_POLICY: &str = "\
<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN\"
 \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">
<busconfig><policy user=\"root\"><allow own=\"com.coreos.update1\"/>
<allow send_destination=\"com.coreos.update1\"/></policy></busconfig>
";
const CONFIG: &str = "\
[cloud]
imds = false
[heartbeat]
listen = [\"0.0.0.0:8081\"]
";
/// Drained for longer than logind waits by default.
const CONTAINERS: &str = "\
[containers.base]
image = \"agent-test/app:1\"
pull_policy = \"never\"
[containers.app]
image = \"agent-test/app:1\"
pull_policy = \"never\"
ports = [\"8080:8080\"]
depends_on = { base = \"started\" }
[containers.app.probes]
readiness = { http = \":8080/heartbeat\", period = \"1s\", timeout = \"1s\" }
[containers.app.drain]
deregister_wait = \"7s\"
";

/// A host with the agent's units in place, as packages put them, and not started.
fn plan() -> Plan {
    let mut plan = Plan::new()
        .bind(&format!("{}:{RIGHTS}:ro", env!("CARGO_BIN_EXE_rights")))
        .bind(&format!(
            "{}:{ENGINE}:ro",
            env!("CARGO_BIN_EXE_update_engine")
        ))
        .bind(&format!(
            "{}:/images:ro",
            target_directory().join("images").display()
        ))
        .file(
            "/etc/dbus-1/system.d/com.coreos.update1.conf",
            ENGINE_POLICY,
        )
        .file("/etc/sysusers.d/agent.conf", unit("agent.sysusers.conf"));
    for name in ["agent.service", "agent.socket", "agent-metrics.socket"] {
        plan = plan.file(&format!("/etc/systemd/system/{name}"), unit(name));
    }
    for name in drop_ins() {
        plan = plan.file(&format!("/etc/systemd/system/{name}"), unit(&name));
    }
    let logind = "logind.conf.d/10-agent.conf";
    plan.file(&format!("/etc/systemd/{logind}"), unit(logind))
}

fn unit(name: &str) -> String {
    fs::read_to_string(workspace().join("systemd").join(name)).unwrap()
}

fn drop_ins() -> Vec<String> {
    let folder = "agent.service.d";
    let entries = fs::read_dir(workspace().join("systemd").join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| format!("{folder}/{name}")).collect()
}

struct Machine {
    host: SystemdHost,
    booted: Instant,
}

impl Machine {
    /// Boots, and starts the agent with that config.
    fn start(config: &str) -> Machine {
        Machine::boot(plan(), config)
    }

    fn boot(plan: Plan, config: &str) -> Machine {
        make_image();
        let host = plan.file("/etc/agent/agent.toml", config).boot();
        host.shell("systemd-sysusers; docker import -c 'ENTRYPOINT [\"/app\"]' /images/app.tar agent-test/app:1");
        let machine = Machine {
            host,
            booted: Instant::now(),
        };
        let units = "agent.socket agent-metrics.socket agent.service";
        machine
            .host
            .shell(&format!("systemctl enable --now {units}"));
        machine
    }

    fn address(&self, port: u16) -> SocketAddr {
        let form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let mut inspect = command("docker");
        inspect.args(["inspect", "-f", form, self.host.name()]);
        let ip = stdout(&mut inspect, "docker").unwrap();
        SocketAddr::new(ip.trim().parse().unwrap(), port)
    }

    fn status(&self) -> Option<Value> {
        let output = self.host.output(&[AGENT, "status", "--json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until the status document is so, and returns it.
    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let patience = Duration::from_secs(90);
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until_within(patience, what, || {
                last = self.status()?;
                holds(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|_| panic!("{what}: {last:#}"))
    }

    fn page(&self) -> String {
        http::get(self.address(9100), "/metrics", &[])
            .unwrap()
            .text()
    }

    fn has_line(&self, line: &str) -> bool {
        self.page().lines().any(|one| one == line)
    }

    /// The audit log, oldest first: container, from, to, reason.
    fn events(&self) -> Vec<[String; 4]> {
        let text = self.host.run(&["cat", "/var/lib/agent/events.jsonl"]);
        let parsed = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let word = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        parsed
            .map(|event| ["container", "from", "to", "reason"].map(|key| word(&event, key)))
            .collect()
    }
}

fn make_image() {
    let mut make = command(workspace().join("tests/images/make"));
    stdout(make.arg("app"), "see above").unwrap();
}

fn all_well(status: &Value) -> bool {
    let containers = status["containers"].as_array().unwrap();
    status["healthy"] == true && containers.iter().all(|one| one["well"] == true)
}
