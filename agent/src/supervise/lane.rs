//! Who is replaced now: one container after the other, and none in a rush
//! while the agent has only just begun to look.

use super::Phase;
use super::mind::Report;
use std::time::Duration;
use tokio::time::Instant;

/// Nothing is replaced so soon after the agent's start.
const SETTLE: Duration = Duration::from_secs(10);
/// Longest time that one replacement holds up the next.
const PATIENCE: Duration = Duration::from_secs(900);

/// The right to be replaced; one container has it at a time.
pub struct Lane {
    opens: Instant,
    /// To whom, since when, and whether it has been seen at it.
    given: Option<(String, Instant, bool)>,
}

impl Lane {
    pub fn new(now: Instant) -> Lane {
        Lane {
            opens: now + SETTLE,
            given: None,
        }
    }

    pub fn is_given_to(&self, name: &str) -> bool {
        self.given.as_ref().is_some_and(|(given, ..)| given == name)
    }

    /// When [`Lane::turn`] is of use although nobody has reported.
    pub fn due(&self) -> Option<Instant> {
        let opens = Some(self.opens).filter(|opens| *opens > Instant::now());
        let ends = self.given.as_ref().map(|(_, since, _)| *since + PATIENCE);
        opens.or(ends)
    }

    /// Takes it from who is done and gives it to the first that waits.
    pub fn turn<'a>(&mut self, reports: impl Iterator<Item = &'a Report>, now: Instant) {
        let mut waiting = None;
        let mut holds = false;
        for report in reports {
            let name = report.status.name.as_str();
            if let Some((given, since, begun)) = &mut self.given
                && given == name
            {
                *begun |= report.in_lane;
                holds = !is_over(report, *begun) && now < *since + PATIENCE;
            }
            if report.wants_lane && waiting.is_none() && !self.is_given_to(name) {
                waiting = Some(name.to_owned());
            }
        }
        if holds {
            return;
        }
        self.given = waiting
            .filter(|_| now >= self.opens)
            .map(|name| (name, now, false));
    }
}

/// The replacement has ended, well or not.
fn is_over(report: &Report, begun: bool) -> bool {
    match report.status.phase {
        // Its turn has not come to it yet, or it is still at it.
        Phase::Running => begun && !report.in_lane || !begun && !report.wants_lane,
        Phase::Starting | Phase::Draining | Phase::Stopping | Phase::Pulling => false,
        _ => true,
    }
}
