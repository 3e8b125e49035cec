//! Every room, made and spawned.

use super::claim::{Claim, claim};
use super::identity::Identity;
use super::snapshot;
use crate::config::{self, Loaded, Settings};
use crate::control::serve::{Command, Control};
use crate::dns::Resolver;
use crate::heartbeat::Heartbeat;
use crate::host::boot;
use crate::host::bus::Bus;
use crate::host::bus::systemd1::Systemd1;
use crate::host::sockets::{self, BindError, Inherited};
use crate::http::{self, Door, Handler};
use crate::listener::{Address, Listener};
use crate::logs;
use crate::machine;
use crate::metrics::containers::{self, ContainerMetrics, Lister};
use crate::metrics::{self, Metrics};
use crate::pulse::Pulse;
use crate::supervise::{self, housekeeping, jobs};
use crate::telemetry::Telemetry;
use anyhow::Context;
use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// A local HTTP loop beats every five seconds ([`http::BEAT`]).
const HTTP_ALLOWANCE: Duration = Duration::from_secs(20);
/// The list of containers turns every ten seconds; a hung Docker holds a turn
/// for five times `docker.timeout` at most, which is added.
const LIST_ALLOWANCE: Duration = Duration::from_secs(30);

/// The house in operation.
pub struct Rooms {
    pub origin: config::Origin,
    pub settings: Settings,
    pub files: Vec<PathBuf>,
    pub born: Instant,
    pub pulse: Pulse,
    pub telemetry: Telemetry,
    pub identity: Identity,
    pub supervise: supervise::Handle,
    pub machine: machine::Handle,
    pub jobs: jobs::Handle,
    pub housekeeping: housekeeping::Handle,
    pub logs: logs::Handle,
    pub metrics: Arc<Metrics>,
    pub heartbeat: Arc<Heartbeat>,
    /// Config facts for status; changed by reload, read by the control socket.
    pub config_state: Arc<snapshot::ConfigState>,
    /// Ends inputs, listeners and supervision.
    pub intake: CancellationToken,
    /// Ends outputs.
    pub drain: CancellationToken,
    pub tasks: JoinSet<String>,
    pub running: BTreeSet<String>,
    ready: Option<Ready>,
    /// Keeps other agents from the state directory.
    _claim: Claim,
}

/// What waits to be spawned.
struct Ready {
    supervisor: supervise::Supervisor,
    machine: machine::room::Machine,
    revival: machine::revival::Revival,
    jobs: jobs::Jobs,
    housekeeping: housekeeping::Housekeeping,
    logs: logs::Logs,
    forward: Vec<Listener>,
    metrics: Vec<Listener>,
    containers: Vec<Listener>,
    container_metrics: Option<(ContainerMetrics, Lister)>,
    /// None where that collector is off: then nobody goes near the bus.
    units: Option<metrics::systemd::Reader>,
    heartbeat: Vec<Listener>,
    control: Listener,
    resolver: Resolver,
}

impl Rooms {
    /// Binds and opens everything; the first thing that cannot be had ends the start.
    pub fn open(
        origin: config::Origin,
        loaded: Loaded,
        mut inherited: Inherited,
        telemetry: Telemetry,
    ) -> anyhow::Result<Rooms> {
        let Loaded {
            settings, files, ..
        } = loaded;
        let born = Instant::now();
        let pulse = Pulse::default();
        let registry = prometheus::Registry::new();
        let resolver = Resolver::new("/etc/resolv.conf".into());
        let identity = Identity::new(settings.node.clone());

        state_directory(&settings.agent.state_dir)?;
        let state = claim(&settings.agent.state_dir)?;
        // The control socket before the others: its holder is another agent.
        let control = control_socket(&settings.agent.control)?;
        let forward_addresses: Vec<Address> = settings
            .logs
            .inputs
            .iter()
            .flat_map(|input| input.listen.clone())
            .collect();
        let forward = listeners(&mut inherited, "forward", &forward_addresses)?;
        let metrics_listeners = listeners(&mut inherited, "metrics", &settings.metrics.listen)?;
        let addresses = &settings.container_metrics.listen;
        let containers_listeners = listeners(&mut inherited, "containers", addresses)?;
        let heartbeat_listeners = listeners(&mut inherited, "heartbeat", &settings.heartbeat)?;

        for name in inherited.left() {
            warn!(
                name,
                "a socket handed over by systemd has a name that nothing uses: forward, metrics, containers, heartbeat"
            );
        }

        let (logs, logs_room) = logs::open(logs::Parts {
            settings: settings.logs.clone(),
            facts: identity.facts(),
            resolver: resolver.clone(),
            registry: registry.clone(),
            pulse: pulse.clone(),
        })?;
        let (supervise, supervisor) = supervise::new(supervise::Parts {
            settings: settings.containers.clone(),
            docker: settings.docker.clone(),
            log_address: log_address(&forward),
            facts: identity.facts(),
            memory: settings.agent.state_dir.join("supervise.json"),
            boot: boot::id(),
            registry: registry.clone(),
            pulse: pulse.clone(),
            credentials: supervise::pull::Credentials {
                dynamic: None,
                directory: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            },
        });
        let (jobs, jobs_room) = jobs::new(jobs::Parts {
            settings: settings.jobs.clone(),
            docker: supervisor.docker(),
            puller: supervisor.puller(),
            log_address: log_address(&forward),
            memory: settings.agent.state_dir.join("jobs.json"),
            registry: registry.clone(),
            pulse: pulse.clone(),
            clock: Arc::new(SystemTime::now),
        });
        let (housekeeping, housekeeping_room) = housekeeping::new(housekeeping::Parts {
            settings: settings.containers.housekeeping.clone(),
            docker: supervisor.docker(),
            puller: supervisor.puller(),
            supervise: supervise.clone(),
            jobs: jobs.clone(),
            registry: registry.clone(),
        });
        // A bus for each: a call that hangs costs those who share its connection.
        let (machine, machine_room, revival) = machine::new(machine::Parts {
            settings: settings.machine.clone(),
            bus: Bus::system(),
            supervise: supervise.clone(),
            docker_socket: settings.docker.socket.clone(),
            reboot_file: machine::REBOOT_REQUIRED.into(),
            registry: registry.clone(),
        });
        let units = &settings.metrics.options.systemd;
        let (asker, units) = metrics::systemd::open(units, Systemd1::new(Bus::system()));
        let metrics = Metrics::new(&settings.metrics, registry, &asker);
        let units = settings.metrics.has("systemd").then_some(units);
        let container_metrics = (!containers_listeners.is_empty()).then(|| {
            containers::open(containers::Parts {
                settings: settings.container_metrics.clone(),
                docker: settings.docker.clone(),
                roots: settings.metrics.roots.clone(),
                supervise: supervise.clone(),
            })
        });
        let heartbeat = Arc::new(Heartbeat {
            supervise: supervise.clone(),
            machine: machine.clone(),
            logs: logs.clone(),
            pulse: pulse.clone(),
        });
        Ok(Rooms {
            config_state: Arc::new(snapshot::ConfigState::new(&files, SystemTime::now())),
            origin,
            settings,
            files,
            born,
            pulse,
            telemetry,
            identity,
            supervise,
            machine,
            jobs,
            housekeeping,
            logs,
            metrics,
            heartbeat,
            intake: CancellationToken::new(),
            drain: CancellationToken::new(),
            tasks: JoinSet::new(),
            running: BTreeSet::new(),
            _claim: state,
            ready: Some(Ready {
                supervisor,
                machine: machine_room,
                revival,
                jobs: jobs_room,
                housekeeping: housekeeping_room,
                logs: logs_room,
                forward,
                metrics: metrics_listeners,
                containers: containers_listeners,
                container_metrics,
                units,
                heartbeat: heartbeat_listeners,
                control,
                resolver,
            }),
        })
    }

    /// Starts every room. A second call does nothing.
    pub fn spawn(&mut self, commands: &mpsc::Sender<Command>) {
        let Some(ready) = self.ready.take() else {
            return;
        };
        let control = Control {
            snapshot: snapshot::source(self),
            supervise: self.supervise.clone(),
            jobs: self.jobs.clone(),
            commands: commands.clone(),
        };
        self.serve("control", vec![ready.control], None, Arc::new(control));
        self.serve("heartbeat", ready.heartbeat, None, self.heartbeat.clone());
        let (door, handler) = self.metrics.front();
        self.serve("metrics", ready.metrics, door, handler);
        if let Some((pages, lister)) = ready.container_metrics {
            self.serve("container metrics", ready.containers, None, Arc::new(pages));
            let allowance = LIST_ALLOWANCE + self.settings.docker.timeout * 5;
            let beat = self.pulse.register("container list", allowance);
            self.start("container list", lister.run(beat, self.intake.clone()));
        }
        if let Some(reader) = ready.units {
            let allowance = metrics::systemd::ALLOWANCE;
            let beat = self.pulse.register("systemd units", allowance);
            self.start("systemd units", reader.run(beat, self.intake.clone()));
        }
        let (intake, drain) = (self.intake.clone(), self.drain.clone());
        self.start("logs", ready.logs.run(ready.forward, intake.clone(), drain));
        self.start("supervision", ready.supervisor.run(intake.clone()));
        self.start("jobs", ready.jobs.run(intake.clone()));
        let beat = self.pulse.register("host", machine::room::ALLOWANCE);
        self.start("host", ready.machine.run(beat, intake.clone()));
        let beat = self
            .pulse
            .register("docker revival", machine::revival::ALLOWANCE);
        self.start("docker revival", ready.revival.run(beat, intake.clone()));
        let allowance = housekeeping::ALLOWANCE + self.settings.docker.timeout * 5;
        let beat = self.pulse.register("housekeeping", allowance);
        let housekeeping = ready.housekeeping.run(beat, intake.clone());
        self.start("housekeeping", housekeeping);
        let metadata = self.identity.clone().learn_metadata(
            self.settings.cloud.clone(),
            ready.resolver,
            intake,
        );
        self.start("metadata", metadata);
    }

    fn serve(
        &mut self,
        room: &str,
        listeners: Vec<Listener>,
        door: Option<Arc<dyn Door>>,
        handler: Arc<dyn Handler>,
    ) {
        for listener in listeners {
            let name = format!("{room} on {}", listener.address());
            let beat = self.pulse.register(name.clone(), HTTP_ALLOWANCE);
            let server = http::serve(
                listener,
                door.clone(),
                handler.clone(),
                beat,
                self.intake.clone(),
            );
            self.start(&name, server);
        }
    }

    fn start(&mut self, name: &str, room: impl Future<Output = ()> + Send + 'static) {
        self.running.insert(name.to_owned());
        let name = name.to_owned();
        self.tasks.spawn(async move {
            room.await;
            name
        });
    }

    /// Waits for a room to end; for ever while none does. Cancel-safe.
    pub async fn ended(&mut self) -> String {
        let name = match self.tasks.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(error)) => format!("a room ({error})"),
            None => std::future::pending().await,
        };
        self.running.remove(&name);
        name
    }

    /// One line for `systemctl status`.
    pub fn status_text(&self) -> String {
        let verdict = self.heartbeat.verdict();
        let status = self.supervise.status();
        let well = status.containers.iter().filter(|one| one.is_well()).count();
        let n_all = status.containers.len();
        if self.machine.status().leaving {
            let left = status.containers.iter().filter(|one| one.phase.may_run());
            let n_left = left.count();
            return format!("draining, the host shuts down: {n_left} of {n_all} containers left");
        }
        let counts = format!("{well} of {n_all} containers well");
        match verdict.reasons().first() {
            None => format!("healthy: {counts}"),
            Some(reason) => format!("degraded: {counts}; {reason}"),
        }
    }

    pub fn files_text(&self) -> String {
        if self.files.is_empty() {
            return "built-in default".into();
        }
        let names: Vec<String> = self.files.iter().map(|f| f.display().to_string()).collect();
        names.join(", ")
    }
}

/// Makes the state directory, for us alone. One that somebody else owns is
/// refused: in a shared place such as /tmp it may be a trap.
fn state_directory(path: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.with_context(|| format!("cannot make the state directory {}", path.display()))?;
    let found = std::fs::metadata(path)
        .with_context(|| format!("cannot look at the state directory {}", path.display()))?;
    let us = rustix::process::geteuid();
    anyhow::ensure!(
        us.is_root() || found.uid() == us.as_raw(),
        "the state directory {} belongs to uid {}, not to us (uid {us}): set --state-dir",
        path.display(),
        found.uid()
    );
    Ok(())
}

fn control_socket(path: &Path) -> anyhow::Result<Listener> {
    let bound = sockets::bind(&Address::Unix(path.into()));
    let held = matches!(bound, Err(BindError::InUse { .. }));
    let bound = bound.map_err(anyhow::Error::from);
    if held {
        return bound.context("is another agent running?");
    }
    bound
}

/// systemd's listeners of that name where it holds any, else our own.
fn listeners(
    inherited: &mut Inherited,
    name: &str,
    addresses: &[Address],
) -> anyhow::Result<Vec<Listener>> {
    let held = inherited.take(name)?;
    if !held.is_empty() {
        return Ok(held);
    }
    addresses
        .iter()
        .map(|address| sockets::bind(address).map_err(anyhow::Error::from))
        .collect()
}

/// Where Docker's log driver shall send: the unix socket, which needs no port, before TCP.
fn log_address(forward: &[Listener]) -> Option<String> {
    let unix = forward.iter().find_map(|one| match one {
        Listener::Unix(_) => one
            .address()
            .strip_prefix("unix:")
            .map(|p| format!("unix://{p}")),
        Listener::Tcp(_) => None,
    });
    unix.or_else(|| {
        let tcp = forward.iter().find(|one| matches!(one, Listener::Tcp(_)))?;
        Some(format!(
            "tcp://{}",
            tcp.address().replace("0.0.0.0", "127.0.0.1")
        ))
    })
}
