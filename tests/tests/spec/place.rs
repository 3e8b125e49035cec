//! A daemon and a place of its own for each test, one test at a time.

use serde_json::Value;
use std::process::Output;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tests::agent::{Agent, Place};
use tests::daemon::Daemon;
use tests::wait;

static TURN: Mutex<()> = Mutex::new(());

pub struct Host {
    pub daemon: Daemon,
    pub place: Place,
    _turn: MutexGuard<'static, ()>,
}

impl Host {
    pub fn new() -> Host {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let daemon = Daemon::start(&["app"]);
        let mut place = Place::new();
        place.docker_socket = daemon.socket();
        Host {
            daemon,
            place,
            _turn: turn,
        }
    }

    /// All that Docker says of a container.
    pub fn inspected(&self, name: &str) -> Value {
        let text = self.daemon.docker(&["inspect", name]);
        serde_json::from_str::<Value>(&text).unwrap()[0].clone()
    }

    /// What a variable is set to; None where it is not.
    pub fn variable(&self, name: &str, variable: &str) -> Option<String> {
        let inspected = self.inspected(name);
        let all = inspected["Config"]["Env"].as_array().cloned();
        let prefix = format!("{variable}=");
        all.unwrap_or_default()
            .iter()
            .find_map(|one| one.as_str()?.strip_prefix(&prefix).map(str::to_owned))
    }

    pub fn id(&self, name: &str) -> String {
        self.daemon.inspect(name, ".Id")
    }
}

/// Waits until status says of a container that it is blocked, or waits, with this in its message.
pub fn wait_message(agent: &Agent<'_>, name: &str, state: &str, part: &str) -> String {
    wait::until(&format!("{name} is {state}: {part}"), || {
        let one = agent.container(name);
        let message = one["message"].as_str().unwrap_or_default().to_owned();
        (one["state"] == state && message.contains(part)).then_some(message)
    })
}

pub fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}
