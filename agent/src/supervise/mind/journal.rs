//! Why a mind did what it did, in words for the audit log and the status.

use super::{Goal, Mind, Note};
use crate::supervise::audit::{Actor, Record};
use crate::supervise::state::{Event, State, Then};
use crate::supervise::{ExitClass, Phase};

impl Mind {
    /// A line for the audit log: a phase has changed.
    pub(super) fn audit(&mut self, from: Phase, to: Phase, event: Event) {
        let actor = match event {
            Event::Wish(_) | Event::Turn if self.now.goal != Goal::Run || self.forced => {
                Actor::Operator
            }
            Event::Wish(_) | Event::Turn => Actor::Config,
            Event::Vanished => Actor::Outside,
            Event::Exited(exit) if exit.class == ExitClass::External => Actor::Outside,
            _ => Actor::Agent,
        };
        let reason = self.reason(event);
        self.notes.push(Note::Audit(Record {
            container: self.name().to_owned(),
            from: from.word(),
            to: to.word(),
            reason,
            actor,
        }));
    }

    /// A line for the audit log: something is about to be done to Docker.
    pub(super) fn record(&mut self, what: &'static str) {
        let phase = self.state.phase().word();
        self.notes.push(Note::Audit(Record {
            container: self.name().to_owned(),
            from: phase,
            to: phase,
            reason: what.to_owned(),
            actor: Actor::Agent,
        }));
    }

    fn reason(&self, event: Event) -> String {
        let told = || self.message.clone();
        match event {
            Event::Sighted(_) => "found so".to_owned(),
            Event::Wish(wish) => format!("{wish:?} is wanted").to_lowercase(),
            Event::Turn => "its turn to be replaced".to_owned(),
            Event::Released => "what it depends on is there".to_owned(),
            Event::Fetched => "image is here".to_owned(),
            Event::Launched | Event::Doubled => "started".to_owned(),
            Event::FetchFailed(_)
            | Event::LaunchFailed(_)
            | Event::Exited(_)
            | Event::NeverStarted
            | Event::Lifeless
            | Event::Vanished => told().unwrap_or_else(|| "failed".to_owned()),
            Event::Drained => "no connections are open".to_owned(),
            Event::DoubleReady => "the new one is ready".to_owned(),
            Event::DoubleFailed | Event::Cleared => "the new one is no good".to_owned(),
            Event::Started | Event::Ready(_) => "probe".to_owned(),
            Event::Removed | Event::RemoveFailed => "removal".to_owned(),
            Event::Due => match &self.state {
                State::Stopping { killed: true, .. } => "grace period is over".to_owned(),
                State::Stopping { .. } | State::Draining { .. } => "time is up".to_owned(),
                _ => "its wait is over".to_owned(),
            },
        }
    }
}

impl Then {
    /// As status shows it.
    pub fn word(self) -> &'static str {
        match self {
            Then::Launch => "to be started again",
            Then::Rest => "to stay stopped",
            Then::Remove => "to be removed",
            Then::Again(_) => "given up by a probe",
            Then::Promote => "its successor is ready",
        }
    }
}
