//! A command inside the container, run by Docker: exit code 0 is success.
//!
//! Each costs Docker some 40 ms of CPU. At most one of a probe is alive: what
//! does not end within the timeout is killed with all that it began, and while
//! it cannot be, no other is begun.

use super::leftovers::{LeftoverError, Mark};
use super::tally::Answer;
use super::text::Tail;
use crate::chain::Chain;
use crate::docker::{Docker, Error};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Between questions whether a command that has closed its output has ended.
const ASK_FIRST: Duration = Duration::from_millis(10);
const ASK_LAST: Duration = Duration::from_millis(500);
/// After the kill Docker hears of the end within this.
const HEAR: Duration = Duration::from_secs(1);

pub struct Exec {
    docker: Docker,
    id: String,
    mark: Mark,
    /// Processes of a command may be alive, perhaps of an earlier agent's.
    owes: Owes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Owes {
    Nothing,
    /// Nothing that this agent began.
    Unseen,
    /// This command, by Docker's id of it.
    Command(String),
    /// The same, and SIGKILL has not ended it.
    Stuck(Option<String>),
}

impl Exec {
    /// `probe`: which one; an earlier agent's command of the same probe is
    /// killed before the first one of this.
    pub fn new(docker: Docker, id: String, probe: &str) -> Exec {
        Exec {
            docker,
            mark: Mark::new(&id, probe),
            id,
            owes: Owes::Unseen,
        }
    }

    /// Runs the command once. Also returns how long the command took, without
    /// what Docker needed to prepare it.
    pub async fn ask(&mut self, command: &[String], limit: Duration) -> (Answer, Duration) {
        if self.owes != Owes::Nothing {
            self.clean_up().await;
        }
        if let Owes::Stuck(_) = self.owes {
            return (self.still_there().await, Duration::ZERO);
        }
        let variable = vec![self.mark.variable()];
        let exec = match self.docker.exec_create(&self.id, command, variable).await {
            Ok(exec) => exec,
            Err(error) => return (unknown(&error), Duration::ZERO),
        };
        self.owes = Owes::Command(exec.clone());
        let begun = Instant::now();
        let mut tail = Tail::default();
        let ended = timeout(limit, run(&self.docker, &exec, &mut tail)).await;
        let took = begun.elapsed();
        let answer = match ended {
            Ok(Ok(code)) => {
                self.owes = Owes::Nothing;
                judge(code, &tail)
            }
            Ok(Err(error)) => unknown(&error),
            Err(_) => self.late(&exec, limit, &tail).await,
        };
        (answer, took)
    }

    /// Kills what is still alive of the last command. What cannot be killed is
    /// said once, and tried again before the next command.
    pub async fn clean_up(&mut self) {
        let (exec, was_stuck) = match std::mem::replace(&mut self.owes, Owes::Nothing) {
            Owes::Nothing => return,
            Owes::Unseen => (None, false),
            Owes::Command(exec) => (Some(exec), false),
            Owes::Stuck(exec) => (exec, true),
        };
        // Nothing has to be waited for that is not waited out by the next slot.
        self.owes = Owes::Stuck(exec.clone());
        let root = match &exec {
            Some(exec) => self.pid(exec).await,
            None => None,
        };
        let ended = self.mark.end(root).await;
        let problem = match (ended, &exec) {
            (Err(error), _) => Some(error),
            // Beyond our sight, or our rights.
            (Ok(_), Some(exec)) if self.lives(exec).await => {
                Some(LeftoverError::Alive(root.into_iter().collect()))
            }
            (Ok(_), _) => None,
        };
        match problem {
            None => self.owes = Owes::Nothing,
            Some(error) if !was_stuck => {
                tracing::warn!(
                    container = self.id,
                    error = %Chain(&error),
                    "probe's command cannot be killed"
                );
            }
            Some(_) => {}
        }
    }

    /// Why there is no answer within the time: the command, or Docker?
    async fn late(&mut self, exec: &str, limit: Duration, tail: &Tail) -> Answer {
        match self.docker.exec_inspect(exec).await {
            Err(error) => unknown(&error),
            Ok(found) => match found.exit_code {
                // Something that it began holds on to its output.
                Some(code) => judge(code, tail),
                None if found.running && found.pid.is_some() => self.hangs(limit, tail).await,
                None => Answer::Unknown(format!("docker has not begun it within {limit:?}")),
            },
        }
    }

    async fn hangs(&self, limit: Duration, tail: &Tail) -> Answer {
        if self.is_paused().await {
            return Answer::Unknown("the container is paused".into());
        }
        Answer::Bad(format!("did not end within {limit:?}{}", said(tail)))
    }

    async fn still_there(&self) -> Answer {
        if self.is_paused().await {
            return Answer::Unknown("the container is paused".into());
        }
        Answer::Bad("the command of an earlier probe does not end, even when killed".into())
    }

    async fn is_paused(&self) -> bool {
        let health = self.docker.health(&self.id).await;
        health.is_ok_and(|health| health.is_paused)
    }

    async fn pid(&self, exec: &str) -> Option<i32> {
        let found = self.docker.exec_inspect(exec).await.ok()?;
        found.pid.filter(|_| found.running)
    }

    async fn lives(&self, exec: &str) -> bool {
        let heard = timeout(HEAR, ended(&self.docker, exec)).await;
        heard.is_err() && self.pid(exec).await.is_some()
    }
}

impl Drop for Exec {
    /// The container is stopped, the probe has changed, or the agent stops:
    /// nobody will wait for a command that is on its way.
    fn drop(&mut self) {
        if matches!(self.owes, Owes::Command(_) | Owes::Stuck(_)) {
            self.mark.strike();
        }
    }
}

/// Runs it to its end and returns its exit code.
async fn run(docker: &Docker, exec: &str, tail: &mut Tail) -> Result<i64, Error> {
    let mut output = docker.exec_start(exec).await?;
    // A broken connection is what the next question tells of.
    while let Some(Ok(piece)) = output.next().await {
        tail.push(&piece);
    }
    ended(docker, exec).await
}

/// Waits until it has ended, which may be later than the end of its output.
async fn ended(docker: &Docker, exec: &str) -> Result<i64, Error> {
    let mut pause = ASK_FIRST;
    loop {
        if let Some(code) = docker.exec_inspect(exec).await?.exit_code {
            return Ok(code);
        }
        sleep(pause).await;
        pause = (pause * 2).min(ASK_LAST);
    }
}

fn judge(code: i64, tail: &Tail) -> Answer {
    match code {
        0 => Answer::Good,
        126 => Answer::Bad(format!("cannot be executed (126){}", said(tail))),
        127 => Answer::Bad(format!("not found in the container (127){}", said(tail))),
        code => Answer::Bad(format!("exit code {code}{}", said(tail))),
    }
}

fn said(tail: &Tail) -> String {
    match tail.text() {
        text if text.is_empty() => text,
        text => format!(": {text}"),
    }
}

/// Away, hung, or unwilling: nothing that the container did.
fn unknown(error: &Error) -> Answer {
    Answer::Unknown(Chain(error).to_string())
}
