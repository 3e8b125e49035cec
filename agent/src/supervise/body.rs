//! A spec in Docker's words: all that makes one container.
//!
//! Docker's own restart policy is always "no" (two supervisors of one
//! container undo each other's work), its stop timeout short (the longest one
//! holds up a stop of the daemon itself); the agent keeps both clocks.

mod host;
mod network;

pub use host::limits;

use super::Container;
use super::spec::resolve::{self, ResolveError, Resolved};
use super::spec::{Healthcheck, Port, Spec, hash};
use bollard::models::{ContainerCreateBody, EndpointSettings, HealthConfig};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Whose a container is; the value is [`MANAGER`].
pub const LABEL_MANAGED_BY: &str = "agent.managed-by";
/// Which container of the config.
pub const LABEL_CONTAINER: &str = "agent.container";
/// Hash of the spec that it was made from.
pub const LABEL_SPEC: &str = "agent.spec";
pub const MANAGER: &str = "agent";

/// Docker's own patience when it goes down. Unit: seconds.
const STOP_TIMEOUT_SECONDS: i64 = 10;

/// Files of a container are small and local; past this something hangs.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// A container that cannot be made as the config has it.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error(
        "logging to the agent is wanted, but the agent's forward input is off: switch it on or give another logging driver"
    )]
    NoLogAddress,
    #[error("device {0:?} is not host-path[:container-path[:permissions]]")]
    Device(String),
    #[error("{key} {value} is too large")]
    TooLarge { key: &'static str, value: u64 },
    #[error("cannot make it from its files")]
    File(#[source] ResolveError),
}

/// What Docker is told to make. It holds secrets: no `Debug`.
#[derive(Clone)]
pub struct Body {
    /// Of the spec and of what its files held.
    pub hash: String,
    pub create: ContainerCreateBody,
    /// A parameter of the create call.
    pub platform: Option<String>,
    /// Networks to connect it to between create and start.
    pub connect: Vec<(String, EndpointSettings)>,
}

/// Reads the files of `container` off the reactor, then makes its [`body`].
pub async fn make(container: Arc<Container>, log_address: Option<&str>) -> Result<Body, BodyError> {
    let resolved = read(container.clone()).await.map_err(BodyError::File)?;
    body(&container, &resolved, log_address)
}

/// The hash as the files are now; where they cannot be read, the hash without them.
pub async fn hash_now(container: Arc<Container>, log_address: Option<&str>) -> String {
    let unread = container.spec.hash(log_address);
    match read(container).await {
        Ok(resolved) => hash::with_content(&unread, resolved.content.as_deref()),
        Err(_) => unread,
    }
}

/// Whether its files are fit to make it from.
pub async fn check_files(container: Arc<Container>) -> Result<(), BodyError> {
    read(container).await.map(drop).map_err(BodyError::File)
}

async fn read(container: Arc<Container>) -> Result<Resolved, ResolveError> {
    if !container.spec.reads_files() {
        return Ok(Resolved::default());
    }
    let reading = spawn_blocking(move || resolve::resolve(&container.spec));
    match timeout(READ_DEADLINE, reading).await {
        Ok(Ok(resolved)) => resolved,
        // The runtime is shutting down, or the disk hangs.
        Ok(Err(_)) | Err(_) => Err(ResolveError::Late),
    }
}

/// What Docker is told to make of `container`, its files read.
pub fn body(
    container: &Container,
    resolved: &Resolved,
    log_address: Option<&str>,
) -> Result<Body, BodyError> {
    let spec = &container.spec;
    let hash = hash::with_content(&spec.hash(log_address), resolved.content.as_deref());
    let mut labels: HashMap<String, String> = hash_map(&spec.labels);
    labels.insert(LABEL_MANAGED_BY.into(), MANAGER.into());
    labels.insert(LABEL_CONTAINER.into(), container.name.clone());
    labels.insert(LABEL_SPEC.into(), hash.clone());
    let mut networks = network::endpoints(spec).into_iter();
    let first = networks.next();
    let create = ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: spec.command.clone(),
        entrypoint: spec.entrypoint.clone().map(|words| {
            // Docker takes [""], not [], for "none".
            if words.is_empty() {
                vec![String::new()]
            } else {
                words
            }
        }),
        env: environment(spec, resolved),
        labels: Some(labels),
        exposed_ports: listed(spec.ports.iter().map(key_of)),
        volumes: listed(host::anonymous(spec).cloned()),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        tty: spec.tty.then_some(true),
        open_stdin: spec.stdin_open.then_some(true),
        healthcheck: spec.healthcheck.as_ref().map(healthcheck),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: Some(STOP_TIMEOUT_SECONDS),
        host_config: Some(host::config(spec, resolved, log_address)?),
        networking_config: network::config(first),
        ..ContainerCreateBody::default()
    };
    Ok(Body {
        hash,
        create,
        platform: spec.platform.clone(),
        connect: networks.collect(),
    })
}

/// Env files lie beneath the config's own variables, secrets above.
fn environment(spec: &Spec, resolved: &Resolved) -> Option<Vec<String>> {
    let mut all: BTreeMap<&str, &str> = BTreeMap::new();
    let files = resolved.env_files.iter();
    all.extend(files.map(|(name, value)| (name.as_str(), value.expose())));
    let own = spec.environment.iter();
    all.extend(own.map(|(name, value)| (name.as_str(), value.as_str())));
    let secrets = resolved.secrets.iter();
    all.extend(secrets.map(|(name, value)| (name.as_str(), value.expose())));
    listed(all.iter().map(|(name, value)| format!("{name}={value}")))
}

fn healthcheck(check: &Healthcheck) -> HealthConfig {
    // Docker takes 0 for "as the image has it".
    let nanos = |time: Option<Duration>| time.and_then(|time| i64::try_from(time.as_nanos()).ok());
    HealthConfig {
        test: check.test.clone(),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        retries: check.retries,
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
    }
}

fn key_of(port: &Port) -> String {
    format!("{}/{}", port.container_port, port.protocol.word())
}

fn listed<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.collect();
    (!items.is_empty()).then_some(items)
}

fn hash_map(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests;
