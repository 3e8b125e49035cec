//! What the rooms say of themselves, in the control protocol's words.

use super::rooms::Rooms;
use crate::control::protocol::{
    Config, Container, Docker, Exit, Fact, Host, Job, JobRecord, JobRun, Logs, Metrics, Output,
    Pull, Status, Update,
};
use crate::control::serve::Snapshot;
use crate::facts::Facts;
use crate::supervise::{housekeeping, jobs};
use crate::{logs, machine, metrics, supervise};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What status shows of the config; a reload changes it.
pub struct ConfigState(Mutex<Config>);

impl ConfigState {
    pub fn new(files: &[PathBuf], loaded_at: SystemTime) -> ConfigState {
        ConfigState(Mutex::new(Config {
            files: files.iter().map(|f| f.display().to_string()).collect(),
            loaded_at: rfc3339(loaded_at),
            error: None,
        }))
    }

    /// A reload was taken.
    pub fn taken(&self, files: &[PathBuf], at: SystemTime) {
        *self.lock() = Config {
            files: files.iter().map(|f| f.display().to_string()).collect(),
            loaded_at: rfc3339(at),
            error: None,
        };
    }

    /// A reload was refused; what ran before runs on.
    pub fn refused(&self, error: String) {
        self.lock().error = Some(error);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Config> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source of snapshots that holds cheap handles only and never waits.
pub fn source(rooms: &Rooms) -> Arc<Snapshot> {
    let born = rooms.born;
    let config = rooms.config_state.clone();
    let facts = rooms.identity.facts();
    let heartbeat = rooms.heartbeat.clone();
    let supervise = rooms.supervise.clone();
    let machine = rooms.machine.clone();
    let jobs = rooms.jobs.clone();
    let housekeeping = rooms.housekeeping.clone();
    let logs = rooms.logs.clone();
    let metrics = rooms.metrics.clone();
    Arc::new(move || {
        let verdict = heartbeat.verdict();
        let containers = supervise.status();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: born.elapsed().as_secs(),
            healthy: verdict.ok,
            reasons: verdict.reasons(),
            config: config.lock().clone(),
            facts: facts_of(&facts.borrow()),
            docker: docker_of(&containers.docker, &housekeeping.status()),
            host: host_of(&machine.status()),
            containers: containers.containers.iter().map(container_of).collect(),
            jobs: jobs.status().jobs.iter().map(job_of).collect(),
            logs: logs_of(logs.status()),
            metrics: metrics_of(metrics.status()),
        }
    })
}

fn facts_of(facts: &Facts) -> BTreeMap<String, Fact> {
    let protocol = |(name, fact): (&str, &crate::facts::Fact)| {
        let fact = Fact {
            value: fact.value.clone(),
            source: fact.source.to_string(),
        };
        (name.to_owned(), fact)
    };
    facts.iter().map(protocol).collect()
}

fn docker_of(docker: &supervise::DockerStatus, house: &housekeeping::Status) -> Docker {
    Docker {
        reachable: docker.reachable,
        version: docker.version.clone(),
        since: docker.since.map(rfc3339),
        error: docker.error.clone(),
        root: house.root.as_ref().map(|root| root.display().to_string()),
        disk_used_percent: house.disk.map(|disk| disk.percent()),
    }
}

fn host_of(machine: &machine::Status) -> Host {
    let reboot_reason = machine.reboot_reason();
    Host {
        bus: machine.bus,
        systemd: machine.systemd.clone(),
        update: machine.update.as_ref().map(|update| Update {
            operation: update.operation.word().into(),
            progress: update.progress,
            new_version: update.new_version.clone(),
            last_checked: update.last_checked.map(rfc3339),
        }),
        reboot_required: reboot_reason.is_some(),
        reboot_reason,
        shutdown_inhibited: machine.inhibits,
        shutting_down: machine.leaving,
    }
}

fn container_of(one: &supervise::ContainerStatus) -> Container {
    Container {
        name: one.name.clone(),
        image: one.image.clone(),
        state: one.phase.word().into(),
        ready: one.ready,
        well: one.is_well(),
        essential: one.essential,
        id: one.id.clone(),
        pid: one.pid,
        started_at: one.started_at.map(rfc3339),
        ports: ports_of(&one.ports),
        restarts: one.restarts,
        crash_loop: one.crash_loop,
        update: one.update.map(str::to_owned),
        rolled_back: one.rolled_back,
        paused: one.paused,
        pull: one.pull.map(|pull| Pull {
            percent: pull.percent,
            done_bytes: pull.done,
            total_bytes: pull.total,
        }),
        last_exit: one.last_exit.as_ref().map(|exit| Exit {
            code: exit.code,
            class: exit.class.word().into(),
            at: rfc3339(exit.at),
        }),
        retry_at: one.retry_at.map(rfc3339),
        message: one.message.clone(),
    }
}

fn ports_of(ports: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut bound: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (port, address) in ports {
        bound.entry(port.clone()).or_default().push(address.clone());
    }
    bound
}

fn job_of(job: &jobs::JobStatus) -> Job {
    Job {
        name: job.name.clone(),
        image: job.image.clone(),
        schedule: job.schedule.clone(),
        time_zone: job.time_zone.clone(),
        state: job.word().into(),
        well: job.is_well(),
        next_run: job.next_run.map(rfc3339),
        runs: job.runs.iter().map(job_run_of).collect(),
        history: job.history.iter().map(job_record_of).collect(),
        message: job.message.clone(),
    }
}

fn job_run_of(run: &jobs::RunStatus) -> JobRun {
    JobRun {
        number: run.number,
        attempt: run.attempt,
        cause: jobs::report::word(run.cause).into(),
        state: run.state.into(),
        begun: rfc3339(run.begun),
        id: run.id.clone(),
        started_at: run.started_at.map(rfc3339),
        reason: run.reason.clone(),
    }
}

fn job_record_of(record: &jobs::RecordStatus) -> JobRecord {
    JobRecord {
        number: record.number,
        attempt: record.attempt,
        cause: jobs::report::word(record.cause).into(),
        begun: rfc3339(record.begun),
        ended: rfc3339(record.ended),
        code: record.code,
        class: record.class.word().into(),
        reason: record.reason.clone(),
    }
}

fn logs_of(status: logs::Status) -> Logs {
    Logs {
        accepting: status.accepting,
        records_in: status.records_in,
        records_unparsed: status.records_unparsed,
        bad_frames: status.bad_frames,
        connections: status.connections,
        buffered_bytes: status.buffered_bytes,
        buffer_limit_bytes: status.buffer_limit,
        oldest_seconds: status.oldest.map(whole_seconds),
        dropped: status.dropped,
        error: status.error,
        outputs: status
            .outputs
            .into_iter()
            .map(|output| Output {
                name: output.name,
                kind: output.kind.into(),
                records_out: output.records_out,
                pending_bytes: output.pending_bytes,
                oldest_seconds: output.oldest.map(whole_seconds),
                last_error: output.last_error,
            })
            .collect(),
    }
}

fn metrics_of(status: metrics::Status) -> Metrics {
    Metrics {
        scrapes: status.scrapes,
        last_seconds: status.last_duration.map(|d| d.as_secs_f64()),
        collectors_ok: status.collectors_ok,
        collectors_failed: status.collectors_failed,
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

/// UTC, whole seconds; a time outside the calendar prints as the epoch's start.
fn rfc3339(time: SystemTime) -> String {
    let timestamp = jiff::Timestamp::try_from(time).unwrap_or_default();
    format!("{timestamp:.0}")
}
