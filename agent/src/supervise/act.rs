//! What is done to Docker for one container, one action each.
//!
//! Identity is label plus id. The name only has to be free: whatever of ours
//! holds it is moved aside to `<name>.prev`, whatever is not ours is left alone.

use super::Container as Wanted;
use super::body::{self, Body, BodyError, LABEL_CONTAINER, LABEL_MANAGED_BY, LABEL_SPEC, MANAGER};
use super::mind::{self, FetchError, Outcome, Repair, Work};
use super::pull::{self, Puller};
use super::spec::hash;
use super::state::{Failure, Signal};
use super::takeover;
use crate::chain::Chain;
use crate::docker::container::{Container, Limits, Summary};
use crate::docker::{Docker, Error};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between tries to read the files that a container needs.
const FILES_AGAIN: Duration = Duration::from_secs(30);

/// What a look found: the container that holds the name, and how many dead
/// ones of earlier runs lie beside it.
#[derive(Debug)]
pub struct Found {
    pub current: Option<Container>,
    /// The one beside it, of an update that overlaps.
    pub double: Option<Container>,
    pub others: usize,
    /// The hash that is wanted, by what its files hold now.
    pub hash: String,
}

/// A launch that did not end in a running container.
#[derive(Debug)]
pub struct LaunchError {
    pub failure: Failure,
    pub text: String,
    /// Who has the name, where it is another's and runs.
    pub holder: Option<Box<Container>>,
}

/// All that a launch needs; owned, so that it can outlive the moment.
struct Launch {
    docker: Docker,
    container: Arc<Wanted>,
    body: Body,
    held: Option<String>,
    prev_taken: bool,
}

/// Does one thing to Docker and says what came of it.
pub async fn perform(
    docker: Docker,
    puller: Puller,
    log_address: Option<String>,
    work: Work,
    progress: watch::Sender<pull::Progress>,
) -> Outcome {
    match work {
        Work::Look { container, foreign } => {
            let found = look(&docker, container, log_address, foreign).await;
            Outcome::Looked(found.map(Box::new))
        }
        Work::Fetch {
            container,
            priority,
            fresh,
        } => {
            let image = container.spec.image.clone();
            let policy = container.pull_policy;
            if fresh {
                puller.forgive(&image);
            }
            // What cannot be made must not cost the one that runs.
            if let Err(error) = body::check_files(container).await {
                return Outcome::Fetched(Err(FetchError {
                    text: Chain(&error).to_string(),
                    again_in: FILES_AGAIN,
                }));
            }
            let fetched = puller.fetch(&image, policy, priority, &progress).await;
            Outcome::Fetched(match fetched {
                Ok(_) => Ok(()),
                Err(error) => Err(FetchError {
                    text: error.text,
                    again_in: error.again_in,
                }),
            })
        }
        Work::Launch(order) => Outcome::Launched(match prepare(docker, log_address, order).await {
            Ok(ready) => Box::pin(launch(ready)).await,
            Err(error) => Err(error),
        }),
        Work::Double(order) => Outcome::Doubled(match prepare(docker, log_address, order).await {
            Ok(ready) => Box::pin(double(ready)).await,
            Err(error) => Err(error),
        }),
        Work::Promote {
            name,
            old,
            new,
            prev_taken,
        } => Outcome::Promoted(promote(&docker, &name, old, &new, prev_taken).await),
        Work::Clear { name } => Outcome::Cleared(clear(&docker, &name).await),
        Work::Signal { id, signal } => Outcome::Signalled(docker.kill(&id, &signal).await),
        Work::Remove { name } => Outcome::Removed(remove(&docker, &name).await),
        Work::Repair {
            id,
            name,
            what,
            limits,
        } => Outcome::Repaired(repair(&docker, &id, &name, &what, limits).await),
    }
}

/// The name of the new one while it stands beside the old one.
pub fn double_name(name: &str) -> String {
    format!("{name}.next")
}

async fn prepare(
    docker: Docker,
    log_address: Option<String>,
    order: mind::Launch,
) -> Result<Launch, LaunchError> {
    let mut body = body::make(order.container.clone(), log_address.as_deref())
        .await
        .map_err(|error| LaunchError::refused(&error))?;
    if let Some(hash) = order.label {
        let labels = body.create.labels.get_or_insert_default();
        labels.insert(LABEL_SPEC.into(), hash.to_string());
        body.hash = hash.to_string();
    }
    Ok(Launch {
        docker,
        container: order.container,
        body,
        held: order.held,
        prev_taken: order.prev_taken,
    })
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
async fn look(
    docker: &Docker,
    wanted: Arc<Wanted>,
    log_address: Option<String>,
    foreign: Option<String>,
) -> Result<Found, Error> {
    let name = wanted.name.clone();
    let hash = body::hash_now(wanted, log_address.as_deref()).await;
    let mut all = docker.list(&ours_named(&name)).await?;
    let next = double_name(&name);
    let beside = all
        .iter()
        .position(|one| one.name == next)
        .map(|place| all.remove(place));
    if let Some(id) = foreign {
        // It carries no label of ours, so no list shows it.
        let current = inspect(docker, &id).await?;
        return Ok(Found {
            current,
            double: None,
            others: all.len(),
            hash,
        });
    }
    let mut double = match &beside {
        Some(beside) => inspect(docker, &beside.id).await?,
        None => None,
    };
    let Some(best) = best(&all, &name) else {
        // Nothing else is there: what was to follow has to stand in.
        let current = double.take_if(|one| one.running);
        return Ok(Found {
            current,
            double: None,
            others: all.len(),
            hash,
        });
    };
    if !best.running && double.as_ref().is_some_and(|one| one.running) {
        return Ok(Found {
            current: double,
            double: None,
            others: all.len(),
            hash,
        });
    }
    let others = all.len() - 1;
    let current = inspect(docker, &best.id).await?;
    Ok(Found {
        current,
        double,
        others,
        hash,
    })
}

async fn inspect(docker: &Docker, id: &str) -> Result<Option<Container>, Error> {
    match docker.inspect(id).await {
        Ok(container) => Ok(Some(container)),
        Err(error) if error.is_not_found() => Ok(None),
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

/// Old one aside, new one made and started. On the path from a crash to the
/// new process there are these three calls, one more for each network beyond
/// the first, and no others.
async fn launch(launch: Launch) -> Result<Container, LaunchError> {
    let docker = &launch.docker;
    let name = &launch.container.name;
    let body = launch.body.clone();
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
    let holder = match launch.docker.inspect(name).await {
        Ok(holder) => holder,
        // Gone since Docker said that it has the name.
        Err(error) if error.is_not_found() => return Ok(Resolved::Free),
        Err(error) => return Err(LaunchError::of(&error)),
    };
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
        takeover::take(&launch.docker, &launch.container, holder).await?;
        return Ok(Resolved::Free);
    }
    if holder.running {
        if label(LABEL_SPEC).is_some_and(|held| hash::same(held, &body.hash)) {
            return Ok(Resolved::Runs(Box::new(holder)));
        }
        return Err(LaunchError {
            failure: Failure::Unsure,
            text: Chain(conflict).to_string(),
            holder: None,
        });
    }
    move_aside(&launch.docker, &holder.id, name, true)
        .await
        .map_err(|error| LaunchError::of(&error))?;
    Ok(Resolved::Free)
}

/// Makes and starts the new one beside the old one, under a name of its own.
async fn double(launch: Launch) -> Result<Container, LaunchError> {
    let docker = &launch.docker;
    let name = &launch.container.name;
    let body = launch.body.clone();
    clear(docker, name)
        .await
        .map_err(|error| LaunchError::of(&error))?;
    let id = docker
        .create(
            &double_name(name),
            body.platform.as_deref(),
            body.create.clone(),
        )
        .await
        .map_err(|error| LaunchError::created(&error))?;
    connect_and_start(docker, &id, body)
        .await
        .map_err(|error| LaunchError::started(&error))?;
    docker
        .inspect(&id)
        .await
        .map_err(|error| LaunchError::of(&error))
}

/// Gives the new one the name, once the old one is dead.
async fn promote(
    docker: &Docker,
    name: &str,
    old: Option<String>,
    new: &str,
    prev_taken: bool,
) -> Result<Container, Error> {
    if let Some(old) = old {
        move_aside(docker, &old, name, prev_taken).await?;
    }
    docker.rename(new, name).await?;
    docker.inspect(new).await
}

/// Removes the one beside it, whatever its state.
async fn clear(docker: &Docker, name: &str) -> Result<(), Error> {
    let next = double_name(name);
    for one in docker.list(&ours_named(name)).await? {
        if one.name == next {
            gone(docker.remove(&one.id).await)?;
        }
    }
    Ok(())
}

/// Gives a container its name back; a dead one of ours that has it steps aside.
async fn rename(docker: &Docker, id: &str, name: &str) -> Result<(), Error> {
    match docker.rename(id, name).await {
        Err(error) if error.is_conflict() => {}
        answer => return answer,
    }
    let holder = docker.inspect(name).await?;
    let label = |key: &str| holder.labels.get(key).map(String::as_str);
    let is_ours = label(LABEL_MANAGED_BY) == Some(MANAGER) && label(LABEL_CONTAINER) == Some(name);
    if is_ours && !holder.running {
        move_aside(docker, &holder.id, name, true).await?;
    }
    docker.rename(id, name).await
}

async fn repair(
    docker: &Docker,
    id: &str,
    name: &str,
    what: &[Repair],
    limits: Limits,
) -> Result<(), Error> {
    for one in what {
        match one {
            Repair::Name => rename(docker, id, name).await?,
            Repair::Paused => docker.unpause(id).await?,
            Repair::RestartPolicy => docker.never_restart(id).await?,
            Repair::Limits => docker.limit(id, limits.clone()).await?,
        }
    }
    Ok(())
}

/// The signal's name for Docker.
pub fn signal_name(signal: Signal, stop_signal: Option<&str>) -> String {
    match signal {
        Signal::Stop => stop_signal.unwrap_or("SIGTERM").to_owned(),
        Signal::Kill => "SIGKILL".to_owned(),
    }
}

/// Removes all that carries our label and this name, dead ones included.
async fn remove(docker: &Docker, name: &str) -> Result<(), Error> {
    for one in docker.list(&ours_named(name)).await? {
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
pub(super) fn gone(answer: Result<(), Error>) -> Result<(), Error> {
    match answer {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        answer => answer,
    }
}

impl LaunchError {
    pub(super) fn of(error: &Error) -> LaunchError {
        let failure = if error.is_unreachable() {
            Failure::Unsure
        } else {
            Failure::Failed
        };
        LaunchError {
            failure,
            text: Chain(error).to_string(),
            holder: None,
        }
    }

    fn refused(error: &BodyError) -> LaunchError {
        LaunchError {
            failure: Failure::Refused,
            text: Chain(error).to_string(),
            holder: None,
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
            paused: false,
            created_only: false,
            created,
            image_id: String::new(),
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
