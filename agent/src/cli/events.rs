//! `agent events`: what was decided, and why.

use super::act::can_be_named;
use super::client::ask;
use super::{FAILED, NO_AGENT, complain, say};
use crate::chain::Chain;
use crate::control::protocol::{Event, Events};
use hyper::Method;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(5);
/// Between two questions while following.
const PERIOD: Duration = Duration::from_millis(500);

/// Prints the last `lines` events, and with `follow` those that come.
pub fn events(socket: &Path, name: Option<&str>, lines: u64, follow: bool, json: bool) -> ExitCode {
    if name.is_some_and(|name| !can_be_named(name)) {
        complain("agent: names have letters, digits, `_`, `.`, `-`");
        return ExitCode::from(FAILED);
    }
    let mut after = 0;
    let mut n = lines;
    loop {
        let mut route = format!("/events?after={after}&n={n}");
        if let Some(name) = name {
            route += &format!("&container={name}");
        }
        match ask(socket, Method::GET, &route, DEADLINE) {
            Ok((_, body)) => match serde_json::from_slice::<Events>(&body) {
                Ok(found) => {
                    for event in &found.events {
                        say(&line(event, json));
                        after = after.max(event.seq);
                    }
                }
                Err(_) => {
                    complain(&String::from_utf8_lossy(&body));
                    return ExitCode::from(FAILED);
                }
            },
            // While following, an agent that is being replaced is waited for.
            Err(_) if follow && after > 0 => {}
            Err(error) => {
                complain(&format!("agent: {}", Chain(&error)));
                return ExitCode::from(NO_AGENT);
            }
        }
        if !follow {
            return ExitCode::SUCCESS;
        }
        n = 1000;
        std::thread::sleep(PERIOD);
    }
}

fn line(event: &Event, json: bool) -> String {
    if json {
        return serde_json::to_string(event).unwrap_or_default();
    }
    let step = if event.from == event.to {
        event.to.clone()
    } else {
        format!("{} -> {}", event.from, event.to)
    };
    format!(
        "{}  {:<12}  {:<22}  {:<8}  {}",
        event.at, event.container, step, event.actor, event.reason
    )
}

#[cfg(test)]
mod tests {
    use super::line;
    use crate::control::protocol::Event;

    #[test]
    fn a_line_says_when_what_who_and_why() {
        let event = Event {
            seq: 1,
            at: "2026-11-21T03:04:05.678Z".into(),
            container: "vf-export".into(),
            from: "running".into(),
            to: "backoff".into(),
            reason: "exited: error 1".into(),
            actor: "agent".into(),
        };
        let shown = "2026-11-21T03:04:05.678Z  vf-export     running -> backoff      agent     exited: error 1";
        assert_eq!(line(&event, false), shown);
        assert!(line(&event, true).starts_with("{\"seq\":1,"));
    }
}
