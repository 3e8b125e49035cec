//! A host with a Docker of its own, a registry, and the proxy before it.

use crate::proxy::Proxy;
use crate::registry::{PASSWORD, Registry, USER};
use serde_json::Value;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tests::agent::{Agent, Place};
use tests::daemon::Daemon;
use tests::program::{command, stdout};
use tests::{http, wait};

/// Daemons cost time that is measured here: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

pub struct Host {
    pub daemon: Daemon,
    pub proxy: Proxy,
    pub place: Place,
    /// Of the image in the registry.
    pub digest: String,
    _registry: Registry,
    _turn: MutexGuard<'static, ()>,
}

impl Host {
    /// The registry has `app:1` and `other:1`, the host neither.
    pub fn new() -> Host {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let daemon = Daemon::start(&["app"]);
        let registry = Registry::start();
        let proxy = Proxy::start(registry.address);
        let mut place = Place::new();
        place.docker_socket = daemon.socket();
        let login = place.path("docker");
        fs::create_dir(&login).unwrap();
        let direct = registry.address.to_string();
        fs::write(login.join("config.json"), auths(&direct)).unwrap();
        let config = login.to_string_lossy().into_owned();
        let mut digest = String::new();
        for name in ["app", "other"] {
            let image = format!("{direct}/{name}:1");
            daemon.docker(&["tag", "agent-test/app:1", &image]);
            daemon.docker(&["--config", &config, "push", "--quiet", &image]);
            let known = daemon.docker(&["inspect", "-f", "{{index .RepoDigests 0}}", &image]);
            digest = known.rsplit('@').next().unwrap().to_owned();
        }
        daemon.docker(&["image", "prune", "--all", "--force"]);
        assert_eq!(daemon.docker(&["images", "-q"]), "");
        let host = Host {
            daemon,
            proxy,
            place,
            digest,
            _registry: registry,
            _turn: turn,
        };
        host.log_in();
        host
    }

    /// As `docker login` does it.
    pub fn log_in(&self) {
        let config = auths(&self.proxy.address.to_string());
        fs::write(self.place.path("config.json"), config).unwrap();
    }

    pub fn log_out(&self) {
        fs::write(self.place.path("config.json"), "{}").unwrap();
    }

    /// The reference of an image behind the proxy: `app:1`.
    pub fn image(&self, rest: &str) -> String {
        format!("{}/{rest}", self.proxy.address)
    }

    pub fn images(&self, more: &str) -> String {
        let config = self.place.path("config.json");
        format!("[images]\ndocker_config = {config:?}\n{more}\n")
    }

    pub fn container(&self, name: &str, rest: &str, more: &str) -> String {
        let image = self.image(rest);
        format!("[containers.{name}]\nimage = \"{image}\"\nstop_grace_period = \"2s\"\n{more}\n")
    }

    /// `agent_image_pulls_total` of one result.
    pub fn pulls(&self, result: &str) -> u64 {
        let page = http::get(self.place.metrics, "/metrics", &[])
            .unwrap()
            .text();
        let start = format!("agent_image_pulls_total{{result=\"{result}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap().parse().unwrap()
    }

    /// Waits until the container's message has this in it.
    pub fn wait_message(&self, agent: &Agent<'_>, name: &str, text: &str) -> Value {
        wait::until(&format!("{name} says {text:?}"), || {
            let now = agent.container(name);
            let message = now["message"].as_str().unwrap_or_default();
            message.contains(text).then_some(now)
        })
    }

    /// The password is nowhere that anyone reads.
    pub fn assert_secret(&self, agent: &Agent<'_>) {
        let page = http::get(self.place.metrics, "/metrics", &[])
            .unwrap()
            .text();
        let coded = base64(&format!("{USER}:{PASSWORD}"));
        for text in [
            agent.stderr(),
            agent.stdout(),
            agent.status().to_string(),
            page,
        ] {
            assert!(!text.contains(PASSWORD) && !text.contains(&coded), "{text}");
        }
    }
}

fn auths(registry: &str) -> String {
    let auth = base64(&format!("{USER}:{PASSWORD}"));
    format!("{{\"auths\":{{\"{registry}\":{{\"auth\":\"{auth}\"}}}}}}")
}

/// By coreutils, so that nothing of the agent is used to check it.
fn base64(text: &str) -> String {
    let mut encode = command("sh");
    encode.args(["-c", "printf %s \"$1\" | base64 -w0", "sh", text]);
    stdout(&mut encode, "coreutils").unwrap().trim().to_owned()
}
