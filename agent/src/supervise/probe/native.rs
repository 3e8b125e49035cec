//! What Docker itself says of the HEALTHCHECK of the image or the container.
//!
//! Docker counts for itself (`retries`), so each look is one answer. Docker's
//! own probing can hang: a log that stops advancing makes its word Unknown.

use super::tally::Answer;
use super::text::escaped;
use crate::chain::Chain;
use crate::docker::Docker;
use crate::docker::health::{Health, Status};
use std::time::Duration;
use tokio::time::Instant;

/// On top of two rounds of Docker's own, so that a slow one is no alarm.
const SLACK: Duration = Duration::from_secs(10);

pub struct Native {
    docker: Docker,
    id: String,
    /// The start of the newest check in Docker's log, and since when it is the newest.
    newest: (Option<String>, Instant),
}

impl Native {
    pub fn new(docker: Docker, id: String) -> Native {
        Native {
            docker,
            id,
            newest: (None, Instant::now()),
        }
    }

    pub async fn ask(&mut self) -> Answer {
        let health = match self.docker.health(&self.id).await {
            Ok(health) => health,
            Err(error) => return Answer::Unknown(Chain(&error).to_string()),
        };
        let start = health.newest.as_ref().map(|check| check.start.clone());
        if start != self.newest.0 {
            self.newest = (start, Instant::now());
        }
        judge(&health, self.newest.1.elapsed())
    }
}

/// `unchanged`: for how long Docker's log has had the same newest check.
fn judge(health: &Health, unchanged: Duration) -> Answer {
    if health.is_paused {
        return Answer::Unknown("the container is paused".into());
    }
    if health.status == Status::None {
        return Answer::Unknown("it has no HEALTHCHECK, neither by its image nor its own".into());
    }
    if unchanged > health.rhythm * 2 + SLACK {
        let seconds = unchanged.as_secs();
        // In steps, so that a text that is looked at again has not changed for nothing.
        let seconds = seconds - seconds % 60;
        return Answer::Unknown(format!("docker has not probed it for {seconds} s"));
    }
    match health.status {
        Status::Healthy => Answer::Good,
        Status::Unhealthy => {
            let newest = health.newest.as_ref();
            let why = newest.map_or_else(String::new, |check| {
                let output = escaped(check.output.as_bytes());
                let colon = if output.is_empty() { "" } else { ": " };
                format!(", exit code {}{colon}{output}", check.exit_code)
            });
            Answer::Bad(format!("docker says unhealthy{why}"))
        }
        // Docker bounds this by itself.
        Status::Starting | Status::None => Answer::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::docker::health::{Check, Health, Status};
    use crate::supervise::probe::tally::Answer;
    use std::time::Duration;

    fn health(status: Status) -> Health {
        Health {
            status,
            is_paused: false,
            newest: Some(Check {
                start: "2024-05-06T07:08:09Z".into(),
                exit_code: 1,
                output: "no \u{1b}[31mroom\n".into(),
            }),
            rhythm: Duration::from_secs(60),
        }
    }

    #[test]
    fn dockers_word_is_taken_unless_its_own_probing_stands_still() {
        let seconds = Duration::from_secs;
        assert_eq!(judge(&health(Status::Healthy), seconds(0)), Answer::Good);
        assert_eq!(
            judge(&health(Status::Unhealthy), seconds(129)),
            Answer::Bad("docker says unhealthy, exit code 1: no \\u{1b}[31mroom".into())
        );
        for status in [Status::Healthy, Status::Unhealthy, Status::Starting] {
            assert_eq!(
                judge(&health(status), seconds(150)),
                Answer::Unknown("docker has not probed it for 120 s".into())
            );
        }
        assert_eq!(
            judge(&health(Status::Starting), seconds(0)),
            Answer::Pending
        );
        assert!(matches!(
            judge(&health(Status::None), seconds(0)),
            Answer::Unknown(text) if text.contains("HEALTHCHECK")
        ));
    }

    #[test]
    fn a_paused_container_is_neither_well_nor_ill() {
        let mut paused = health(Status::Unhealthy);
        paused.is_paused = true;
        let unknown = Answer::Unknown("the container is paused".into());
        assert_eq!(judge(&paused, Duration::ZERO), unknown);
    }
}
