//! What is done to Docker for one run, one action each.
//!
//! A launch is idempotent: the container's name is that of the attempt, so what
//! an earlier launch made is found by the next one and not made twice.

use super::settings::Job;
use super::state::{Failure, Key, Seen};
use crate::chain::Chain;
use crate::docker::container::{Container, Summary};
use crate::docker::{Docker, Error};
use crate::supervise::body::{self, Body, BodyError, LABEL_CONTAINER, LABEL_MANAGED_BY, MANAGER};
use crate::supervise::pull::{Priority, Progress, PullError, Puller};
use crate::supervise::{self, Drain, Probes, PullPolicy, Takeover, Update};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Which job of the config. Containers have `agent.container` instead.
pub const LABEL_JOB: &str = "agent.job";
pub const LABEL_RUN: &str = "agent.job.run";
pub const LABEL_ATTEMPT: &str = "agent.job.attempt";
/// The scheduled time in Unix milliseconds; absent on an operator's run.
pub const LABEL_DUE: &str = "agent.job.due";

#[derive(Debug)]
pub struct LaunchError {
    pub failure: Failure,
    pub text: String,
}

/// All that a launch needs; owned, so that it can outlive the moment.
pub struct Launch {
    pub docker: Docker,
    pub puller: Puller,
    pub job: String,
    pub key: Key,
    pub policy: Job,
    pub due: Option<i64>,
    pub log_address: Option<String>,
    /// Only find what was made before.
    pub late: bool,
    /// Gives up while the image is being fetched.
    pub cancel: CancellationToken,
}

/// `cleanup.run-12`, its second attempt `cleanup.run-12.2`.
pub fn name(job: &str, key: Key) -> String {
    match key.attempt {
        0 | 1 => format!("{job}.run-{}", key.number),
        attempt => format!("{job}.run-{}.{attempt}", key.number),
    }
}

/// What Docker is told to make; reads the files that the job needs.
async fn body_of(launch: &Launch) -> Result<Body, BodyError> {
    let job = &launch.policy;
    let container = supervise::Container {
        name: job.name.clone(),
        spec: job.spec.clone(),
        depends_on: Vec::new(),
        stop_grace_period: job.stop_grace_period,
        pull_policy: job.pull_policy,
        probes: Probes::default(),
        drain: Drain::default(),
        update: Update::default(),
        takeover: Takeover::default(),
        essential: false,
    };
    let mut body = body::make(Arc::new(container), launch.log_address.as_deref()).await?;
    let labels = body.create.labels.get_or_insert_default();
    labels.remove(LABEL_CONTAINER);
    labels.insert(LABEL_JOB.into(), job.name.clone());
    labels.insert(LABEL_RUN.into(), launch.key.number.to_string());
    labels.insert(LABEL_ATTEMPT.into(), launch.key.attempt.to_string());
    labels.remove(LABEL_DUE);
    labels.extend(
        launch
            .due
            .map(|due| (LABEL_DUE.to_owned(), due.to_string())),
    );
    Ok(body)
}

/// Of which job a container is, and which attempt; None: of none.
pub fn owner(labels: &HashMap<String, String>) -> Option<(&str, Key)> {
    let label = |name: &str| labels.get(name).map(String::as_str);
    if label(LABEL_MANAGED_BY) != Some(MANAGER) {
        return None;
    }
    let number = label(LABEL_RUN)?.parse().ok()?;
    let attempt = label(LABEL_ATTEMPT)?.parse().ok()?;
    Some((label(LABEL_JOB)?, Key { number, attempt }))
}

/// One line of a list; None where it is no job's.
pub fn seen(one: &Summary) -> Option<(&str, Seen)> {
    let (job, key) = owner(&one.labels)?;
    let seen = Seen {
        id: one.id.clone(),
        key,
        due: one.labels.get(LABEL_DUE).and_then(|due| due.parse().ok()),
        is_running: one.running,
        created: one.created.saturating_mul(1000),
    };
    Some((job, seen))
}

/// Makes and starts the attempt's container, or finds it: running, or ended already.
pub async fn launch(launch: Launch) -> Result<Container, LaunchError> {
    let name = name(&launch.job, launch.key);
    if launch.late {
        return match launch.docker.inspect(&name).await {
            Ok(found) => bring_up(&launch, own(&launch, found)?).await,
            Err(error) if error.is_not_found() => Err(LaunchError {
                failure: Failure::TooLate,
                text: "it was not begun in time".into(),
            }),
            Err(error) => Err(LaunchError::of(&error)),
        };
    }
    if launch.policy.pull_policy == PullPolicy::Always
        && let Err(error) = fetch_or_give_up(&launch).await?
    {
        // An image that is here serves, as for containers.
        tracing::warn!(
            job = launch.job,
            error = error.text,
            "image not fetched anew"
        );
    }
    let body = body_of(&launch).await.map_err(|error| LaunchError {
        failure: Failure::Failed,
        text: Chain(&error).to_string(),
    })?;
    let create = || {
        let platform = body.platform.as_deref();
        launch.docker.create(&name, platform, body.create.clone())
    };
    let made = match create().await {
        Err(error) if error.is_not_found() && launch.policy.pull_policy != PullPolicy::Never => {
            let fetched = fetch_or_give_up(&launch).await?;
            fetched.map_err(|error| LaunchError {
                failure: Failure::Failed,
                text: error.text,
            })?;
            create().await
        }
        answer => answer,
    };
    let held = match made {
        Ok(id) => launch.docker.inspect(&id).await,
        Err(error) if error.is_conflict() => match launch.docker.inspect(&name).await {
            // Docker is still at what an agent that died had asked for.
            Err(gone) if gone.is_not_found() => {
                return Err(LaunchError {
                    failure: Failure::Unsure,
                    text: Chain(&error).to_string(),
                });
            }
            found => found,
        },
        Err(error) => Err(error),
    };
    let held = held.map_err(|error| LaunchError::of(&error))?;
    if held.created_only {
        for (network, endpoint) in body.connect {
            let connected = launch.docker.connect(&network, &held.id, endpoint).await;
            connected.map_err(|error| LaunchError::of(&error))?;
        }
    }
    bring_up(&launch, own(&launch, held)?).await
}

/// Refuses another's container.
fn own(launch: &Launch, found: Container) -> Result<Container, LaunchError> {
    if owner(&found.labels) == Some((launch.job.as_str(), launch.key)) {
        return Ok(found);
    }
    let id = found.id.get(..12).unwrap_or(&found.id);
    Err(LaunchError {
        failure: Failure::Failed,
        text: format!(
            "container {id} has the name {} and is not this run's: remove or rename it",
            found.name
        ),
    })
}

/// Starts what was only made.
async fn bring_up(launch: &Launch, found: Container) -> Result<Container, LaunchError> {
    if !found.created_only {
        return Ok(found);
    }
    if let Err(error) = launch.docker.start(&found.id).await {
        let failed = LaunchError::of(&error);
        if failed.failure != Failure::Unsure
            && let Err(error) = launch.docker.remove(&found.id).await
        {
            tracing::debug!(job = launch.job, error = %Chain(&error), "leftover of a failed start stays for now");
        }
        return Err(failed);
    }
    let started = launch.docker.inspect(&found.id).await;
    started.map_err(|error| LaunchError::of(&error))
}

async fn fetch_or_give_up(launch: &Launch) -> Result<Result<(), PullError>, LaunchError> {
    let (progress, _) = watch::channel(Progress::default());
    let fetched = launch.puller.fetch(
        &launch.policy.spec.image,
        launch.policy.pull_policy,
        Priority::Other,
        &progress,
    );
    tokio::select! {
        fetched = fetched => Ok(fetched.map(|_| ())),
        () = launch.cancel.cancelled() => Err(LaunchError {
            failure: Failure::Cancelled,
            text: "given up while its image was being fetched".into(),
        }),
    }
}

/// Removes every container of the job.
pub async fn remove_all(docker: Docker, job: String) -> Result<(), Error> {
    let mut labels = supervise::act::ours();
    labels.push(format!("{LABEL_JOB}={job}"));
    for one in docker.list(&labels).await? {
        remove(&docker, &one.id).await?;
    }
    Ok(())
}

/// Being gone already, or being removed just now, is what was wanted.
pub async fn remove(docker: &Docker, id: &str) -> Result<(), Error> {
    match docker.remove(id).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        answer => answer,
    }
}

/// Signals, and looks where there was nothing to signal. None: it lives, or nobody knows.
pub async fn signal(docker: Docker, id: String, signal: Option<&str>) -> Option<Gone> {
    let stop = match signal {
        Some(_) => None,
        None => docker
            .inspect(&id)
            .await
            .ok()
            .and_then(|found| found.stop_signal),
    };
    let name = signal.or(stop.as_deref()).unwrap_or("SIGTERM");
    match docker.kill(&id, name).await {
        Ok(()) => None,
        Err(_) => look(docker, id).await,
    }
}

/// How a container that does not run any more ended.
#[derive(Debug)]
pub enum Gone {
    Dead(Box<Container>),
    Removed,
}

/// None: it lives, or Docker does not say.
pub async fn look(docker: Docker, id: String) -> Option<Gone> {
    match docker.inspect(&id).await {
        Ok(found) if found.running => None,
        Ok(found) => Some(Gone::Dead(Box::new(found))),
        Err(error) if error.is_not_found() => Some(Gone::Removed),
        Err(error) => {
            tracing::debug!(error = %Chain(&error), "end of a run is asked for again");
            None
        }
    }
}

/// Unix milliseconds; times before 1970 are 1970.
pub fn unix(at: SystemTime) -> i64 {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    super::state::millis(since)
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
}
