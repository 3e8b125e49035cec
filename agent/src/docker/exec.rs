//! Commands inside running containers: `docker exec` in its three steps.
//!
//! Docker can begin a command and tell how it ended, but not end it.

use super::Docker;
use super::error::{Cause, Error};
use bollard::container::LogOutput;
use bollard::errors::Error as Bollard;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::pin::Pin;

/// What Docker knows of a command that it was told to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Its process lives.
    pub running: bool,
    /// None until it has ended.
    pub exit_code: Option<i64>,
    /// In the pid namespace of the daemon; None before it has begun.
    pub pid: Option<i32>,
}

/// What a command prints, stdout and stderr as they come. Unread, it waits in
/// the socket; dropped, it is lost, and the command goes on.
pub struct Output {
    stream: Pin<Box<dyn Stream<Item = Result<LogOutput, Bollard>> + Send>>,
}

impl Output {
    /// The next piece; None: the command has closed both, or has ended.
    /// Errors: the connection broke. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let piece = self.stream.next().await?;
        Some(match piece {
            Ok(piece) => Ok(piece.into_bytes()),
            Err(error) => {
                let cause = Cause::of(&error);
                Err(Error::new("read the output of a command", "", cause))
            }
        })
    }
}

impl Docker {
    /// Prepares a command with more environment for container `id` and
    /// returns the command's own id. Errors: [`Error::is_conflict`] when the
    /// container does not run or is paused, [`Error::is_not_found`].
    pub async fn exec_create(
        &self,
        id: &str,
        command: &[String],
        environment: Vec<String>,
    ) -> Result<String, Error> {
        let client = self.client("prepare a command in container", id).await?;
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            env: Some(environment),
            cmd: Some(command.to_vec()),
            ..ExecConfig::default()
        };
        let made = self
            .call("prepare a command in container", id, self.short(), async {
                client.create_exec(id, config).await
            })
            .await?;
        Ok(made.id)
    }

    /// Begins a prepared command. Whether it could be begun, Docker tells in
    /// the output and by the exit code (126, 127).
    pub async fn exec_start(&self, exec: &str) -> Result<Output, Error> {
        let client = self.client("begin command", exec).await?;
        let options = StartExecOptions::default();
        let begun = self
            .call("begin command", exec, self.short(), async {
                client.start_exec(exec, Some(options)).await
            })
            .await?;
        match begun {
            StartExecResults::Attached { output, .. } => Ok(Output { stream: output }),
            StartExecResults::Detached => {
                let cause = Cause::Other("docker gives no output".into());
                Err(Error::new("begin command", exec, cause))
            }
        }
    }

    /// How a command is. Errors: [`Error::is_not_found`] when the daemon was
    /// restarted since, or the container has gone.
    pub async fn exec_inspect(&self, exec: &str) -> Result<Exec, Error> {
        let client = self.client("inspect command", exec).await?;
        let found = self
            .call("inspect command", exec, self.short(), async {
                client.inspect_exec(exec).await
            })
            .await?;
        let running = found.running.unwrap_or_default();
        Ok(Exec {
            running,
            exit_code: found.exit_code.filter(|_| !running),
            pid: found
                .pid
                .and_then(|pid| i32::try_from(pid).ok())
                .filter(|pid| *pid > 0),
        })
    }
}
