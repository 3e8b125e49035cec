//! The routes of the control socket.
//!
//! Who may connect is decided by the socket's mode and group; whoever can is
//! an operator. Status comes from memory and never waits for Docker.

use super::protocol::{Answer, Event, Events, Status};
use crate::http::{self, Handler, Reply, ReplyFuture, Request};
use crate::supervise::{self, CommandError, Haste, Target, jobs};
use hyper::Method;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::info;

/// How many events are told where nobody says how many.
const EVENTS: u64 = 50;

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
        let uri = request.uri();
        let route = Route::of(
            request.method(),
            uri.path(),
            uri.query().unwrap_or_default(),
        );
        let snapshot = self.snapshot.clone();
        let supervise = self.supervise.clone();
        let jobs = self.jobs.clone();
        let commands = self.commands.clone();
        Box::pin(async move {
            match route {
                Ok(Route::Status) => json(200, &snapshot()),
                Ok(Route::Events(asked)) => json(200, &events(&supervise, &asked)),
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
    Events(Asked),
    Reload,
    Act(Act, Target),
}

/// Which events are asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    after: u64,
    n: usize,
    container: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Start,
    Stop(Haste),
    Restart,
    Pause(Option<Duration>),
    Resume,
}

impl Route {
    /// The route, or the HTTP status that refuses it.
    fn of(method: &Method, path: &str, query: &str) -> Result<Route, u16> {
        let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
        let query = Query(query);
        let (wanted, route) = match steps[..] {
            ["status"] => (Method::GET, Route::Status),
            ["events"] => (Method::GET, Route::Events(query.events()?)),
            ["reload"] => (Method::POST, Route::Reload),
            ["drain"] => {
                let haste = Haste {
                    now: false,
                    within: query.seconds("within")?,
                };
                (Method::POST, Route::Act(Act::Stop(haste), Target::All))
            }
            // What all containers need is a stop and a start.
            ["containers", "restart"] => return Err(404),
            ["containers", verb] => (Method::POST, Route::Act(query.act(verb)?, Target::All)),
            ["containers", name, verb] => {
                let target = Target::Named(name.into());
                (Method::POST, Route::Act(query.act(verb)?, target))
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

/// What stands behind the question mark. Names and values need no escapes.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == key).then_some(value)
        })
    }

    fn number(&self, key: &str) -> Result<Option<u64>, u16> {
        match self.get(key) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| 400),
        }
    }

    fn seconds(&self, key: &str) -> Result<Option<Duration>, u16> {
        Ok(self.number(key)?.map(Duration::from_secs))
    }

    fn act(&self, verb: &str) -> Result<Act, u16> {
        Ok(match verb {
            "start" => Act::Start,
            "stop" => Act::Stop(Haste {
                now: self.get("now").is_some(),
                within: self.seconds("within")?,
            }),
            "restart" => Act::Restart,
            "pause" => Act::Pause(self.seconds("for")?),
            "resume" => Act::Resume,
            _ => return Err(404),
        })
    }

    fn events(&self) -> Result<Asked, u16> {
        let n = self.number("n")?.unwrap_or(EVENTS);
        Ok(Asked {
            after: self.number("after")?.unwrap_or(0),
            n: usize::try_from(n).unwrap_or(usize::MAX),
            container: self.get("container").map(str::to_owned),
        })
    }
}

fn events(supervise: &supervise::Handle, asked: &Asked) -> Events {
    let found = supervise.events(asked.after, asked.n, asked.container.as_deref());
    let events = found.into_iter().map(|event| Event {
        seq: event.seq,
        at: time(event.at),
        container: event.container,
        from: event.from,
        to: event.to,
        reason: event.reason,
        actor: event.actor,
    });
    Events {
        events: events.collect(),
    }
}

/// RFC 3339 with milliseconds, UTC.
fn time(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    format!("{time:.3}")
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
        (Act::Stop(haste), target) => stop(supervise, target, haste).await,
        (Act::Pause(time), target) => supervise.pause(target, time).await.map(|()| match time {
            Some(_) => "left alone for that time",
            None => "left alone until agent resume",
        }),
        (Act::Resume, target) => supervise.resume(target).await.map(|()| "supervised again"),
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
        Act::Stop(_) => jobs.stop(name).await.map(|is_over| match is_over {
            true => "no run is under way".into(),
            false => "to be stopped as soon as Docker answers".into(),
        }),
        Act::Restart | Act::Pause(_) | Act::Resume => {
            let text = format!("{name} is a job: it can be started and stopped");
            return Answer::refused(vec![text]);
        }
    };
    match result {
        Ok(done) => Answer::done(vec![format!("{name}: {done}")]),
        Err(error) => Answer::refused(vec![error.to_string()]),
    }
}

/// Says "stopped", or that it will be once Docker answers again.
async fn stop(
    supervise: &supervise::Handle,
    target: Target,
    haste: Haste,
) -> Result<&'static str, CommandError> {
    supervise.stop(target.clone(), haste).await?;
    let is_meant = |one: &&supervise::ContainerStatus| match &target {
        Target::All => true,
        Target::Named(name) => one.name == *name,
    };
    let is_stopped = |status: &supervise::Status| {
        let mut concerned = status.containers.iter().filter(is_meant);
        concerned.all(|one| !one.phase.may_run())
    };
    let is_overruled = |status: &supervise::Status| {
        let mut concerned = status.containers.iter().filter(is_meant);
        concerned.any(|one| !one.unwanted)
    };
    let is_mute = |status: &supervise::Status| status.docker.reachable == Some(false);
    let is_over =
        |status: &supervise::Status| is_stopped(status) || is_mute(status) || is_overruled(status);
    if !supervise.wait_for(is_over).await {
        return Err(CommandError::Gone);
    }
    let status = supervise.status();
    if is_overruled(&status) {
        return Err(CommandError::Overruled);
    }
    Ok(match is_stopped(&status) {
        true => "stopped",
        false => "to be stopped as soon as Docker answers",
    })
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
        400 => "bad request: numbers of seconds, events and sequence are whole numbers",
        405 => "method not allowed: GET for /status, POST for commands",
        _ => {
            "not found: /status, /events, /reload, /drain, /containers/{start,stop,pause,resume}, /containers/NAME/{start,stop,restart,pause,resume}"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Act, Asked, Route};
    use crate::supervise::{Haste, Target};
    use hyper::Method;
    use std::time::Duration;

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
            (
                Method::POST,
                "/containers/vf-export/stop",
                named(Act::Stop(Haste::default())),
            ),
            (
                Method::POST,
                "/containers/vf-export/stop?now",
                named(Act::Stop(Haste {
                    now: true,
                    within: None,
                })),
            ),
            (
                Method::POST,
                "/containers/vf-export/pause?for=600",
                named(Act::Pause(Some(Duration::from_secs(600)))),
            ),
            (
                Method::POST,
                "/containers/resume",
                Ok(Route::Act(Act::Resume, Target::All)),
            ),
            (Method::POST, "/containers/a/pause?for=soon", Err(400)),
            (
                Method::GET,
                "/events?after=7&container=a",
                Ok(Route::Events(Asked {
                    after: 7,
                    n: 50,
                    container: Some("a".into()),
                })),
            ),
            (
                Method::POST,
                "/containers/vf-export/start",
                named(Act::Start),
            ),
            (
                Method::POST,
                "/containers/stop",
                Ok(Route::Act(Act::Stop(Haste::default()), Target::All)),
            ),
            (Method::POST, "/containers/vf-export/explode", Err(404)),
            (Method::GET, "/", Err(404)),
        ];
        for (method, path, wanted) in cases {
            let (bare, query) = path.split_once('?').unwrap_or((path, ""));
            assert_eq!(Route::of(&method, bare, query), wanted, "{method} {path}");
        }
    }
}
