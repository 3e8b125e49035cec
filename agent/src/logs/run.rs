//! The room at work: tasks, their order of stopping, reload, status.

use super::buffer::{self, Buffer, Intake, Writer};
use super::enrich::Shaper;
use super::output::{self, Ending, Link, Progress};
use super::{NotLive, OpenError, OutputStatus, Parts, Settings, Status, forward};
use crate::dns::Resolver;
use crate::facts::Facts;
use crate::listener::Listener;
use crate::pulse::Pulse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Appends that wait for the writer.
const QUEUE: usize = 256;
/// The writer promises a turn in five seconds, but a sync of a busy disk may take long.
const WRITER_ALLOWANCE: Duration = Duration::from_secs(60);
const LISTENER_ALLOWANCE: Duration = Duration::from_secs(30);
/// Between intake and sealing: how long connections may take to end.
const INTAKE_GRACE: Duration = Duration::from_secs(2);

struct Reload {
    settings: Settings,
    done: oneshot::Sender<Result<(), Vec<NotLive>>>,
}

/// A cheap end for reporters and reloads.
#[derive(Clone)]
pub struct Handle {
    reloads: mpsc::Sender<Reload>,
    shared: Arc<Shared>,
}

struct Shared {
    buffer: Buffer,
    inputs: forward::Telemetry,
    /// In the order of the config.
    outputs: Mutex<Vec<(&'static str, Arc<Progress>)>>,
}

impl Handle {
    /// As of now; never waits.
    pub fn status(&self) -> Status {
        let buffer = self.shared.buffer.status();
        let outputs = self
            .shared
            .outputs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let outputs = outputs.iter().map(|(kind, progress)| {
            let cursor = buffer
                .cursors
                .iter()
                .find(|cursor| cursor.output == progress.name());
            OutputStatus {
                name: progress.name().into(),
                kind,
                records_out: progress.records(),
                pending_bytes: cursor.map_or(0, |cursor| cursor.pending_bytes),
                oldest: cursor.and_then(|cursor| cursor.oldest),
                last_error: progress.last_error(),
            }
        });
        Status {
            outputs: outputs.collect(),
            accepting: buffer.accepting,
            records_in: self.shared.inputs.records_in(),
            records_unparsed: self.shared.inputs.records_unparsed(),
            bad_frames: self.shared.inputs.bad_frames(),
            connections: self.shared.inputs.connections(),
            buffered_bytes: buffer.bytes,
            buffer_limit: buffer.limit,
            oldest: buffer.oldest,
            dropped: buffer.dropped,
            error: buffer.error,
        }
    }

    /// Applies enrichment, parsing and outputs live; refuses what cannot change
    /// (inputs, buffer) by name and then applies nothing. A changed output goes
    /// on at its checkpoint, a new one starts at the oldest record, a removed
    /// one gives its place up. After the room has stopped it does nothing.
    pub async fn reload(&self, settings: Settings) -> Result<(), Vec<NotLive>> {
        let (done, answer) = oneshot::channel();
        let reload = Reload { settings, done };
        if self.reloads.send(reload).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }
}

/// The room, opened.
pub struct Logs {
    settings: Settings,
    facts: watch::Receiver<Arc<Facts>>,
    resolver: Resolver,
    pulse: Pulse,
    writer: Writer,
    shared: Arc<Shared>,
    outputs: output::Telemetry,
    reloads: mpsc::Receiver<Reload>,
}

/// Opens the buffer (recovering it) and makes the room; nothing runs until [`Logs::run`].
/// Reads up to one chunk from disk: call it before the reactor is busy.
pub fn open(parts: Parts) -> Result<(Handle, Logs), OpenError> {
    let settings = parts.settings;
    let names: Vec<&str> = settings
        .outputs
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    let (buffer, writer) =
        buffer::open(&settings.buffer, &names, &parts.registry).map_err(OpenError::Buffer)?;
    let outputs = output::Telemetry::new(&parts.registry).map_err(OpenError::Metrics)?;
    let shared = Arc::new(Shared {
        buffer,
        inputs: forward::Telemetry::new(&parts.registry),
        outputs: Mutex::default(),
    });
    let (reloads_tx, reloads) = mpsc::channel(1);
    let handle = Handle {
        reloads: reloads_tx,
        shared: shared.clone(),
    };
    let logs = Logs {
        settings,
        facts: parts.facts,
        resolver: parts.resolver,
        pulse: parts.pulse,
        writer,
        shared,
        outputs,
        reloads,
    };
    Ok((handle, logs))
}

impl Logs {
    /// Runs inputs on the ready listeners until `intake` is cancelled, then seals the
    /// buffer and lets outputs go on until `drain` is cancelled. Returns early when
    /// a part ends unasked.
    pub async fn run(
        self,
        listeners: Vec<Listener>,
        intake: CancellationToken,
        drain: CancellationToken,
    ) {
        let (entry, appends) = buffer::intake(QUEUE);
        self.run_with(listeners, entry, appends, intake, drain)
            .await;
    }

    async fn run_with(
        mut self,
        listeners: Vec<Listener>,
        entry: Intake,
        appends: mpsc::Receiver<buffer::Append>,
        intake: CancellationToken,
        drain: CancellationToken,
    ) {
        enum Event {
            Intake,
            Listener,
            Output,
            Writer,
            Facts,
            Reload(Reload),
        }
        let mut writer = match start_writer(self.writer, appends, &self.pulse) {
            Ok(ended) => ended,
            Err(error) => {
                error!(%error, "cannot start the log writer's thread");
                return;
            }
        };
        let shaper = |settings: &Settings, facts: &watch::Receiver<Arc<Facts>>| {
            Arc::new(Shaper::new(
                &settings.parse,
                &settings.enrich,
                &facts.borrow(),
            ))
        };
        let (shaper_tx, shaper_rx) = watch::channel(shaper(&self.settings, &self.facts));
        let mut inputs = JoinSet::new();
        for listener in listeners {
            let settings = input_settings(&self.settings, &listener.address());
            inputs.spawn(forward::serve(
                listener,
                settings,
                shaper_rx.clone(),
                entry.clone(),
                self.shared.inputs.clone(),
                self.pulse.register("log input", LISTENER_ALLOWANCE),
                intake.clone(),
            ));
        }
        let mut outputs = Outputs {
            shared: self.shared.clone(),
            resolver: self.resolver,
            pulse: self.pulse,
            telemetry: self.outputs,
            stop: drain.clone(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            stops: BTreeMap::new(),
        };
        outputs.adopt(&self.settings.outputs);
        let mut facts_live = true;
        loop {
            let event = tokio::select! {
                () = intake.cancelled() => Event::Intake,
                Some(_) = inputs.join_next() => Event::Listener,
                Some(_) = outputs.tasks.join_next() => Event::Output,
                _ = &mut writer => Event::Writer,
                changed = self.facts.changed(), if facts_live => {
                    facts_live = changed.is_ok();
                    Event::Facts
                }
                Some(reload) = self.reloads.recv() => Event::Reload(reload),
            };
            match event {
                Event::Intake => break,
                Event::Facts => {
                    shaper_tx.send_replace(shaper(&self.settings, &self.facts));
                }
                Event::Reload(Reload { settings, done }) => {
                    let refused = refused(&self.settings, &settings);
                    let answer = if refused.is_empty() {
                        outputs
                            .replace(&self.settings.outputs, &settings.outputs)
                            .await;
                        self.settings = settings;
                        shaper_tx.send_replace(shaper(&self.settings, &self.facts));
                        Ok(())
                    } else {
                        Err(refused)
                    };
                    let _ = done.send(answer);
                }
                Event::Listener if intake.is_cancelled() => {}
                Event::Output if drain.is_cancelled() => break,
                Event::Listener => {
                    error!("a log input ended unasked");
                    self.shared.buffer.give_up();
                    return;
                }
                Event::Output => {
                    error!("a log output ended unasked");
                    self.shared.buffer.give_up();
                    return;
                }
                Event::Writer => {
                    error!("the log writer ended unasked");
                    return;
                }
            }
        }
        self.reloads.close();
        // With the last entry gone the writer seals and ends.
        drop(entry);
        let ended = tokio::time::timeout(INTAKE_GRACE, async {
            while inputs.join_next().await.is_some() {}
        });
        tokio::select! {
            ended = ended => if ended.is_err() {
                warn!("log inputs are late and are cut off; their senders got no ack");
            },
            () = drain.cancelled() => {}
        }
        inputs.shutdown().await;
        // Done, each of them, once the sealed rest is delivered; or stopped by `drain`.
        while outputs.tasks.join_next().await.is_some() {}
        self.shared.buffer.give_up();
        if tokio::time::timeout(INTAKE_GRACE, writer).await.is_err() {
            warn!("the log writer is late");
        }
        let left = self.shared.buffer.status();
        info!(bytes = left.bytes, "log path stopped");
    }
}

/// Resolves when the thread has ended, in whatever way.
fn start_writer(
    writer: Writer,
    appends: mpsc::Receiver<buffer::Append>,
    pulse: &Pulse,
) -> std::io::Result<oneshot::Receiver<()>> {
    let beat = pulse.register("log writer", WRITER_ALLOWANCE);
    let (ended, writer_ended) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("log writer".into())
        .spawn(move || {
            writer.run(appends, &|| beat.beat());
            drop(ended);
        })?;
    Ok(writer_ended)
}

/// What holds for the listener at `address`: the settings of the input that names it. A socket
/// that systemd hands over at an address that no input names belongs to the first input.
fn input_settings(settings: &Settings, address: &str) -> forward::Settings {
    let names_it = |input: &&forward::Settings| {
        let mut listen = input.listen.iter();
        listen.any(|one| one.to_string() == address)
    };
    settings
        .inputs
        .iter()
        .find(names_it)
        .or(settings.inputs.first())
        .cloned()
        .unwrap_or_else(|| forward::Settings {
            name: "forward".into(),
            listen: super::default_listen(),
            max_frame: 16 << 20,
            frame_timeout: Duration::from_secs(60),
        })
}

fn refused(old: &Settings, new: &Settings) -> Vec<NotLive> {
    let (a, b) = (&old.buffer, &new.buffer);
    [
        ("logs.inputs", old.inputs != new.inputs),
        ("logs.buffer.dir", a.dir != b.dir),
        ("logs.buffer.chunk_size", a.chunk_size != b.chunk_size),
        ("logs.buffer.max_chunks", a.max_chunks != b.max_chunks),
        (
            "logs.buffer.flush_interval",
            a.flush_interval != b.flush_interval,
        ),
        (
            "logs.buffer.sync_interval",
            a.sync_interval != b.sync_interval,
        ),
        ("logs.buffer.when_full", a.when_full != b.when_full),
    ]
    .into_iter()
    .filter(|(_, changed)| *changed)
    .map(|(field, _)| NotLive { field })
    .collect()
}

/// The output tasks.
struct Outputs {
    shared: Arc<Shared>,
    resolver: Resolver,
    pulse: Pulse,
    telemetry: output::Telemetry,
    stop: CancellationToken,
    tasks: JoinSet<Ending>,
    running: HashMap<Id, String>,
    stops: BTreeMap<String, CancellationToken>,
}

impl Outputs {
    /// Starts what does not run yet, and shows all in the config's order.
    fn adopt(&mut self, settings: &[output::Settings]) {
        let mut known: HashMap<String, Arc<Progress>> = self
            .list()
            .drain(..)
            .map(|(_, progress)| (progress.name().to_owned(), progress))
            .collect();
        let mut list = Vec::new();
        for output in settings {
            let progress = known
                .remove(&output.name)
                .unwrap_or_else(|| Arc::new(Progress::new(&output.name, self.telemetry.clone())));
            list.push((output.kind.name(), progress.clone()));
            if !self.stops.contains_key(&output.name) {
                self.start(output, progress);
            }
        }
        *self.list() = list;
    }

    fn start(&mut self, output: &output::Settings, progress: Arc<Progress>) {
        let stop = self.stop.child_token();
        let name = &output.name;
        let beat = self
            .pulse
            .register(format!("log output {name}"), output.kind.allowance());
        let kind = output.kind.clone();
        let resolver = self.resolver.clone();
        let shared = self.shared.clone();
        let token = stop.clone();
        let task = self.tasks.spawn(async move {
            let open = || shared.buffer.reader(progress.name(), kind.follow());
            let Some(reader) = output::opened(open, &progress, &beat, &token).await else {
                return Ending::Stopped;
            };
            let link = Link {
                reader,
                resolver,
                progress,
                beat,
                stop: token,
            };
            output::run(kind, link).await
        });
        self.running.insert(task.id(), name.clone());
        self.stops.insert(name.clone(), stop);
    }

    /// Stops what changed or went, then starts what changed or came.
    async fn replace(&mut self, old: &[output::Settings], new: &[output::Settings]) {
        let gone: Vec<&output::Settings> =
            old.iter().filter(|output| !new.contains(output)).collect();
        for output in &gone {
            if let Some(stop) = self.stops.get(&output.name) {
                stop.cancel();
            }
        }
        while gone
            .iter()
            .any(|output| self.stops.contains_key(&output.name))
        {
            match self.tasks.join_next_with_id().await {
                Some(ended) => {
                    let id = ended
                        .as_ref()
                        .map_or_else(|error| error.id(), |(id, _)| *id);
                    if let Some(name) = self.running.remove(&id) {
                        self.stops.remove(&name);
                    }
                }
                None => self.stops.clear(),
            }
        }
        for output in gone {
            if !new.iter().any(|other| other.name == output.name) {
                self.shared.buffer.forget(&output.name);
            }
        }
        self.adopt(new);
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<(&'static str, Arc<Progress>)>> {
        self.shared
            .outputs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
