//! The client itself: one connection, many calls, each with a deadline.

use super::Settings;
use super::container::{self, Container, Limits, Summary};
use super::error::{Cause, Error};
use super::events::{self, Events};
use super::image::{self, Local};
use super::image_pull::{Login, Pull, Way};
use super::since;
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointSettings, NetworkConnectRequest,
    RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder,
};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Deadline of a create and of a start: mounts and network are set up meanwhile.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Deadline of a removal: a big writable layer takes its time.
const REMOVE_DEADLINE: Duration = Duration::from_secs(120);
/// bollard's own timeout lies beyond all of ours, which therefore decide.
const BOLLARD_TIMEOUT_SECONDS: u64 = 3600;

/// A client of one Docker daemon. Cloning shares the connection.
#[derive(Clone)]
pub struct Docker {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    /// The negotiated client; None before the first call and after a failure.
    connection: Mutex<Option<bollard::Docker>>,
    seconds: HistogramVec,
    failures: IntCounterVec,
}

/// What the daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The engine: `28.0.1`.
    pub engine: String,
    /// The newest API that it speaks: `1.48`.
    pub api: String,
}

impl Docker {
    /// A client of the daemon at `settings.socket`, not yet connected. Its call
    /// metrics go to `registry`.
    pub fn new(settings: Settings, registry: &Registry) -> Docker {
        let (seconds, failures) = call_metrics(registry);
        Docker {
            inner: Arc::new(Inner {
                settings,
                connection: Mutex::new(None),
                seconds,
                failures,
            }),
        }
    }

    /// The daemon's version. Errors: [`Error::is_unreachable`] when nobody answers.
    pub async fn version(&self) -> Result<Version, Error> {
        let client = self.client("ask for the version of docker", "").await?;
        let answer = self
            .call("ask for the version of docker", "", self.short(), async {
                client.version().await
            })
            .await?;
        Ok(Version {
            engine: super::error::printable(&answer.version.unwrap_or_default()),
            api: super::error::printable(&answer.api_version.unwrap_or_default()),
        })
    }

    /// Whether the daemon answers at all.
    pub async fn ping(&self) -> Result<(), Error> {
        let client = self.client("ping docker", "").await?;
        self.call("ping docker", "", self.short(), async {
            client.ping().await
        })
        .await
        .map(|_| ())
    }

    /// All containers that carry every given `key=value` label, dead ones too.
    pub async fn list(&self, labels: &[String]) -> Result<Vec<Summary>, Error> {
        let client = self.client("list containers", "").await?;
        let filters = HashMap::from([("label", labels.to_vec())]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let found = self
            .call("list containers", "", self.short() * 2, async {
                client.list_containers(Some(options)).await
            })
            .await?;
        Ok(found.into_iter().filter_map(container::summary).collect())
    }

    /// One container by id or name. Errors: [`Error::is_not_found`].
    pub async fn inspect(&self, id: &str) -> Result<Container, Error> {
        let client = self.client("inspect container", id).await?;
        let found = self
            .call("inspect container", id, self.short(), async {
                client.inspect_container(id, None).await
            })
            .await?;
        container::container(found).ok_or_else(|| {
            let cause = Cause::Other("the answer has no id or no state".into());
            Error::new("inspect container", id, cause)
        })
    }

    /// Makes a container and returns its id. Errors: [`Error::is_not_found`]
    /// when the image is absent, [`Error::is_conflict`] when the name is taken,
    /// [`Error::is_refused`] when Docker does not take the body.
    /// `platform` is `os[/architecture[/variant]]`; None: this host's.
    pub async fn create(
        &self,
        name: &str,
        platform: Option<&str>,
        body: ContainerCreateBody,
    ) -> Result<String, Error> {
        let client = self.client("create container", name).await?;
        let api = client.client_version();
        since::check(&body, (api.major_version, api.minor_version))
            .map_err(|cause| Error::new("create container", name, cause))?;
        let mut options = CreateContainerOptionsBuilder::new().name(name);
        if let Some(platform) = platform {
            options = options.platform(platform);
        }
        let options = options.build();
        let made = self
            .call("create container", name, START_DEADLINE, async {
                client.create_container(Some(options), body).await
            })
            .await?;
        Ok(made.id)
    }

    /// Connects a container to one more network. Errors: [`Error::is_not_found`]
    /// when there is no such network.
    pub async fn connect(
        &self,
        network: &str,
        id: &str,
        endpoint: EndpointSettings,
    ) -> Result<(), Error> {
        let client = self.client("connect network", network).await?;
        let api = client.client_version();
        since::check_endpoint(&endpoint, (api.major_version, api.minor_version))
            .map_err(|cause| Error::new("connect network", network, cause))?;
        let request = NetworkConnectRequest {
            container: id.into(),
            endpoint_config: Some(endpoint),
        };
        self.call("connect network", network, START_DEADLINE, async {
            client.connect_network(network, request).await
        })
        .await
    }

    /// Starts a container; one that runs already is a success.
    pub async fn start(&self, id: &str) -> Result<(), Error> {
        let client = self.client("start container", id).await?;
        self.call("start container", id, START_DEADLINE, async {
            client.start_container(id, None).await
        })
        .await
    }

    /// Sends a signal (`SIGTERM`) to the main process. Errors:
    /// [`Error::is_conflict`] when it does not run.
    pub async fn kill(&self, id: &str, signal: &str) -> Result<(), Error> {
        let client = self.client("signal container", id).await?;
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        self.call("signal container", id, self.short(), async {
            client.kill_container(id, Some(options)).await
        })
        .await
    }

    /// Gives a container another name. Errors: [`Error::is_conflict`] when it is taken.
    pub async fn rename(&self, id: &str, name: &str) -> Result<(), Error> {
        let client = self.client("rename container", id).await?;
        let options = RenameContainerOptionsBuilder::new().name(name).build();
        self.call("rename container", id, self.short(), async {
            client.rename_container(id, options).await
        })
        .await
    }

    /// Lets a paused container go on.
    pub async fn unpause(&self, id: &str) -> Result<(), Error> {
        let client = self.client("unpause container", id).await?;
        self.call("unpause container", id, self.short(), async {
            client.unpause_container(id).await
        })
        .await
    }

    /// Takes Docker's own restart policy off a container.
    pub async fn never_restart(&self, id: &str) -> Result<(), Error> {
        let client = self.client("update container", id).await?;
        let body = ContainerUpdateBody {
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                ..RestartPolicy::default()
            }),
            ..ContainerUpdateBody::default()
        };
        self.call("update container", id, self.short(), async {
            client.update_container(id, body).await
        })
        .await
    }

    /// Sets what is set in `limits`, while the container runs on.
    pub async fn limit(&self, id: &str, limits: Limits) -> Result<(), Error> {
        let client = self.client("update container", id).await?;
        let body = ContainerUpdateBody {
            // Docker refuses a limit above the swap limit that it has made of the one before,
            // and makes twice the memory of none.
            memory_swap: limits
                .memory_swap
                .or(limits.memory.map(|memory| memory.saturating_mul(2))),
            memory: limits.memory,
            memory_reservation: limits.memory_reservation,
            nano_cpus: limits.nano_cpus,
            cpu_shares: limits.cpu_shares,
            cpuset_cpus: limits.cpuset,
            pids_limit: limits.pids,
            ..ContainerUpdateBody::default()
        };
        self.call("update container", id, self.short(), async {
            client.update_container(id, body).await
        })
        .await
    }

    /// Removes a container and its anonymous volumes; a running one is killed first.
    pub async fn remove(&self, id: &str) -> Result<(), Error> {
        let client = self.client("remove container", id).await?;
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        self.call("remove container", id, REMOVE_DEADLINE, async {
            client.remove_container(id, Some(options)).await
        })
        .await
    }

    /// The image that a reference means on this host; None where there is none.
    /// Errors: as of any call, but never [`Error::is_not_found`].
    pub async fn find_image(&self, image: &str) -> Result<Option<Local>, Error> {
        let client = self.client("inspect image", image).await?;
        image::check_reference(image)?;
        let answer = self
            .call("inspect image", image, self.short(), async {
                client.inspect_image(image).await
            })
            .await;
        match answer {
            Ok(found) => Ok(Some(Local::of(found))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins a pull, which ends when nothing comes from the registry for
    /// `stall`; drive it with [`Pull::next`]. Dropping it ends the pull.
    pub async fn pull(
        &self,
        image: &str,
        login: Option<&Login>,
        stall: Duration,
    ) -> Result<Pull, Error> {
        let client = self.client("pull image", image).await?;
        let version = client.client_version();
        let way = Way {
            socket: &self.inner.settings.socket,
            version: version.to_string(),
            deadline: self.short(),
            stall,
        };
        Pull::begin(way, image, login).await
    }

    /// Follows what happens to containers that carry every given label, from
    /// `since` (Unix seconds; the daemon remembers 256 events) or from the
    /// first [`Events::next`] on, which is when the request is sent.
    pub async fn events(&self, labels: &[String], since: Option<i64>) -> Result<Events, Error> {
        let client = self.client("subscribe to docker's events", "").await?;
        Ok(events::subscribe(&client, labels, since))
    }

    pub(super) fn short(&self) -> Duration {
        self.inner.settings.timeout
    }

    /// The connection, made and negotiated first where there is none.
    pub(super) async fn client(
        &self,
        call: &'static str,
        object: &str,
    ) -> Result<bollard::Docker, Error> {
        if let Some(client) = self.lock().clone() {
            return Ok(client);
        }
        let fresh = bollard::Docker::connect_with_unix(
            &self.inner.settings.socket.to_string_lossy(),
            BOLLARD_TIMEOUT_SECONDS,
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(|error| Error::new(call, object, Cause::of(&error)))?;
        let deadline = self.short();
        let agreed = match tokio::time::timeout(deadline, fresh.negotiate_version()).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(Error::new(call, object, Cause::of(&error))),
            Err(_) => return Err(Error::new(call, object, Cause::Late(deadline))),
        };
        *self.lock() = Some(agreed.clone());
        Ok(agreed)
    }

    pub(super) async fn call<T>(
        &self,
        call: &'static str,
        object: &str,
        deadline: Duration,
        work: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let answer = tokio::time::timeout(deadline, work).await;
        self.inner
            .seconds
            .with_label_values(&[call])
            .observe(begun.elapsed().as_secs_f64());
        let cause = match answer {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Cause::of(&error),
            Err(_) => Cause::Late(deadline),
        };
        self.inner.failures.with_label_values(&[call]).inc();
        let error = Error::new(call, object, cause);
        if error.is_unreachable() {
            // The next daemon at this socket may speak another version.
            *self.lock() = None;
        }
        Err(error)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<bollard::Docker>> {
        self.inner
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn call_metrics(registry: &Registry) -> (HistogramVec, IntCounterVec) {
    let seconds = HistogramVec::new(
        HistogramOpts::new(
            "agent_docker_call_seconds",
            "How long calls to Docker took, failed ones too.",
        )
        .buckets(vec![0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]),
        &["call"],
    )
    .expect("a constant, valid name");
    let failures = IntCounterVec::new(
        Opts::new(
            "agent_docker_call_failures_total",
            "Calls to Docker that failed or came back too late.",
        ),
        &["call"],
    )
    .expect("a constant, valid name");
    for family in [
        registry.register(Box::new(seconds.clone())),
        registry.register(Box::new(failures.clone())),
    ] {
        if let Err(error) = family {
            tracing::warn!(%error, "docker call metrics are not exported");
        }
    }
    (seconds, failures)
}
