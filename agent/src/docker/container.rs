//! A container as Docker reports it, cut down to what callers look at.

use super::error::printable;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryStateEnum, PortMap, RestartPolicyNameEnum,
};
use std::collections::HashMap;
use std::time::SystemTime;

/// One line of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    pub id: String,
    /// Without Docker's leading slash.
    pub name: String,
    pub labels: HashMap<String, String>,
    /// Its main process lives: running or paused.
    pub running: bool,
    pub paused: bool,
    /// Made, but never started.
    pub created_only: bool,
    /// Unix seconds.
    pub created: i64,
    /// `sha256:…`
    pub image_id: String,
}

/// What Docker changes in a container without making it anew; None: not set, Docker's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1: no limit.
    pub memory_swap: Option<i64>,
    /// Bytes.
    pub memory_reservation: Option<i64>,
    /// Billionths of a CPU.
    pub nano_cpus: Option<i64>,
    pub cpu_shares: Option<i64>,
    /// `0-1,3`
    pub cpuset: Option<String>,
    pub pids: Option<i64>,
}

impl Limits {
    /// Whether each limit that is set here has the same value there.
    pub fn hold_in(&self, there: &Limits) -> bool {
        fn same<T: PartialEq>(here: &Option<T>, there: &Option<T>) -> bool {
            here.is_none() || here == there
        }
        same(&self.memory, &there.memory)
            && same(&self.memory_swap, &there.memory_swap)
            && same(&self.memory_reservation, &there.memory_reservation)
            && same(&self.nano_cpus, &there.nano_cpus)
            && same(&self.cpu_shares, &there.cpu_shares)
            && same(&self.cpuset, &there.cpuset)
            && same(&self.pids, &there.pids)
    }
}

/// One container in full.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Container {
    pub id: String,
    /// Without Docker's leading slash.
    pub name: String,
    pub labels: HashMap<String, String>,
    /// Its main process lives: running or paused.
    pub running: bool,
    pub paused: bool,
    /// Made, but never started.
    pub created_only: bool,
    /// Docker's own policy would start it again.
    pub restarts_by_itself: bool,
    /// Docker's own policy is about to start it.
    pub restarting: bool,
    /// In the host's pid namespace; None when it does not run.
    pub pid: Option<i64>,
    /// None when it was never started.
    pub started_at: Option<SystemTime>,
    /// As Docker writes it: with the id it names one run of the container.
    pub started_at_text: String,
    pub finished_at: Option<SystemTime>,
    pub exit_code: i64,
    /// The kernel's OOM killer struck inside; not always the main process.
    pub oom_killed: bool,
    /// What a stop sends, by the image or by the create call; None: SIGTERM.
    pub stop_signal: Option<String>,
    /// Docker's reason when it could not be started; "" otherwise.
    pub error: String,
    /// `sha256:…`
    pub image_id: String,
    pub limits: Limits,
    /// As it was asked for: `app:1`.
    pub image: String,
    /// How often Docker's own policy restarted it.
    pub restart_count: u64,
    /// `bridge`, `host`, `container:ID`, a network's name.
    pub network_mode: String,
    /// `8080/tcp` → `0.0.0.0:32768`, as bound by now.
    pub ports: Vec<(String, String)>,
}

pub(super) fn summary(found: ContainerSummary) -> Option<Summary> {
    use ContainerSummaryStateEnum as State;
    Some(Summary {
        id: found.id?,
        name: bare(found.names.unwrap_or_default().first()?),
        labels: found.labels.unwrap_or_default(),
        running: matches!(
            found.state,
            Some(State::RUNNING | State::PAUSED | State::STOPPING)
        ),
        paused: found.state == Some(State::PAUSED),
        created_only: found.state == Some(State::CREATED),
        created: found.created.unwrap_or_default(),
        image_id: found.image_id.unwrap_or_default(),
    })
}

pub(super) fn container(found: ContainerInspectResponse) -> Option<Container> {
    let state = found.state?;
    let running = state.running.unwrap_or_default();
    let started_at_text = state.started_at.unwrap_or_default();
    let ports = found.network_settings.and_then(|network| network.ports);
    let config = found.config.unwrap_or_default();
    let host = found.host_config.unwrap_or_default();
    let policy = host.restart_policy.and_then(|policy| policy.name);
    let restarts_by_itself = !matches!(
        policy,
        None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO)
    );
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    let limits = Limits {
        memory: set(host.memory),
        memory_swap: set(host.memory_swap),
        memory_reservation: set(host.memory_reservation),
        nano_cpus: set(host.nano_cpus),
        cpu_shares: set(host.cpu_shares),
        cpuset: host.cpuset_cpus.filter(|cpus| !cpus.is_empty()),
        pids: set(host.pids_limit),
    };
    let network_mode = host.network_mode;
    Some(Container {
        id: found.id?,
        name: bare(&found.name.unwrap_or_default()),
        labels: config.labels.unwrap_or_default(),
        running,
        paused: state.paused.unwrap_or_default(),
        restarts_by_itself,
        created_only: state.status == Some(ContainerStateStatusEnum::CREATED),
        restarting: state.restarting.unwrap_or_default(),
        pid: state.pid.filter(|pid| running && *pid > 0),
        started_at: time(&started_at_text),
        started_at_text,
        finished_at: state.finished_at.as_deref().and_then(time),
        exit_code: state.exit_code.unwrap_or_default(),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
        oom_killed: state.oom_killed.unwrap_or_default(),
        error: printable(&state.error.unwrap_or_default()),
        image_id: found.image.unwrap_or_default(),
        limits,
        image: config.image.unwrap_or_default(),
        restart_count: found
            .restart_count
            .and_then(|count| u64::try_from(count).ok())
            .unwrap_or_default(),
        network_mode: network_mode.unwrap_or_default(),
        ports: bound(ports.unwrap_or_default()),
    })
}

fn bare(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

/// RFC 3339; Docker writes year 1 for "never".
pub(super) fn time(text: &str) -> Option<SystemTime> {
    let stamp: jiff::Timestamp = text.parse().ok()?;
    (stamp.as_second() > 0).then(|| SystemTime::from(stamp))
}

fn bound(ports: PortMap) -> Vec<(String, String)> {
    let mut bound: Vec<(String, String)> = ports
        .into_iter()
        .flat_map(|(port, bindings)| {
            bindings.unwrap_or_default().into_iter().map(move |host| {
                let ip = host.host_ip.unwrap_or_default();
                let host_port = host.host_port.unwrap_or_default();
                (port.clone(), format!("{ip}:{host_port}"))
            })
        })
        .collect();
    bound.sort();
    bound
}
