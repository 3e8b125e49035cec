//! What a mind makes of its probes' verdicts.

use super::{Mind, Moment};
use crate::supervise::probe::{Health, Verdict};
use crate::supervise::state::{Event, Swap};

impl Mind {
    /// What the probes of the run say.
    pub fn judged(&mut self, health: &Health, moment: &Moment) {
        if self.state.running().is_none() {
            return;
        }
        match &health.startup {
            Verdict::Good if self.state.running().is_some_and(|r| !r.started) => {
                self.feed(Event::Started, moment);
            }
            Verdict::Bad(why) if self.state.running().is_some_and(|r| !r.started) => {
                self.give_up(why.clone(), Event::NeverStarted, "startup", moment);
                return;
            }
            _ => {}
        }
        self.wonder(health.doubt());
        match &health.readiness {
            Verdict::Good if self.changes_ready(true) => {
                self.message = None;
                self.feed(Event::Ready(true), moment);
            }
            Verdict::Bad(why) => {
                self.message = Some(why.clone());
                if self.changes_ready(false) {
                    self.feed(Event::Ready(false), moment);
                }
            }
            _ => {}
        }
        if let Verdict::Bad(why) = &health.liveness {
            self.give_up(why.clone(), Event::Lifeless, "liveness", moment);
        }
    }

    /// Shows why a probe cannot tell, for as long as it cannot.
    fn wonder(&mut self, doubt: Option<&str>) {
        if let Some(doubt) = doubt {
            self.message = Some(doubt.to_owned());
        } else if self.doubt.is_some() && self.message == self.doubt {
            self.message = None;
        }
        self.doubt = doubt.map(str::to_owned);
    }

    fn changes_ready(&self, to: bool) -> bool {
        let running = self.state.running();
        running.is_some_and(|running| running.ready == Some(!to))
    }

    fn give_up(&mut self, why: String, event: Event, reason: &'static str, moment: &Moment) {
        if self.now.paused {
            self.message = Some(why);
            return;
        }
        tracing::warn!(container = self.name(), why, "container is given up");
        self.message = Some(why.clone());
        self.count_restart(reason, moment);
        self.count_death();
        self.feed(event, moment);
        self.message = Some(why);
    }

    /// What the probes of the one beside it say.
    pub fn double_judged(&mut self, health: &Health, moment: &Moment) {
        let probes = &self.now.container.probes;
        match (health.ready(probes), &health.startup) {
            (Verdict::Good, _) => self.feed(Event::DoubleReady, moment),
            (_, Verdict::Bad(why)) => {
                self.message = Some(format!("the new one: {why}"));
                self.condemn("it did not start up beside the old one");
                self.feed(Event::DoubleFailed, moment);
            }
            _ => {}
        }
    }

    pub(super) fn double_died(&mut self, moment: &Moment) {
        if matches!(
            self.state.running().map(|running| running.swap),
            Some(Swap::Proving(_))
        ) {
            self.condemn("it died beside the old one");
        }
        self.feed(Event::DoubleFailed, moment);
    }
}
