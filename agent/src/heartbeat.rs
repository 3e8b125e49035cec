//! The heartbeat: is this host fit to serve?
//!
//! `/heartbeat` is 200 when every essential container is ready, the log path
//! accepts records and the agent's loops turn, else 503; `/readyz` leaves the
//! containers out, `/livez` looks at the loops alone. A host that shuts down is fit for nothing from
//! the first moment. The answer is made from
//! what the rooms last published: no socket, no Docker, well under 1 ms.

use crate::http::{self, Handler, ReplyFuture, Request};
use crate::logs;
use crate::machine;
use crate::pulse::Pulse;
use crate::supervise;
use serde::Serialize;
use std::collections::BTreeMap;

/// Reads the rooms and answers.
pub struct Heartbeat {
    pub supervise: supervise::Handle,
    pub machine: machine::Handle,
    pub logs: logs::Handle,
    pub pulse: Pulse,
}

/// What was found, and why: the body of every answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub ok: bool,
    /// Part → `ok` or the reason why not. Parts: `agent`, `logs`, `host`,
    /// `container NAME`.
    pub parts: BTreeMap<String, String>,
}

impl Verdict {
    /// The reasons alone, one line each.
    pub fn reasons(&self) -> Vec<String> {
        self.parts
            .iter()
            .filter(|(_, word)| *word != OK)
            .map(|(part, word)| format!("{part}: {word}"))
            .collect()
    }
}

const OK: &str = "ok";

impl Heartbeat {
    /// The verdict of now over everything.
    pub fn verdict(&self) -> Verdict {
        let mut parts = loops(&self.pulse.silent());
        parts.extend(log_path(&self.logs.status()));
        parts.extend(host(&self.machine.status()));
        parts.extend(containers(&self.supervise.status()));
        judge(parts)
    }
}

impl Handler for Heartbeat {
    fn handle(&self, request: Request) -> ReplyFuture {
        let verdict = match request.uri().path() {
            "/heartbeat" => self.verdict(),
            "/readyz" => {
                let mut parts = loops(&self.pulse.silent());
                parts.extend(log_path(&self.logs.status()));
                parts.extend(host(&self.machine.status()));
                judge(parts)
            }
            "/livez" => judge(loops(&self.pulse.silent())),
            _ => {
                let reply = http::text(404, "not found: /heartbeat, /livez, /readyz");
                return Box::pin(std::future::ready(reply));
            }
        };
        let status = if verdict.ok { 200 } else { 503 };
        let body = serde_json::to_vec(&verdict).unwrap_or_default();
        let reply = http::reply(status, "application/json", body);
        Box::pin(std::future::ready(reply))
    }
}

fn judge(parts: BTreeMap<String, String>) -> Verdict {
    Verdict {
        ok: parts.values().all(|word| word == OK),
        parts,
    }
}

fn loops(silent: &[String]) -> BTreeMap<String, String> {
    let word = if silent.is_empty() {
        OK.into()
    } else {
        format!("no sign of life from {}", silent.join(", "))
    };
    BTreeMap::from([("agent".into(), word)])
}

fn log_path(status: &logs::Status) -> BTreeMap<String, String> {
    let word = match (&status.error, status.accepting) {
        (_, true) => OK.into(),
        (Some(error), false) => error.clone(),
        (None, false) => "the buffer accepts no records".into(),
    };
    BTreeMap::from([("logs".into(), word)])
}

fn host(status: &machine::Status) -> BTreeMap<String, String> {
    let word = match status.leaving {
        false => OK,
        true => "draining: it shuts down",
    };
    BTreeMap::from([("host".into(), word.into())])
}

fn containers(status: &supervise::Status) -> BTreeMap<String, String> {
    let essential = status.containers.iter().filter(|one| one.essential);
    essential
        .map(|one| {
            let word = if one.is_well() {
                OK.into()
            } else {
                let state = match one.phase {
                    supervise::Phase::Running => "not ready",
                    phase => phase.word(),
                };
                match &one.message {
                    Some(message) => format!("{state}: {message}"),
                    None => state.into(),
                }
            };
            (format!("container {}", one.name), word)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{containers, host, judge, log_path, loops};
    use crate::logs;
    use crate::machine;
    use crate::supervise::{ContainerStatus, DockerStatus, Phase, Status};

    fn container(
        name: &str,
        phase: Phase,
        ready: Option<bool>,
        essential: bool,
    ) -> ContainerStatus {
        ContainerStatus {
            name: name.into(),
            image: "app:1".into(),
            essential,
            phase,
            ready,
            message: (phase == Phase::Backoff).then(|| "exit 1".into()),
            ..ContainerStatus::default()
        }
    }

    fn status(containers: Vec<ContainerStatus>) -> Status {
        Status {
            docker: DockerStatus::default(),
            containers,
            ..Status::default()
        }
    }

    #[test]
    fn only_essential_containers_decide() {
        let found = judge(containers(&status(vec![
            container("app", Phase::Running, Some(true), true),
            container("cadvisor", Phase::Backoff, None, false),
        ])));
        assert!(found.ok, "{found:?}");
    }

    #[test]
    fn an_essential_container_that_is_not_ready_is_named_with_its_reason() {
        let found = judge(containers(&status(vec![
            container("app", Phase::Running, Some(false), true),
            container("falcon", Phase::Backoff, None, true),
            container("job", Phase::Completed, None, true),
        ])));
        assert!(!found.ok);
        assert_eq!(
            found.reasons(),
            [
                "container app: not ready",
                "container falcon: backoff: exit 1"
            ]
        );
    }

    #[test]
    fn a_host_that_shuts_down_drains_while_its_containers_are_still_well() {
        let mut parts = containers(&status(vec![container(
            "app",
            Phase::Running,
            Some(true),
            true,
        )]));
        parts.extend(host(&machine::Status {
            leaving: true,
            ..machine::Status::default()
        }));
        assert_eq!(judge(parts).reasons(), ["host: draining: it shuts down"]);
        assert!(judge(host(&machine::Status::default())).ok);
    }

    #[test]
    fn a_log_path_that_refuses_and_a_silent_loop_are_reasons() {
        let logs = logs::Status {
            accepting: false,
            error: Some("cannot write segment 3: disk full".into()),
            ..logs::Status::default()
        };
        let mut parts = log_path(&logs);
        parts.extend(loops(&["log writer".into()]));
        assert_eq!(
            judge(parts).reasons(),
            [
                "agent: no sign of life from log writer",
                "logs: cannot write segment 3: disk full"
            ]
        );
    }
}
