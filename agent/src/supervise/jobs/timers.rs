//! What time alone does to a job's runs: waits end, deadlines come, signals follow.
//! Nothing is begun while Docker is away.

use super::job::{RETRY, TOLERANCE};
use super::settings::{Job as Policy, Overlap};
use super::state::{Effect, Job, Now, Run, Stage, Why, millis};
use std::time::Duration;
use tokio::time::Instant;

/// Between SIGKILL and the next SIGKILL, for a process stuck in the kernel.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// Does what is due by `now`.
pub fn settle(job: &mut Job, now: &Now, policy: &Policy, effects: &mut Vec<Effect>) {
    let oldest = job.runs.first().map(|run| run.number);
    let replaces = policy.overlap == Overlap::Replace;
    for run in &mut job.runs {
        let is_held_up = replaces && oldest != Some(run.number);
        settle_run(run, is_held_up, now, policy, effects);
    }
}

fn settle_run(
    run: &mut Run,
    is_held_up: bool,
    now: &Now,
    policy: &Policy,
    effects: &mut Vec<Effect>,
) {
    let key = run.key();
    let is_late = run.attempt == 1 && is_late(run, now, policy);
    match &mut run.stage {
        Stage::Queued => {
            if now.docker && !is_held_up {
                run.stage = asked();
                effects.push(Effect::Launch { key, late: is_late });
            }
        }
        Stage::Starting { asked, again, .. } => {
            if now.docker && !*asked && again.is_none_or(|again| again <= now.mono) {
                *asked = true;
                effects.push(Effect::Launch { key, late: is_late });
            }
        }
        Stage::Running {
            id,
            since,
            deadline,
        } => {
            if deadline.is_none() {
                *deadline = policy.timeout.map(|timeout| {
                    let spent = u64::try_from(now.wall - *since).unwrap_or_default();
                    now.mono + timeout.saturating_sub(Duration::from_millis(spent))
                });
            }
            if now.docker && deadline.is_some_and(|deadline| deadline <= now.mono) {
                effects.push(Effect::Stop(id.clone()));
                run.stage = Stage::Stopping {
                    id: std::mem::take(id),
                    since: *since,
                    why: Why::Timeout,
                    until: Some(now.mono + policy.stop_grace_period),
                };
            }
        }
        Stage::Stopping { id, until, .. } if now.docker => match until {
            None => {
                *until = Some(now.mono + policy.stop_grace_period);
                effects.push(Effect::Stop(id.clone()));
            }
            Some(at) if *at <= now.mono => {
                *until = Some(now.mono + KILL_AGAIN);
                effects.push(Effect::Kill(id.clone()));
            }
            Some(_) => {}
        },
        Stage::Stopping { .. } => {}
        Stage::Waiting { until, at } => {
            let left = u64::try_from(*until - now.wall).unwrap_or_default();
            // A clock that was moved meanwhile makes no wait longer than the longest.
            let left = Duration::from_millis(left).min(RETRY.cap);
            let at = *at.get_or_insert(now.mono + left);
            if now.docker && at <= now.mono {
                run.attempt += 1;
                run.stage = asked();
                effects.push(Effect::Launch {
                    key: run.key(),
                    late: false,
                });
            }
        }
    }
}

fn asked() -> Stage {
    Stage::Starting {
        asked: true,
        again: None,
        stop: None,
    }
}

/// A run that was written down long ago and perhaps never begun.
fn is_late(run: &Run, now: &Now, policy: &Policy) -> bool {
    let most = if policy.catch_up {
        policy.catch_up_within.max(TOLERANCE)
    } else {
        TOLERANCE
    };
    run.due.is_some() && now.wall - run.begun > millis(most)
}

/// When [`settle`] has something to do for the runs, at the latest.
pub fn due(job: &Job, docker: bool) -> Option<Instant> {
    let due = |run: &Run| match run.stage {
        Stage::Running { deadline, .. } => deadline,
        Stage::Stopping { until, .. } => until,
        Stage::Waiting { at, .. } => at,
        Stage::Starting {
            asked: false,
            again,
            ..
        } => again,
        Stage::Queued | Stage::Starting { .. } => None,
    };
    job.runs.iter().filter(|_| docker).filter_map(due).min()
}
