//! What is shown of a job.

use super::settings::Job as Policy;
use super::state::{Cause, Job, Record, Run, Stage};
use super::{JobStatus, RecordStatus, RunStatus};
use std::time::{Duration, SystemTime};

pub fn status(policy: &Policy, job: &Job) -> JobStatus {
    JobStatus {
        name: policy.name.clone(),
        image: policy.spec.image.clone(),
        schedule: policy.schedule.text().to_owned(),
        time_zone: policy.schedule.zone().to_owned(),
        next_run: job.next_run(policy).map(time),
        runs: job.runs.iter().map(run).collect(),
        history: job.history.iter().rev().map(record).collect(),
        message: job.message.clone(),
    }
}

fn run(run: &Run) -> RunStatus {
    let (state, started_at) = match &run.stage {
        Stage::Queued => ("queued", None),
        Stage::Starting { .. } => ("starting", None),
        Stage::Running { since, .. } => ("running", Some(*since)),
        Stage::Stopping { since, .. } => ("stopping", Some(*since)),
        Stage::Waiting { .. } => ("backoff", None),
    };
    RunStatus {
        number: run.number,
        attempt: run.attempt,
        cause: run.cause,
        state,
        begun: time(run.begun),
        id: run.id().map(str::to_owned),
        started_at: started_at.map(time),
        reason: run.reason.clone(),
    }
}

fn record(record: &Record) -> RecordStatus {
    RecordStatus {
        number: record.number,
        attempt: record.attempt,
        cause: record.cause,
        begun: time(record.begun),
        ended: time(record.ended),
        code: record.code,
        class: record.class,
        reason: record.reason.clone(),
    }
}

/// As logs and status show it.
pub fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Schedule => "schedule",
        Cause::CatchUp => "catch_up",
        Cause::Operator => "operator",
    }
}

fn time(unix_millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(unix_millis).unwrap_or_default())
}
