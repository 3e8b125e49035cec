//! The routes of the control socket.
//!
//! Who may connect is decided by the socket's mode and group; whoever can is
//! an operator. Status comes from memory and never waits for Docker.

use super::protocol::{Answer, Status};
use crate::http::{self, Handler, Reply, ReplyFuture, Request};
use crate::supervise::{self, CommandError, Target, jobs};
use hyper::Method;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tracing::info;

/// What only the composition root can do.
#[derive(Debug)]
pub enum Command {
    Reload(oneshot::Sender<Answer>),
}

/// Takes a snapshot of the whole agent.
pub type Snapshot = dyn Fn() -> Status + Send + Sync;

pub struct Control {
    pub snapshot: Arc<Snapshot>,
    pub supervise: supervise::Handle,
    pub jobs: jobs::Handle,
    pub commands: mpsc::Sender<Command>,
}

impl Handler for Control {
    fn handle(&self, request: Request) -> ReplyFuture {
        let route = Route::of(request.method(), request.uri().path());
        let snapshot = self.snapshot.clone();
        let supervise = self.supervise.clone();
        let jobs = self.jobs.clone();
        let commands = self.commands.clone();
        Box::pin(async move {
            match route {
                Ok(Route::Status) => json(200, &snapshot()),
                Ok(Route::Reload) => answered(reload(&commands).await),
                Ok(Route::Act(act, target)) => {
                    info!(?act, ?target, "operator command");
                    if let Target::Named(name) = &target
                        && jobs.knows(name)
                    {
                        return answered(perform_job(&jobs, act, name).await);
                    }
                    answered(perform(&supervise, act, target).await)
                }
                Err(status) => http::text(status, reason(status)),
            }
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Route {
    Status,
    Reload,
    Act(Act, Target),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Start,
    Stop,
    Restart,
}

impl Route {
    /// The route, or the HTTP status that refuses it.
    fn of(method: &Method, path: &str) -> Result<Route, u16> {
        let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (wanted, route) = match steps[..] {
            ["status"] => (Method::GET, Route::Status),
            ["reload"] => (Method::POST, Route::Reload),
            ["containers", "start"] => (Method::POST, Route::Act(Act::Start, Target::All)),
            ["containers", "stop"] => (Method::POST, Route::Act(Act::Stop, Target::All)),
            ["containers", name, verb] => {
                let act = match verb {
                    "start" => Act::Start,
                    "stop" => Act::Stop,
                    "restart" => Act::Restart,
                    _ => return Err(404),
                };
                (Method::POST, Route::Act(act, Target::Named(name.into())))
            }
            _ => return Err(404),
        };
        if *method == wanted {
            Ok(route)
        } else {
            Err(405)
        }
    }
}

async fn reload(commands: &mpsc::Sender<Command>) -> Answer {
    let (reply, answer) = oneshot::channel();
    if commands.send(Command::Reload(reply)).await.is_err() {
        return Answer::refused(vec!["the agent is stopping".into()]);
    }
    answer
        .await
        .unwrap_or_else(|_| Answer::refused(vec!["the agent is stopping".into()]))
}

/// Hands the order over. A stop is answered when it is done, as `systemctl stop`
/// is; a start and a restart when they are under way.
async fn perform(supervise: &supervise::Handle, act: Act, target: Target) -> Answer {
    let object = match &target {
        Target::All => "all containers".to_owned(),
        Target::Named(name) => name.clone(),
    };
    let result = match (act, target) {
        (Act::Start, target) => supervise.start(target).await.map(|()| "starting"),
        (Act::Stop, target) => stop(supervise, target).await,
        (Act::Restart, Target::Named(name)) => {
            supervise.restart(&name).await.map(|()| "restarting")
        }
        // No route leads here: what all containers need is a stop and a start.
        (Act::Restart, Target::All) => return Answer::refused(vec!["restart needs a name".into()]),
    };
    match result {
        Ok(done) => Answer::done(vec![format!("{object}: {done}")]),
        Err(error) => Answer::refused(vec![error.to_string()]),
    }
}

/// A start is answered when the run is decided upon, a stop when the runs have ended.
async fn perform_job(jobs: &jobs::Handle, act: Act, name: &str) -> Answer {
    let result = match act {
        Act::Start => jobs
            .start(name)
            .await
            .map(|run| format!("run {run} begins")),
        Act::Stop => jobs.stop(name).await.map(|is_over| match is_over {
            true => "no run is under way".into(),
            false => "to be stopped as soon as Docker answers".into(),
        }),
        Act::Restart => {
            let text = format!("{name} is a job: use stop and start");
            return Answer::refused(vec![text]);
        }
    };
    match result {
        Ok(done) => Answer::done(vec![format!("{name}: {done}")]),
        Err(error) => Answer::refused(vec![error.to_string()]),
    }
}

/// Says "stopped", or that it will be once Docker answers again.
async fn stop(supervise: &supervise::Handle, target: Target) -> Result<&'static str, CommandError> {
    supervise.stop(target.clone()).await?;
    let is_stopped = |status: &supervise::Status| {
        let mut concerned = status.containers.iter().filter(|one| match &target {
            Target::All => true,
            Target::Named(name) => one.name == *name,
        });
        concerned.all(|one| !one.phase.may_run())
    };
    let is_mute = |status: &supervise::Status| status.docker.reachable == Some(false);
    let settled = supervise.wait_for(|status| is_stopped(status) || is_mute(status));
    match settled.await {
        false => Err(CommandError::Gone),
        true if is_stopped(&supervise.status()) => Ok("stopped"),
        true => Ok("to be stopped as soon as Docker answers"),
    }
}

fn answered(answer: Answer) -> Reply {
    json(if answer.ok { 200 } else { 422 }, &answer)
}

fn json<T: serde::Serialize>(status: u16, body: &T) -> Reply {
    match serde_json::to_vec(body) {
        Ok(bytes) => http::reply(status, "application/json", bytes),
        Err(error) => http::text(500, &format!("cannot encode the answer: {error}")),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        405 => "method not allowed: GET for /status, POST for commands",
        _ => {
            "not found: /status, /reload, /containers/{start,stop}, /containers/NAME/{start,stop,restart}"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Act, Route};
    use crate::supervise::Target;
    use hyper::Method;

    #[test]
    fn every_command_has_a_route_and_only_by_its_method() {
        let named = |act| Ok(Route::Act(act, Target::Named("vf-export".into())));
        let cases = [
            (Method::GET, "/status", Ok(Route::Status)),
            (Method::POST, "/status", Err(405)),
            (Method::POST, "/reload", Ok(Route::Reload)),
            (Method::GET, "/reload", Err(405)),
            (
                Method::POST,
                "/containers/vf-export/restart",
                named(Act::Restart),
            ),
            (Method::POST, "/containers/vf-export/stop", named(Act::Stop)),
            (
                Method::POST,
                "/containers/vf-export/start",
                named(Act::Start),
            ),
            (
                Method::POST,
                "/containers/stop",
                Ok(Route::Act(Act::Stop, Target::All)),
            ),
            (Method::POST, "/containers/vf-export/explode", Err(404)),
            (Method::GET, "/", Err(404)),
        ];
        for (method, path, wanted) in cases {
            assert_eq!(Route::of(&method, path), wanted, "{method} {path}");
        }
    }
}
