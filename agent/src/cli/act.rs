//! Commands that change something: reload, drain, start, stop, restart, pause, resume.

use super::client::ask;
use super::{FAILED, NO_AGENT, complain, say};
use crate::chain::Chain;
use crate::control::protocol::Answer;
use hyper::Method;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// A stop waits for the grace period of each container in turn.
const DEADLINE: Duration = Duration::from_secs(900);

/// The command of that verb for one container. What cannot be a container's
/// name has no route, and need not be asked for.
pub fn one(socket: &Path, name: &str, verb: &str) -> ExitCode {
    if !can_be_named(name) {
        complain(&format!(
            "agent: no container can be named {name:?}: names have letters, digits, `_`, `.`, `-`"
        ));
        return ExitCode::from(FAILED);
    }
    act(socket, &format!("/containers/{name}/{verb}"))
}

/// Posts to `route` and prints what was done.
pub fn act(socket: &Path, route: &str) -> ExitCode {
    let (success, body) = match ask(socket, Method::POST, route, DEADLINE) {
        Ok(answer) => answer,
        Err(error) => {
            complain(&format!("agent: {}", Chain(&error)));
            return ExitCode::from(NO_AGENT);
        }
    };
    let lines = match serde_json::from_slice::<Answer>(&body) {
        Ok(answer) => answer.lines.join("\n"),
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    if success {
        say(&lines);
        ExitCode::SUCCESS
    } else {
        complain(&lines);
        ExitCode::from(FAILED)
    }
}

/// What no container can be called has no route either.
pub fn can_be_named(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}
