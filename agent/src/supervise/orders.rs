//! What operators order of the supervisor: done to each container that is
//! meant, written down, and remembered over restarts of the agent.

use super::audit::{Actor, Record};
use super::memory;
use super::mind::Goal;
use super::supervisor::{Member, Supervisor};
use super::{Command, CommandError, Haste, Phase, Target};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The operator has a container left alone.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Pause {
    Forever,
    Until(Instant),
}

/// What an operator wants.
#[derive(Clone, Copy)]
struct Order {
    goal: Goal,
    turn: u64,
    haste: Haste,
}

impl Order {
    fn run(turn: u64) -> Order {
        Order {
            goal: Goal::Run,
            turn,
            haste: Haste::default(),
        }
    }
}

impl Member {
    pub(super) fn phase(&self) -> Phase {
        let told = self.report.as_ref();
        told.map_or(Phase::Unknown, |report| report.status.phase)
    }
}

impl Supervisor {
    /// What is ordered, but that nothing runs on a host that goes down.
    pub(super) fn goal_of(&self, member: &Member) -> Goal {
        match (member.goal, self.departure) {
            (Goal::Run, Some(_)) => Goal::Stop,
            (goal, _) => goal,
        }
    }

    pub(super) fn obey(&mut self, command: Command) {
        // A caller that has gone needs no answer.
        match command {
            Command::Reload(settings, reply) => {
                let changes = self.plan(settings);
                self.publish();
                let _ = reply.send(changes);
            }
            Command::Restart(name, reply) => {
                let order = Order::run(1);
                let _ = reply.send(self.aim(&Target::Named(name), "restart", order));
            }
            Command::Stop(target, haste, reply) => {
                let order = Order {
                    goal: Goal::Stop,
                    turn: 0,
                    haste,
                };
                let _ = reply.send(self.aim(&target, "stop", order));
            }
            Command::Start(target, reply) => {
                let _ = reply.send(self.aim(&target, "start", Order::run(0)));
            }
            Command::Pause(target, time, reply) => {
                let pause = match time {
                    Some(time) => Pause::Until(Instant::now() + time),
                    None => Pause::Forever,
                };
                let _ = reply.send(self.pause(&target, Some(pause)));
            }
            Command::Resume(target, reply) => {
                let _ = reply.send(self.pause(&target, None));
            }
            Command::Host(within) => self.host(within),
        }
    }

    /// The host goes down, or stays up after all.
    fn host(&mut self, within: Option<Duration>) {
        let departure = within.map(|within| Instant::now() + within);
        let reason = match (self.departure, departure) {
            (None, Some(_)) => "the host shuts down",
            (Some(_), None) => "the host does not shut down after all",
            _ => return,
        };
        self.departure = departure;
        for (name, member) in &self.members {
            let phase = member.phase().word();
            self.ground.audit.record(Record {
                container: name.clone(),
                from: phase,
                to: phase,
                reason: reason.into(),
                actor: Actor::Outside,
            });
        }
        self.publish();
    }

    fn aim(
        &mut self,
        target: &Target,
        what: &'static str,
        order: Order,
    ) -> Result<(), CommandError> {
        let deadline = order.haste.within.map(|within| Instant::now() + within);
        self.each(target, what, |member| {
            member.goal = order.goal;
            member.turn += order.turn;
            member.hurry = order.haste.now;
            member.deadline = deadline;
        })
    }

    fn pause(&mut self, target: &Target, pause: Option<Pause>) -> Result<(), CommandError> {
        let what = if pause.is_some() { "pause" } else { "resume" };
        self.each(target, what, |member| member.pause = pause)
    }

    /// What an operator orders is done to each that is meant, and written down.
    fn each(
        &mut self,
        target: &Target,
        what: &'static str,
        mut order: impl FnMut(&mut Member),
    ) -> Result<(), CommandError> {
        let mut known = *target == Target::All;
        for (name, member) in &mut self.members {
            let meant = match target {
                Target::All => true,
                Target::Named(named) => named == name,
            };
            if meant && member.goal != Goal::Remove {
                known = true;
                order(member);
                let phase = member.phase().word();
                self.ground.audit.record(Record {
                    container: name.clone(),
                    from: phase,
                    to: phase,
                    reason: format!("{what} is ordered"),
                    actor: Actor::Operator,
                });
            }
        }
        self.note_orders();
        // Whoever waits for the outcome sees the order in the status before its effects.
        self.publish();
        match (known, target) {
            (false, Target::Named(name)) => Err(CommandError::Unknown(name.clone())),
            _ => Ok(()),
        }
    }

    /// Orders outlive the agent.
    fn note_orders(&mut self) {
        let now = Instant::now();
        for (name, member) in &self.members {
            let entry = self.remembered.entry(name.clone()).or_default();
            let stopped = member.goal == Goal::Stop;
            let paused_until = match member.pause {
                None => None,
                Some(Pause::Forever) => Some(0),
                Some(Pause::Until(at)) => {
                    let left = at.saturating_duration_since(now);
                    Some(memory::millis(SystemTime::now() + left))
                }
            };
            if entry.stopped != stopped || entry.paused_until != paused_until {
                entry.stopped = stopped;
                entry.paused_until = paused_until;
                self.dirty = true;
            }
        }
    }

    pub(super) fn end_pauses(&mut self, now: Instant) {
        let mut ended = false;
        for (name, member) in &mut self.members {
            if matches!(member.pause, Some(Pause::Until(at)) if at <= now) {
                tracing::info!(container = %name, "pause is over");
                member.pause = None;
                ended = true;
            }
        }
        if ended {
            self.note_orders();
        }
    }
}

/// A pause that an earlier agent was told of, if any of it is left.
pub(super) fn remembered_pause(until: u64) -> Option<Pause> {
    if until == 0 {
        return Some(Pause::Forever);
    }
    let left = until.checked_sub(memory::millis(SystemTime::now()))?;
    Some(Pause::Until(Instant::now() + Duration::from_millis(left)))
}
