//! From answers to a verdict, as pure functions.
//!
//! Failures and successes count in a row. A slot that the agent or Docker
//! missed is [`Answer::Unknown`]: it flips nothing, counts for nothing and
//! breaks no row.

use crate::supervise::Probe;
use std::time::Duration;

/// A slot that begins or ends this much later than it should was missed by us.
pub const STALL: Duration = Duration::from_secs(1);

/// What a probe says of its container; a level.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Not enough answers yet.
    #[default]
    Unknown,
    Good,
    /// Which probe, what it asks, and the last answer's fault.
    Bad(String),
}

/// What one slot came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Good,
    Bad(String),
    /// Says nothing of the container: the agent, or Docker, missed the slot.
    Unknown(String),
    /// It is too early to tell, and that is as it should be.
    Pending,
}

/// How a slot went by our own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slot {
    /// From when it was due to when it began.
    pub late: Duration,
    /// From the question to the answer.
    pub took: Duration,
}

impl Answer {
    /// Whether a failure is the container's: not when the agent was starved or
    /// suspended meanwhile. A success is one, whenever it came.
    pub fn in_slot(self, slot: Slot, probe: &Probe) -> Answer {
        let held_up = slot.late > probe.period.max(STALL) || slot.took > probe.timeout + STALL;
        match self {
            Answer::Bad(_) if held_up => Answer::Unknown("the agent itself was held up".into()),
            answer => answer,
        }
    }
}

/// Answers in a row.
#[derive(Debug, Default)]
pub struct Tally {
    good: u32,
    bad: u32,
}

impl Tally {
    /// The verdict as of this answer; None: it stays what it was.
    pub fn count(&mut self, answer: Answer, probe: &Probe) -> Option<Verdict> {
        match answer {
            Answer::Good => {
                self.good = self.good.saturating_add(1);
                self.bad = 0;
                (self.good >= probe.successes).then_some(Verdict::Good)
            }
            Answer::Bad(why) => {
                self.bad = self.bad.saturating_add(1);
                self.good = 0;
                (self.bad >= probe.failures).then_some(Verdict::Bad(why))
            }
            Answer::Unknown(_) | Answer::Pending => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Slot, Tally, Verdict};
    use crate::supervise::{Check, Probe};
    use std::time::Duration;

    fn probe(failures: u32, successes: u32) -> Probe {
        Probe {
            check: Check::Docker,
            period: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            failures,
            successes,
        }
    }

    /// Each row: failures, successes, answers (+ good, - bad, ? unknown), and
    /// the verdict after each (+ good, - bad, . as it was).
    #[test]
    fn rows_of_answers_make_verdicts_and_unknown_flips_nothing() {
        let table = [
            (1, 1, "+-+", "+-+"),
            (2, 1, "+-+--+", "+.+.-+"),
            (3, 2, "++---++", ".+..-.+"),
            (3, 1, "--+--+---", "..+..+..-"),
            (3, 1, "???", "..."),
            (3, 1, "+???+", "+...+"),
            // what was missed neither counts nor forgives
            (3, 1, "-?-?-", "....-"),
            (3, 1, "--?+", "...+"),
            (2, 2, "--????+?+", ".-......+"),
        ];
        for (failures, successes, answers, expected) in table {
            let probe = probe(failures, successes);
            let mut tally = Tally::default();
            let said: String = answers
                .chars()
                .map(|answer| {
                    let answer = match answer {
                        '+' => Answer::Good,
                        '-' => Answer::Bad("why".into()),
                        _ => Answer::Unknown("why".into()),
                    };
                    match tally.count(answer, &probe) {
                        None => '.',
                        Some(Verdict::Good) => '+',
                        Some(Verdict::Bad(_)) => '-',
                        Some(Verdict::Unknown) => '?',
                    }
                })
                .collect();
            assert_eq!(said, expected, "{failures}/{successes} {answers}");
        }
    }

    #[test]
    fn a_row_of_any_length_does_not_overflow() {
        let mut tally = Tally {
            good: 0,
            bad: u32::MAX,
        };
        let said = tally.count(Answer::Bad(String::new()), &probe(1000, 1));
        assert_eq!(said, Some(Verdict::Bad(String::new())));
    }

    #[test]
    fn a_failure_that_the_agent_was_late_for_is_not_the_containers() {
        let seconds = Duration::from_secs_f64;
        let table = [
            (0.0, 2.0, true),
            (4.9, 2.9, true),
            (5.1, 0.0, false),
            (0.0, 3.1, false),
        ];
        for (late, took, counts) in table {
            let slot = Slot {
                late: seconds(late),
                took: seconds(took),
            };
            let bad = Answer::Bad("x".into()).in_slot(slot, &probe(1, 1));
            assert_eq!(bad == Answer::Bad("x".into()), counts, "{slot:?}");
            assert_eq!(Answer::Good.in_slot(slot, &probe(1, 1)), Answer::Good);
        }
    }
}
