//! The composition root: it alone knows every room.
//!
//! Start: take systemd's sockets, load the config, bind, open the buffer, make
//! the rooms, spawn them, say READY. Then one loop that only receives: signals,
//! commands, the watchdog's tick, the end of a room. Nothing slow stands
//! between exec and the first heartbeat: metadata and Docker are asked later,
//! by tasks of their own.
//!
//! Stop: STOPPING, inputs and listeners close, the buffer is sealed, outputs
//! drain until the deadline; containers are Docker's and outlive us.

mod claim;
mod identity;
mod reload;
mod rooms;
mod snapshot;
mod stop;
mod watchdog;

use crate::config;
use crate::control::serve::Command;
use crate::host::notify::Notify;
use crate::host::sockets::Inherited;
use crate::telemetry::Telemetry;
use anyhow::Context;
use rooms::Rooms;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};
use watchdog::Watchdog;

/// How often the status text is renewed and the watchdog considered, if systemd asks for no faster.
const TICK: Duration = Duration::from_secs(1);

/// Runs the agent until it is told to stop. `Err` means that it could not start
/// or that a room ended unasked; systemd then restarts us.
pub fn run(origin: config::Origin) -> anyhow::Result<()> {
    let inherited = Inherited::from_env()?;
    let loaded = config::load(&origin)?;
    let telemetry = Telemetry::start(loaded.settings.telemetry);
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let notify = Notify::from_env();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_name("agent")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new().context("cannot watch signals")?;
        let rooms = Rooms::open(origin, loaded, inherited, telemetry)?;
        // On the heap: it holds every room until it is spawned.
        Box::pin(serve(rooms, &mut signals, &notify)).await
    });
    // A statfs on a dead mount may hold a blocking thread: never wait for it.
    runtime.shutdown_background();
    result
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    debug: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            debug: signal(SignalKind::user_defined1())?,
        })
    }
}

enum Event {
    Stop(&'static str),
    Hangup,
    ToggleDebug,
    Command(Command),
    RoomEnded(String),
    Tick,
}

async fn serve(mut rooms: Rooms, signals: &mut Signals, notify: &Notify) -> anyhow::Result<()> {
    let (commands_tx, mut commands) = mpsc::channel(8);
    rooms.spawn(&commands_tx);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        config = %rooms.files_text(),
        containers = rooms.settings.containers.containers.len(),
        "agent started"
    );
    notify.ready();
    let period = notify.watchdog_interval().unwrap_or(TICK).min(TICK);
    let mut tick = tokio::time::interval(period);
    let mut said = String::new();
    let mut watchdog = Watchdog::default();
    loop {
        let event = tokio::select! {
            _ = signals.terminate.recv() => Event::Stop("SIGTERM"),
            _ = signals.interrupt.recv() => Event::Stop("SIGINT"),
            _ = signals.hangup.recv() => Event::Hangup,
            _ = signals.debug.recv() => Event::ToggleDebug,
            Some(command) = commands.recv() => Event::Command(command),
            name = rooms.ended() => Event::RoomEnded(name),
            _ = tick.tick() => Event::Tick,
        };
        match event {
            Event::Tick => turn(&rooms, notify, &mut watchdog, &mut said),
            Event::Stop(signal) => {
                info!(signal, "stopping");
                notify.stopping();
                return stop::stop(rooms, notify).await;
            }
            Event::Hangup => {
                let answer = reload::reload(&mut rooms, notify).await;
                reload::log(&answer);
            }
            Event::Command(Command::Reload(reply)) => {
                let answer = reload::reload(&mut rooms, notify).await;
                reload::log(&answer);
                // The asker may have gone away; the reload stands all the same.
                let _ = reply.send(answer);
            }
            Event::ToggleDebug => {
                let level = rooms.telemetry.toggle_debug();
                warn!(%level, "log level changed by SIGUSR1");
            }
            Event::RoomEnded(name) => {
                error!(room = name, "a room ended unasked, the agent stops");
                notify.stopping();
                stop::stop(rooms, notify).await?;
                anyhow::bail!("{name} ended unasked");
            }
        }
    }
}

/// Feeds the watchdog while every loop turns, and keeps systemd's status text current.
fn turn(rooms: &Rooms, notify: &Notify, watchdog: &mut Watchdog, said: &mut String) {
    if watchdog.may_be_fed(&rooms.pulse) {
        notify.watchdog();
    }
    let text = rooms.status_text();
    if text != *said {
        notify.status(&text);
        *said = text;
    }
}
