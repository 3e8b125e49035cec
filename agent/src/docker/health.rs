//! What Docker's own health check says of a container.

use super::Docker;
use super::error::Error;
use bollard::models::{ContainerInspectResponse, HealthStatusEnum};
use std::time::Duration;

/// Docker's default, of interval and of timeout.
const DEFAULT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub status: Status,
    pub is_paused: bool,
    /// The newest entry of Docker's log of the last five checks.
    pub newest: Option<Check>,
    /// Longest time from the end of one check to the end of the next.
    pub rhythm: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There is no health check.
    None,
    Starting,
    Healthy,
    Unhealthy,
}

/// One check as Docker logged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// By the daemon's clock, as it writes it.
    pub start: String,
    pub exit_code: i64,
    /// What it printed, cut by Docker to 4096 bytes.
    pub output: String,
}

impl Docker {
    /// The health of container `id`. Errors: [`Error::is_not_found`].
    pub async fn health(&self, id: &str) -> Result<Health, Error> {
        let client = self.client("inspect container", id).await?;
        let found = self
            .call("inspect container", id, self.short(), async {
                client.inspect_container(id, None).await
            })
            .await?;
        Ok(health(found))
    }
}

fn health(found: ContainerInspectResponse) -> Health {
    let state = found.state.unwrap_or_default();
    let health = state.health.unwrap_or_default();
    let status = match health.status {
        Some(HealthStatusEnum::STARTING) => Status::Starting,
        Some(HealthStatusEnum::HEALTHY) => Status::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Status::Unhealthy,
        Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => Status::None,
    };
    let newest = health.log.unwrap_or_default().pop();
    let config = found.config.and_then(|config| config.healthcheck);
    let config = config.unwrap_or_default();
    let span = |nanos: Option<i64>| match nanos.and_then(|nanos| u64::try_from(nanos).ok()) {
        Some(nanos) if nanos > 0 => Duration::from_nanos(nanos),
        _ => DEFAULT,
    };
    Health {
        status,
        is_paused: state.paused.unwrap_or_default(),
        newest: newest.map(|check| Check {
            start: check.start.map(|at| at.to_string()).unwrap_or_default(),
            exit_code: check.exit_code.unwrap_or_default(),
            output: check.output.unwrap_or_default(),
        }),
        rhythm: span(config.interval).saturating_add(span(config.timeout)),
    }
}
