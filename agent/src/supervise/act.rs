//! What is done to Docker for one container, one action each.
//!
//! Identity is label plus id. The name only has to be free: whatever of ours
//! holds it is moved aside to `<name>.prev`, whatever is not ours is left alone.

use super::body::{self, Body, BodyError, LABEL_CONTAINER, LABEL_MANAGED_BY, LABEL_SPEC, MANAGER};
use super::spec::hash;
use super::state::{Failure, Signal};
use super::{Container as Wanted, PullPolicy};
use crate::chain::Chain;
use crate::docker::container::{Container, Summary};
use crate::docker::image::Progress;
use crate::docker::{Docker, Error};
use std::sync::Arc;
use tokio::sync::watch;

/// What a look found: the container that holds the name, and how many dead
/// ones of earlier runs lie beside it.
#[derive(Debug)]
pub struct Found {
    pub current: Option<Container>,
    pub others: usize,
    /// The hash that is wanted, by what its files hold now.
    pub hash: String,
}

/// A launch that did not end in a running container.
#[derive(Debug)]
pub struct LaunchError {
    pub failure: Failure,
    pub text: String,
}

/// All that a launch needs; owned, so that it can outlive the moment.
pub struct Launch {
    pub docker: Docker,
    pub container: Arc<Wanted>,
    pub log_address: Option<String>,
    /// Our own, dead container that holds the name.
    pub held: Option<String>,
    /// `<name>.prev` is known to be taken.
    pub prev_taken: bool,
}

/// The labels by which a container is ours.
pub fn ours() -> Vec<String> {
    vec![format!("{LABEL_MANAGED_BY}={MANAGER}")]
}

fn ours_named(name: &str) -> Vec<String> {
    let mut labels = ours();
    labels.push(format!("{LABEL_CONTAINER}={name}"));
    labels
}

/// Looks for the container that stands for `wanted`, and at its files.
pub async fn look(
    docker: Docker,
    wanted: Arc<Wanted>,
    log_address: Option<String>,
) -> Result<Found, Error> {
    let name = wanted.name.clone();
    let hash = body::hash_now(wanted, log_address.as_deref()).await;
    let all = docker.list(&ours_named(&name)).await?;
    let Some(best) = best(&all, &name) else {
        return Ok(Found {
            current: None,
            others: all.len(),
            hash,
        });
    };
    let others = all.len() - 1;
    match docker.inspect(&best.id).await {
        Ok(container) => Ok(Found {
            current: Some(container),
            others,
            hash,
        }),
        Err(error) if error.is_not_found() => Ok(Found {
            current: None,
            others,
            hash,
        }),
        Err(error) => Err(error),
    }
}

/// The one with the name, or else one that runs: a dead one with another name
/// has been moved aside and is of no more interest.
fn best<'a>(all: &'a [Summary], name: &str) -> Option<&'a Summary> {
    let named = all.iter().find(|one| one.name == name);
    let running = all
        .iter()
        .filter(|one| one.running)
        .max_by_key(|one| one.created);
    match (named, running) {
        (Some(named), Some(running)) if !named.running => Some(running),
        (Some(named), _) => Some(named),
        (None, running) => running,
    }
}

/// Brings the image here where the policy asks for it.
pub async fn fetch(
    docker: Docker,
    image: String,
    policy: PullPolicy,
    progress: watch::Sender<Option<u8>>,
) -> Result<(), Error> {
    if policy == PullPolicy::Never {
        return Ok(());
    }
    if policy == PullPolicy::Missing && docker.has_image(&image).await? {
        return Ok(());
    }
    let mut pull = docker.pull(&image).await?;
    while let Some(Progress { done, total }) = pull.next().await? {
        let percent = (total > 0).then(|| done.saturating_mul(100) / total.max(1));
        let percent = percent.and_then(|p| u8::try_from(p.min(100)).ok());
        progress.send_if_modified(|now| {
            let changed = *now != percent;
            *now = percent;
            changed
        });
    }
    Ok(())
}

/// Old one aside, new one made and started. On the path from a crash to the
/// new process there are these three calls, one more for each network beyond
/// the first, and no others.
pub async fn launch(launch: Launch) -> Result<Container, LaunchError> {
    let docker = &launch.docker;
    let name = &launch.container.name;
    let body = body::make(launch.container.clone(), launch.log_address.as_deref())
        .await
        .map_err(|error| LaunchError::refused(&error))?;
    if let Some(held) = &launch.held {
        move_aside(docker, held, name, launch.prev_taken)
            .await
            .map_err(|error| LaunchError::of(&error))?;
    }
    let id = match docker
        .create(name, body.platform.as_deref(), body.create.clone())
        .await
    {
        Ok(id) => id,
        Err(error) if error.is_conflict() => match resolve(&launch, &body, &error).await? {
            Resolved::Runs(container) => return Ok(*container),
            Resolved::Free => docker
                .create(name, body.platform.as_deref(), body.create.clone())
                .await
                .map_err(|error| LaunchError::created(&error))?,
        },
        Err(error) => return Err(LaunchError::created(&error)),
    };
    if let Err(error) = connect_and_start(docker, &id, body).await {
        let failed = LaunchError::started(&error);
        if failed.failure != Failure::Unsure {
            // It never ran: nothing of it is worth keeping.
            if let Err(error) = docker.remove(&id).await {
                tracing::debug!(container = name, error = %Chain(&error), "leftover of a failed start stays for now");
            }
        }
        return Err(failed);
    }
    docker
        .inspect(&id)
        .await
        .map_err(|error| LaunchError::of(&error))
}

async fn connect_and_start(docker: &Docker, id: &str, body: Body) -> Result<(), Error> {
    for (network, endpoint) in body.connect {
        docker.connect(&network, id, endpoint).await?;
    }
    docker.start(id).await
}

async fn move_aside(docker: &Docker, id: &str, name: &str, prev_taken: bool) -> Result<(), Error> {
    let spare = || format!("{name}.prev.{}", id.get(..8).unwrap_or(id));
    let first = if prev_taken {
        spare()
    } else {
        format!("{name}.prev")
    };
    match docker.rename(id, &first).await {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) if error.is_conflict() && !prev_taken => docker.rename(id, &spare()).await,
        answer => answer,
    }
}

enum Resolved {
    /// The holder is ours, runs, and is what is wanted.
    Runs(Box<Container>),
    /// The holder was ours and dead, and has been moved aside.
    Free,
}

/// The name is taken: by whom?
async fn resolve(launch: &Launch, body: &Body, conflict: &Error) -> Result<Resolved, LaunchError> {
    let name = &launch.container.name;
    let holder = launch
        .docker
        .inspect(name)
        .await
        .map_err(|error| LaunchError::of(&error))?;
    let label = |key: &str| holder.labels.get(key).map(String::as_str);
    let of = label(LABEL_CONTAINER).filter(|_| label(LABEL_MANAGED_BY) == Some(MANAGER));
    let is_ours = of == Some(name) && holder.name == *name;
    // A container of the config may have the name that another's dead generation was given.
    if let Some(other) = of
        && !holder.running
        && holder.name == format!("{other}.prev")
        && !is_ours
    {
        move_aside(&launch.docker, &holder.id, other, true)
            .await
            .map_err(|error| LaunchError::of(&error))?;
        return Ok(Resolved::Free);
    }
    if !is_ours {
        return Err(LaunchError {
            failure: Failure::Foreign,
            text: format!(
                "container {} has the name {} and is not the agent's: remove or rename it",
                holder.id.get(..12).unwrap_or(&holder.id),
                name
            ),
        });
    }
    if holder.running {
        if label(LABEL_SPEC).is_some_and(|held| hash::same(held, &body.hash)) {
            return Ok(Resolved::Runs(Box::new(holder)));
        }
        return Err(LaunchError {
            failure: Failure::Unsure,
            text: Chain(conflict).to_string(),
        });
    }
    move_aside(&launch.docker, &holder.id, name, true)
        .await
        .map_err(|error| LaunchError::of(&error))?;
    Ok(Resolved::Free)
}

pub async fn signal(docker: Docker, id: String, signal: String) -> Result<(), Error> {
    docker.kill(&id, &signal).await
}

/// The signal's name for Docker.
pub fn signal_name(signal: Signal, stop_signal: Option<&str>) -> String {
    match signal {
        Signal::Stop => stop_signal.unwrap_or("SIGTERM").to_owned(),
        Signal::Kill => "SIGKILL".to_owned(),
    }
}

/// Removes all that carries our label and this name, dead ones included.
pub async fn remove(docker: Docker, name: String) -> Result<(), Error> {
    for one in docker.list(&ours_named(&name)).await? {
        gone(docker.remove(&one.id).await)?;
    }
    Ok(())
}

/// Keeps at most one dead generation, as `<name>.prev`, for its logs; returns
/// whether there is one.
pub async fn tidy(docker: Docker, name: String, held: String) -> Result<bool, Error> {
    let mut others = docker.list(&ours_named(&name)).await?;
    let held_runs = others.iter().any(|one| one.id == held && one.running);
    // One that runs while ours does not is the next look's to judge.
    others.retain(|one| one.id != held && (held_runs || !one.running));
    others.sort_by_key(|one| std::cmp::Reverse(one.created));
    let prev = format!("{name}.prev");
    let mut kept: Option<&Summary> = None;
    for one in &others {
        if kept.is_none() && !one.running && !one.created_only {
            kept = Some(one);
            continue;
        }
        if one.running {
            tracing::warn!(
                container = name,
                id = one.id,
                "second running container of this name is removed"
            );
        }
        gone(docker.remove(&one.id).await)?;
    }
    if let Some(kept) = kept
        && kept.name != prev
    {
        gone(docker.rename(&kept.id, &prev).await)?;
    }
    Ok(kept.is_some())
}

/// Being gone already, or being removed just now, is what was wanted.
fn gone(answer: Result<(), Error>) -> Result<(), Error> {
    match answer {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        answer => answer,
    }
}

impl LaunchError {
    fn of(error: &Error) -> LaunchError {
        let failure = if error.is_unreachable() {
            Failure::Unsure
        } else {
            Failure::Failed
        };
        LaunchError {
            failure,
            text: Chain(error).to_string(),
        }
    }

    fn refused(error: &BodyError) -> LaunchError {
        LaunchError {
            failure: Failure::Refused,
            text: Chain(error).to_string(),
        }
    }

    /// A network that is not there: nothing helps but making it.
    fn started(error: &Error) -> LaunchError {
        let mut failed = LaunchError::of(error);
        if is_of_a_network(error) {
            failed.failure = Failure::Refused;
        }
        failed
    }

    fn created(error: &Error) -> LaunchError {
        let mut failed = LaunchError::of(error);
        if is_of_a_network(error) {
            failed.failure = Failure::Refused;
        } else if error.is_not_found() {
            failed.failure = Failure::ImageMissing;
        } else if error.is_refused() {
            failed.failure = Failure::Refused;
        }
        failed
    }
}

/// Docker answers 404 for an absent image and for an absent network.
fn is_of_a_network(error: &Error) -> bool {
    let text = Chain(error).to_string();
    error.is_not_found() && text.contains("network ") && text.contains("not found")
}

#[cfg(test)]
mod tests {
    use super::best;
    use crate::docker::container::Summary;
    use std::collections::HashMap;

    fn one(name: &str, running: bool, created: i64) -> Summary {
        Summary {
            id: format!("{name}-{created}"),
            name: name.into(),
            labels: HashMap::new(),
            running,
            created_only: false,
            created,
        }
    }

    #[test]
    fn the_named_one_stands_for_the_container_unless_only_another_runs() {
        let id = |all: &[Summary]| best(all, "app").map(|one| one.id.clone());
        assert_eq!(id(&[]), None);
        assert_eq!(id(&[one("app.prev", false, 1)]), None);
        assert_eq!(id(&[one("app", false, 1)]), Some("app-1".into()));
        let half_done = [one("app", false, 2), one("app.prev", true, 1)];
        assert_eq!(id(&half_done), Some("app.prev-1".into()));
        let both = [one("app", true, 1), one("app.prev", true, 2)];
        assert_eq!(id(&both), Some("app-1".into()));
    }
}
