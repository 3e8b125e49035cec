//! The room beside a bus that does as the test says.

use super::room::Machine;
use super::{Handle, Parts, Settings, Status};
use crate::docker;
use crate::host::bus::Bus;
use crate::host::bus::update1::Operation;
use crate::pulse::Pulse;
use crate::supervise;
use futures_util::StreamExt;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zbus::message::{Header, Type};
use zbus::{Connection, Fd, MessageStream, Variant};

const PATIENCE: Duration = Duration::from_secs(30);
const LOGIN: (&str, &str) = ("/org/freedesktop/login1", "org.freedesktop.login1.Manager");
const UPDATE: (&str, &str) = ("/com/coreos/update1", "com.coreos.update1.Manager");

/// What the services on the bus are to answer now.
#[derive(Clone)]
struct World {
    preparing: bool,
    /// None: update_engine is not there.
    operation: Option<&'static str>,
    /// Signals are sent when this changes.
    signal: Option<((&'static str, &'static str), &'static str)>,
    /// Connections of an older number are closed.
    epoch: u32,
}

/// The bus and the room on it.
struct Stage {
    _dir: TempDir,
    reboot_file: PathBuf,
    world: watch::Sender<World>,
    /// The other end of each inhibitor that was given out.
    inhibitors: Receiver<std::io::PipeReader>,
    handle: Handle,
    room: Option<Machine>,
    registry: prometheus::Registry,
    _supervisor: supervise::Supervisor,
    tasks: JoinSet<()>,
}

impl Stage {
    fn set(operation: Option<&'static str>) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bus");
        let listener = UnixListener::bind(&socket).unwrap();
        let (world, told) = watch::channel(World {
            preparing: false,
            operation,
            signal: None,
            epoch: 0,
        });
        let (given, inhibitors) = channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, told, given));
        let registry = prometheus::Registry::new();
        let (supervise, supervisor) = supervise::new(supervise::Parts {
            settings: supervise::Settings::default(),
            docker: docker::Settings {
                socket: dir.path().join("docker.sock"),
                timeout: Duration::from_millis(200),
            },
            log_address: None,
            facts: watch::channel(Arc::default()).1,
            memory: dir.path().join("supervise.json"),
            boot: "b1".into(),
            registry: registry.clone(),
            pulse: Pulse::default(),
            credentials: Default::default(),
        });
        let reboot_file = dir.path().join("reboot-required");
        let (handle, room, _) = super::new(Parts {
            settings: Settings::default(),
            bus: Bus::at(&format!("unix:path={}", socket.display())),
            supervise,
            docker_socket: "/run/docker.sock".into(),
            reboot_file: reboot_file.clone(),
            registry: registry.clone(),
        });
        Stage {
            _dir: dir,
            reboot_file,
            world,
            inhibitors,
            handle,
            room: Some(room),
            registry,
            _supervisor: supervisor,
            tasks,
        }
    }

    fn begin(&mut self) {
        let beat = Pulse::default().register("host", PATIENCE);
        let stop = CancellationToken::new();
        self.tasks.spawn(self.room.take().unwrap().run(beat, stop));
    }

    /// Waits until the room's status is so.
    async fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Arc<Status> {
        let mut status = self.handle.status.clone();
        let seen = timeout(PATIENCE, status.wait_for(|status| holds(status))).await;
        let Ok(Ok(seen)) = seen else {
            panic!("{what}: {:?}", self.handle.status());
        };
        seen.clone()
    }

    fn change(&self, edit: impl FnOnce(&mut World)) {
        self.world.send_modify(edit);
    }

    /// The next inhibitor that was taken.
    async fn taken(&self) -> std::io::PipeReader {
        loop {
            match self.inhibitors.try_recv() {
                Ok(end) => return end,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    fn series(&self, name: &str) -> Vec<(String, f64)> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        metrics
            .iter()
            .map(|one| {
                let label = one.get_label().first();
                let label = label.map(|label| label.value().to_owned());
                (label.unwrap_or_default(), one.get_gauge().get_value())
            })
            .collect()
    }
}

async fn serve(
    listener: UnixListener,
    world: watch::Receiver<World>,
    given: Sender<std::io::PipeReader>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let builder = zbus::connection::Builder::unix_stream(socket.into_std().unwrap());
        let builder = builder.server(zbus::Guid::generate()).p2p();
        connections.spawn(talk(builder, world.clone(), given.clone()));
    }
}

async fn talk(
    builder: zbus::connection::Builder<'static>,
    mut world: watch::Receiver<World>,
    given: Sender<std::io::PipeReader>,
) {
    let connection = builder.build().await.unwrap();
    let mut calls = MessageStream::from(connection.clone());
    world.mark_unchanged();
    let epoch = world.borrow().epoch;
    // As a bus, which sends what is asked for by a rule and nothing else.
    let mut hears = false;
    loop {
        tokio::select! {
            call = calls.next() => {
                let Some(Ok(call)) = call else { return };
                if call.message_type() != Type::MethodCall {
                    continue;
                }
                let now = world.borrow().clone();
                hears |= call.header().member().is_some_and(|member| member.as_str() == "AddMatch");
                answer(&connection, &call.header(), &call, &now, &given).await;
            }
            changed = world.changed() => {
                let now = world.borrow().clone();
                if changed.is_err() || now.epoch != epoch {
                    return;
                }
                if let (true, Some(((path, interface), member))) = (hears, now.signal) {
                    let body = &now.preparing;
                    let to = None::<&str>;
                    connection.emit_signal(to, path, interface, member, body).await.unwrap();
                }
            }
        }
    }
}

async fn answer(
    connection: &Connection,
    header: &Header<'_>,
    call: &zbus::Message,
    world: &World,
    given: &Sender<std::io::PipeReader>,
) {
    let member = header.member().unwrap().as_str();
    match member {
        "Hello" => connection.reply(header, &":1.7").await.unwrap(),
        "AddMatch" => connection.reply(header, &()).await.unwrap(),
        "NameHasOwner" => {
            let has = world.operation.is_some();
            connection.reply(header, &has).await.unwrap();
        }
        "GetStatus" => {
            let operation = format!("UPDATE_STATUS_{}", world.operation.unwrap());
            let status = (1_790_000_000i64, 0.5, operation, "4593.2.0", 1i64);
            connection.reply(header, &status).await.unwrap();
        }
        "Inhibit" => {
            let (end, held) = std::io::pipe().unwrap();
            let held = Fd::from(OwnedFd::from(held));
            connection.reply(header, &held).await.unwrap();
            given.send(end).unwrap();
        }
        "Get" => {
            let body = call.body();
            let (_, name): (&str, &str) = body.deserialize().unwrap();
            let value = match name {
                "PreparingForShutdown" => Variant::from(world.preparing),
                "InhibitDelayMaxUSec" => Variant::from(120_000_000u64),
                "SystemState" => Variant::from("running"),
                other => panic!("{other} is asked for"),
            };
            connection.reply(header, &value).await.unwrap();
        }
        other => panic!("{other} is called"),
    }
}

/// Whether the inhibitor has been let go; waits for it.
async fn has_ended(mut end: std::io::PipeReader) {
    let read = tokio::task::spawn_blocking(move || end.read(&mut [0]).unwrap());
    assert_eq!(timeout(PATIENCE, read).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_shutdown_waits_for_us_is_seen_at_once_and_let_go() {
    let mut stage = Stage::set(None);
    stage.begin();
    let end = stage.taken().await;
    let status = stage.until("held", |status| status.inhibits).await;
    assert_eq!((status.bus, status.leaving), (Some(true), false));
    stage
        .until("systemd", |status| {
            status.systemd.as_deref() == Some("running")
        })
        .await;
    let prepare = Some((LOGIN, "PrepareForShutdown"));
    // A signal of somebody who is not logind: it says otherwise, and it is asked.
    stage.change(|world| world.signal = prepare);
    stage.change(|world| {
        world.preparing = true;
        world.signal = prepare;
    });
    stage.until("leaving", |status| status.leaving).await;
    // There is no container.
    has_ended(end).await;
    stage
        .until("let go", |status| status.leaving && !status.inhibits)
        .await;
    assert_eq!(
        stage.series("agent_host_shutting_down"),
        [(String::new(), 1.0)]
    );
    // Called off.
    stage.change(|world| {
        world.preparing = false;
        world.signal = prepare;
    });
    stage
        .until("stays", |status| !status.leaving && status.inhibits)
        .await;
    stage.taken().await;
}

#[tokio::test]
async fn a_signal_alone_stops_nothing() {
    let mut stage = Stage::set(None);
    stage.begin();
    stage.until("held", |status| status.inhibits).await;
    let before = stage.handle.status();
    stage.change(|world| world.signal = Some((LOGIN, "PrepareForShutdown")));
    stage.change(|world| {
        world.operation = Some("IDLE");
        world.signal = Some((UPDATE, "StatusUpdate"));
    });
    // It has been heard, and asked about, when what came after it shows.
    stage
        .until("update", |status| status.update.is_some())
        .await;
    let after = stage.handle.status();
    assert_eq!(
        (before.leaving, after.leaving, after.inhibits),
        (false, false, true)
    );
}

#[tokio::test]
async fn a_bus_that_comes_back_gives_another_inhibitor_before_the_first_ends() {
    let mut stage = Stage::set(None);
    stage.begin();
    let first = stage.taken().await;
    stage.until("held", |status| status.inhibits).await;
    stage.change(|world| world.epoch += 1);
    let _second = stage.taken().await;
    has_ended(first).await;
    let status = stage.until("held again", |status| status.inhibits).await;
    assert!(!status.leaving);
}

#[tokio::test]
async fn updates_and_the_reboot_that_they_need_show_while_update_engine_is_there() {
    let mut stage = Stage::set(Some("DOWNLOADING"));
    std::fs::write(&stage.reboot_file, "").unwrap();
    stage.begin();
    let status = stage
        .until("update", |status| status.update.is_some())
        .await;
    let update = status.update.clone().unwrap();
    assert_eq!(update.operation, Operation::Downloading);
    assert!(update.last_checked.is_some());
    assert!(status.reboot_reason().unwrap().ends_with("is there"));
    std::fs::remove_file(&stage.reboot_file).unwrap();
    let signal = Some((UPDATE, "StatusUpdate"));
    stage.change(|world| {
        world.operation = Some("UPDATED_NEED_REBOOT");
        world.signal = signal;
    });
    let status = stage
        .until("installed", |status| {
            !status.reboot_file && status.reboot_reason().is_some()
        })
        .await;
    let reason = status.reboot_reason().unwrap();
    assert_eq!(reason, "update 4593.2.0 is installed");
    let is_one = |(_, value): &&(String, f64)| *value > 0.5;
    let series = stage.series("agent_host_update_status");
    let set: Vec<_> = series.iter().filter(is_one).collect();
    assert_eq!((series.len(), set.len()), (9, 1));
    assert_eq!(set[0].0, "updated_need_reboot");
    assert_eq!(stage.series("agent_host_reboot_required")[0].1, 1.0);
    // Gone: nothing is shown of it.
    stage.change(|world| {
        world.operation = None;
        world.signal = signal;
    });
    stage.until("gone", |status| status.update.is_none()).await;
    assert_eq!(stage.series("agent_host_update_status"), []);
    assert_eq!(stage.series("agent_host_reboot_required")[0].1, 0.0);
}

#[tokio::test]
async fn without_a_bus_the_room_says_so_and_still_sees_the_file() {
    let mut stage = Stage::set(None);
    stage.tasks.abort_all();
    while stage.tasks.join_next().await.is_some() {}
    std::fs::write(&stage.reboot_file, "").unwrap();
    stage.begin();
    let status = stage
        .until("no bus", |status| status.bus == Some(false))
        .await;
    assert!(status.reboot_file && !status.inhibits && status.update.is_none());
    assert_eq!(stage.series("agent_host_bus_up"), [(String::new(), 0.0)]);
}
