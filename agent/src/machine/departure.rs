//! The host's shutdown, as far as we have a say in it: a pure function of what logind says.
//!
//! logind announces a shutdown and waits for whoever holds a delay inhibitor. We hold one always,
//! stop the containers when it is announced, and let go when they have stopped or a little before
//! logind would go on without us. A shutdown that is called off brings everything back.

use std::time::Duration;
use tokio::time::Instant;

/// Kept back from logind's patience, so that it is us who let go: a tenth, within these bounds.
const LEAST_MARGIN: Duration = Duration::from_millis(300);
const MOST_MARGIN: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    #[default]
    Staying,
    /// We let go then at the latest.
    Leaving { until: Instant },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Departure {
    pub stage: Stage,
    /// We hold an inhibitor.
    pub held: bool,
    /// It may be unknown to logind by now.
    pub stale: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// What logind says, and how long it waits.
    Told { preparing: bool, patience: Duration },
    /// It took our inhibitor.
    Inhibited,
    /// logind, or the bus, went away; it may come back as another.
    Lost,
    /// No container runs any more, or none can be reached.
    Rested,
    /// Time has passed.
    Due,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Take an inhibitor, in place of what is held.
    Inhibit,
    /// Have all containers stopped within that time.
    Stop { within: Duration },
    /// Have them run again.
    Resume,
    /// End the inhibitor.
    LetGo,
}

/// What is done, in order, and how things stand then.
pub fn next(mut now: Departure, event: Event, at: Instant) -> (Departure, Vec<Act>) {
    let mut acts = Vec::new();
    match (event, now.stage) {
        (Event::Told { preparing, .. }, stage) if !preparing => {
            if stage != Stage::Staying {
                now.stage = Stage::Staying;
                acts.push(Act::Resume);
            }
            if !now.held || now.stale {
                acts.push(Act::Inhibit);
            }
        }
        (Event::Told { patience, .. }, Stage::Staying) => {
            let within = within(patience);
            now.stage = Stage::Leaving { until: at + within };
            acts.push(Act::Stop { within });
        }
        (Event::Inhibited, _) => {
            now.held = true;
            now.stale = false;
        }
        (Event::Lost, _) => now.stale = true,
        (Event::Rested, Stage::Leaving { .. }) => let_go(&mut now, &mut acts),
        (Event::Due, Stage::Leaving { until }) if until <= at => let_go(&mut now, &mut acts),
        (Event::Told { .. }, Stage::Leaving { .. }) | (Event::Rested | Event::Due, _) => {}
    }
    (now, acts)
}

fn let_go(now: &mut Departure, acts: &mut Vec<Act>) {
    if now.held {
        now.held = false;
        acts.push(Act::LetGo);
    }
}

/// How much of logind's patience is used.
pub fn within(patience: Duration) -> Duration {
    let margin = (patience / 10).clamp(LEAST_MARGIN, MOST_MARGIN);
    patience.saturating_sub(margin)
}

#[cfg(test)]
mod tests {
    use super::{Act, Departure, Event, Stage, next, within};
    use std::time::Duration;
    use tokio::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(120);
    const WITHIN: Duration = Duration::from_secs(117);
    const STAYS: Event = Event::Told {
        preparing: false,
        patience: PATIENCE,
    };
    const GOES: Event = Event::Told {
        preparing: true,
        patience: PATIENCE,
    };

    /// Goes through the events, each a second after the one before, and compares what is done.
    fn story(steps: &[(Event, &[Act])]) -> Departure {
        let mut at = Instant::now();
        let mut now = Departure::default();
        for (number, (event, expected)) in steps.iter().enumerate() {
            let (then, acts) = next(now, *event, at);
            assert_eq!(acts, *expected, "step {number}, {event:?} in {now:?}");
            now = then;
            at += Duration::from_secs(1);
        }
        now
    }

    #[test]
    fn an_inhibitor_is_held_from_the_first_answer_on_and_tried_for_until_it_is() {
        story(&[
            (STAYS, &[Act::Inhibit]),
            (STAYS, &[Act::Inhibit]),
            (Event::Inhibited, &[]),
            (STAYS, &[]),
        ]);
    }

    #[test]
    fn a_shutdown_stops_the_containers_once_and_goes_on_when_they_have_stopped() {
        let then = story(&[
            (STAYS, &[Act::Inhibit]),
            (Event::Inhibited, &[]),
            (GOES, &[Act::Stop { within: WITHIN }]),
            (GOES, &[]),
            (Event::Due, &[]),
            (Event::Rested, &[Act::LetGo]),
            (Event::Rested, &[]),
            (GOES, &[]),
        ]);
        assert!(matches!(then.stage, Stage::Leaving { .. }));
    }

    #[test]
    fn the_host_is_let_go_before_logind_loses_patience() {
        let at = Instant::now();
        let leaving = Departure {
            stage: Stage::Leaving { until: at + WITHIN },
            held: true,
            stale: false,
        };
        let early = at + WITHIN - Duration::from_millis(1);
        assert_eq!(next(leaving, Event::Due, early), (leaving, vec![]));
        let (then, acts) = next(leaving, Event::Due, at + WITHIN);
        assert_eq!((then.held, acts), (false, vec![Act::LetGo]));
    }

    #[test]
    fn a_shutdown_that_is_called_off_brings_everything_back() {
        story(&[
            (STAYS, &[Act::Inhibit]),
            (Event::Inhibited, &[]),
            (GOES, &[Act::Stop { within: WITHIN }]),
            (Event::Rested, &[Act::LetGo]),
            (STAYS, &[Act::Resume, Act::Inhibit]),
            (Event::Inhibited, &[]),
            // Called off while they still stop: what is held is still good.
            (GOES, &[Act::Stop { within: WITHIN }]),
            (STAYS, &[Act::Resume]),
        ]);
    }

    #[test]
    fn an_agent_that_starts_in_a_shutdown_stops_the_containers_without_an_inhibitor() {
        story(&[
            (GOES, &[Act::Stop { within: WITHIN }]),
            (Event::Rested, &[]),
            (STAYS, &[Act::Resume, Act::Inhibit]),
        ]);
    }

    #[test]
    fn a_lost_bus_costs_a_new_inhibitor_and_ends_no_departure() {
        story(&[
            (STAYS, &[Act::Inhibit]),
            (Event::Inhibited, &[]),
            (Event::Lost, &[]),
            (STAYS, &[Act::Inhibit]),
            (Event::Inhibited, &[]),
            (GOES, &[Act::Stop { within: WITHIN }]),
            (Event::Lost, &[]),
            (GOES, &[]),
            (Event::Rested, &[Act::LetGo]),
        ]);
    }

    #[test]
    fn the_margin_is_a_tenth_within_bounds() {
        for (patience, used) in [
            (0, 0),
            (200, 0),
            (1000, 700),
            (5000, 4500),
            (120_000, 117_000),
        ] {
            let used = Duration::from_millis(used);
            assert_eq!(within(Duration::from_millis(patience)), used);
        }
    }
}
