//! Another's container that has the name of ours: left alone, supervised as it
//! is, or moved out of the way, as the config says.

use super::Container as Wanted;
use super::act::{LaunchError, gone};
use super::settings::Takeover;
use super::state::Failure;
use crate::docker::container::Container;
use crate::docker::{Docker, Error};
use crate::host::units::{Unit, Units};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// Between looks at whether a container that has to go has gone.
const EVICTION_LOOK: Duration = Duration::from_millis(200);

/// Another's container has the name: what the config says of it is done.
pub(super) async fn take(
    docker: &Docker,
    wanted: &Wanted,
    holder: Container,
) -> Result<(), LaunchError> {
    let id = holder.id.get(..12).unwrap_or(&holder.id).to_owned();
    let unit = legacy(&wanted.name).await;
    let unit = unit.as_ref();
    let by_whom = unit.map_or(String::new(), |unit| match unit.active {
        true => format!("; unit {0} runs it: systemctl disable --now {0}", unit.name),
        false => format!("; unit {0} starts it: systemctl disable {0}", unit.name),
    });
    let refused = |text| LaunchError {
        failure: Failure::Foreign,
        text,
        holder: None,
    };
    match wanted.takeover {
        // Two that supervise one container would fight over it.
        Takeover::Adopt | Takeover::Replace if unit.is_some_and(|unit| unit.active) => {
            Err(refused(format!(
                "container {id} has the name {} and is not taken over yet{by_whom}",
                wanted.name
            )))
        }
        Takeover::Refuse => Err(refused(format!(
            "container {id} has the name {} and is not the agent's: remove or rename it, or set takeover{by_whom}",
            wanted.name
        ))),
        Takeover::Adopt if holder.running => Err(LaunchError {
            failure: Failure::Foreign,
            text: format!("container {id} is not the agent's and is taken over as it is"),
            holder: Some(Box::new(holder)),
        }),
        Takeover::Adopt | Takeover::Replace => {
            evict(docker, &holder, wanted.stop_grace_period)
                .await
                .map_err(|error| LaunchError::of(&error))?;
            let aside = format!("{}.before-agent-{id}", wanted.name);
            docker
                .rename(&holder.id, &aside)
                .await
                .map_err(|error| LaunchError::of(&error))?;
            tracing::warn!(
                container = wanted.name,
                id,
                aside,
                "a container that the agent did not make had the name and was moved aside"
            );
            Ok(())
        }
    }
}

/// The unit of former days that starts a container of that name.
async fn legacy(name: &str) -> Option<Unit> {
    let name = name.to_owned();
    let found = spawn_blocking(move || Units::default().of_container(&name));
    found.await.ok().flatten()
}

/// Stops another's container with its own signal and our grace.
async fn evict(docker: &Docker, holder: &Container, grace: Duration) -> Result<(), Error> {
    if !holder.running {
        return Ok(());
    }
    let word = holder.stop_signal.as_deref().unwrap_or("SIGTERM");
    gone(docker.kill(&holder.id, word).await)?;
    let until = Instant::now() + grace;
    let mut killed = false;
    while docker.inspect(&holder.id).await?.running {
        if !killed && Instant::now() >= until {
            killed = true;
            gone(docker.kill(&holder.id, "SIGKILL").await)?;
        }
        sleep(EVICTION_LOOK).await;
    }
    Ok(())
}
