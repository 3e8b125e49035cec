//! Runs on Docker: what is begun for them, and what comes back.
//!
//! Each action is a task of its own with deadlines; its answer becomes an event.

use super::act::{self, Gone, Launch};
use super::counts::SKIPPED;
use super::report;
use super::room::Jobs;
use super::state::{Class, Effect, Event, Exit, Key, News, seconds, stamp};
use crate::chain::Chain;
use crate::docker;
use crate::docker::container::Container;
use tokio_util::sync::CancellationToken;

/// An action has come back.
pub struct Done {
    job: String,
    what: Outcome,
}

enum Outcome {
    Launched(Key, Result<Box<Container>, act::LaunchError>),
    Looked(String, Option<Gone>),
    Removed,
    /// All of a job that has left the config.
    Left(Result<(), docker::Error>),
}

impl Jobs {
    pub(super) fn perform(&mut self, name: &str, effect: Effect) {
        let docker = self.docker.clone();
        let job = name.to_owned();
        match effect {
            Effect::Launch { key, late } => self.held.push((job, key, late)),
            Effect::Cancel(key) => {
                if let Some(member) = self.members.get(name)
                    && let Some(launch) = member.launches.get(&key)
                {
                    launch.cancel();
                }
            }
            Effect::Inspect(id) => {
                self.actions.spawn(async move {
                    let gone = act::look(docker, id.clone()).await;
                    Done {
                        job,
                        what: Outcome::Looked(id, gone),
                    }
                });
            }
            Effect::Stop(id) => self.signal(job, id, None),
            Effect::Kill(id) => {
                tracing::warn!(job, "grace period is over, run is killed");
                self.signal(job, id, Some("SIGKILL"));
            }
            Effect::Remove(id) => {
                self.actions.spawn(async move {
                    if let Err(error) = act::remove(&docker, &id).await {
                        tracing::debug!(job, error = %Chain(&error), "ended run's container stays for now");
                    }
                    Done {
                        job,
                        what: Outcome::Removed,
                    }
                });
            }
            Effect::Tell(news) => self.tell(name, news),
        }
    }

    fn signal(&mut self, job: String, id: String, signal: Option<&'static str>) {
        let docker = self.docker.clone();
        self.actions.spawn(async move {
            let gone = act::signal(docker, id.clone(), signal).await;
            Done {
                job,
                what: Outcome::Looked(id, gone),
            }
        });
    }

    fn tell(&self, job: &str, news: News) {
        let counts = &self.counts;
        match news {
            News::Begun { number, cause } => {
                tracing::info!(job, run = number, cause = report::word(cause), "job begins");
            }
            News::Retry {
                number,
                attempt,
                reason,
            } => {
                tracing::warn!(
                    job,
                    run = number,
                    attempt,
                    reason,
                    "job failed, will be tried again"
                );
            }
            News::Ended(record) => {
                let result = record.class.word();
                counts.runs.with_label_values(&[job, result]).inc();
                counts
                    .last_duration
                    .with_label_values(&[job])
                    .set(seconds(record.ended - record.begun));
                if record.class == Class::Success {
                    let ended = seconds(record.ended);
                    counts.last_success.with_label_values(&[job]).set(ended);
                }
                let (run, code) = (record.number, record.code);
                let reason = record.reason.as_deref().unwrap_or_default();
                if record.class.is_failure() {
                    tracing::error!(job, run, result, ?code, reason, "job failed");
                } else {
                    tracing::info!(job, run, result, ?code, reason, "job ended");
                }
            }
            News::Skipped { due } => {
                counts.runs.with_label_values(&[job, SKIPPED]).inc();
                tracing::warn!(job, due = %stamp(due), "run skipped: the one before it is under way");
            }
            News::Missed { n } => {
                counts.missed.with_label_values(&[job]).inc_by(n as u64);
                tracing::warn!(job, times = n, "scheduled times were missed");
            }
            News::Adopted { number } => {
                tracing::info!(job, run = number, "running container of the job is adopted");
            }
        }
    }

    pub(super) fn launch(&mut self, name: String, key: Key, late: bool) {
        let Some(member) = self.members.get_mut(&name) else {
            return;
        };
        let run = member.job.runs.iter().find(|run| run.key() == key);
        let due = run.and_then(|run| run.due);
        let policy = &member.policy;
        let cancel = CancellationToken::new();
        let launch = Launch {
            docker: self.docker.clone(),
            puller: self.puller.clone(),
            job: name.clone(),
            key,
            policy: policy.clone(),
            due,
            log_address: self.log_address.clone(),
            late,
            cancel: cancel.clone(),
        };
        member.launches.insert(key, cancel);
        let launch = Box::pin(act::launch(launch));
        self.actions.spawn(async move {
            Done {
                job: name,
                what: Outcome::Launched(key, launch.await.map(Box::new)),
            }
        });
    }

    pub(super) fn done(&mut self, done: Done) {
        let Done { job, what } = done;
        match what {
            Outcome::Launched(key, answer) => {
                if let Some(member) = self.members.get_mut(&job) {
                    member.launches.remove(&key);
                }
                match answer {
                    Ok(container) => {
                        let since = container.started_at.map_or(self.now().wall, act::unix);
                        let id = container.id.clone();
                        self.feed(&job, Event::Launched { key, id, since });
                        if !container.running {
                            self.gone(&job, container.id.clone(), Gone::Dead(container));
                        }
                    }
                    Err(error) => {
                        let (failure, text) = (error.failure, error.text);
                        self.feed(&job, Event::LaunchFailed { key, failure, text });
                    }
                }
            }
            Outcome::Looked(id, Some(gone)) => self.gone(&job, id, gone),
            Outcome::Looked(_, None) | Outcome::Removed => {}
            Outcome::Left(Ok(())) => {
                let has_come_back = self.order.contains(&job);
                if !has_come_back && self.members.remove(&job).is_some() {
                    self.counts.forget(&job);
                    tracing::info!(job, "job is gone");
                }
            }
            Outcome::Left(Err(error)) => {
                tracing::debug!(job, error = %Chain(&error), "containers of a former job stay for now");
            }
        }
    }

    fn gone(&mut self, job: &str, id: String, gone: Gone) {
        let event = match gone {
            Gone::Removed => Event::Vanished { id },
            Gone::Dead(found) => {
                let at = found.finished_at.map_or(self.now().wall, act::unix);
                let exit = Exit {
                    code: found.exit_code,
                    is_oom: found.oom_killed,
                    at,
                };
                Event::Ended { id, exit }
            }
        };
        self.feed(job, event);
    }

    /// What is left of a job that has left the config.
    pub(super) fn remove_all_of(&mut self, job: String) {
        let docker = self.docker.clone();
        self.actions.spawn(async move {
            let answer = act::remove_all(docker, job.clone()).await;
            Done {
                job,
                what: Outcome::Left(answer),
            }
        });
    }
}
