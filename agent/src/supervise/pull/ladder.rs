//! When to ask again: a ladder for each image and a gate for each registry,
//! as pure functions of the time.

use super::verdict::Kind;
use crate::backoff::Backoff;
use std::time::Duration;
use tokio::time::Instant;

/// After a failure that time may heal.
const QUICK: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(120));
/// After one that somebody has to mend: the image is not there, the disk is full.
const SLOW: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(600));
/// While Docker itself does not answer: no one's ladder.
const DOCKER_AWAY: Duration = Duration::from_secs(2);
/// For a registry that asked for patience and did not say for how long.
const GATE: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
/// No registry keeps a host waiting longer.
const GATE_LIMIT: Duration = Duration::from_secs(3600);
/// What has not failed for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(7200);

/// The failures of one image in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    pub climb: u32,
    pub not_before: Instant,
}

/// A registry that asked for patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    pub climb: u32,
    pub opens: Instant,
}

impl Ladder {
    /// After one more failure. `spread` is drawn from 0.0..1.0.
    pub fn climbed(before: Option<Ladder>, kind: Kind, now: Instant, spread: f64) -> Ladder {
        let climb = before.map_or(0, |ladder| ladder.climb);
        let (delay, climb) = match kind {
            Kind::Docker => (DOCKER_AWAY, climb),
            kind if kind.is_slow() => (SLOW.delay(climb), climb.saturating_add(1)),
            _ => (QUICK.delay(climb), climb.saturating_add(1)),
        };
        Ladder {
            climb,
            not_before: now + spread_by_a_quarter(delay, spread),
        }
    }

    pub fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.not_before) > FORGOTTEN
    }
}

impl Gate {
    /// After one more refusal. `asked` is the patience that the registry asked
    /// for; it is kept to, and a little more, so that hosts do not come at once.
    pub fn closed(
        before: Option<Gate>,
        asked: Option<Duration>,
        now: Instant,
        spread: f64,
    ) -> Gate {
        let climb = before.map_or(0, |gate| gate.climb);
        let delay = match asked {
            Some(asked) => asked.min(GATE_LIMIT).mul_f64(1.0 + 0.1 * spread),
            None => spread_by_a_quarter(GATE.delay(climb), spread),
        };
        Gate {
            climb: climb.saturating_add(1),
            opens: before.map_or(now, |gate| gate.opens).max(now + delay),
        }
    }

    pub fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.opens) > FORGOTTEN
    }
}

/// What is left of a wait; None when it is over.
pub fn left(until: Instant, now: Instant) -> Option<Duration> {
    let left = until.saturating_duration_since(now);
    (!left.is_zero()).then_some(left)
}

fn spread_by_a_quarter(delay: Duration, spread: f64) -> Duration {
    delay.mul_f64(0.75 + 0.5 * spread.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::{Gate, Ladder, left};
    use crate::supervise::pull::verdict::Kind;
    use std::time::Duration;
    use tokio::time::Instant;

    /// Seconds to wait after each failure.
    fn waits(kind: Kind, n: usize, spread: f64) -> Vec<f64> {
        let now = Instant::now();
        let mut ladder = None;
        let mut waits = Vec::new();
        for _ in 0..n {
            let next = Ladder::climbed(ladder, kind, now, spread);
            waits.push((next.not_before - now).as_secs_f64());
            ladder = Some(next);
        }
        waits
    }

    #[test]
    fn failures_double_the_wait_up_to_two_minutes_give_or_take_a_quarter() {
        let middle = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 120.0, 120.0];
        assert_eq!(waits(Kind::Failed, 8, 0.5), middle);
        assert_eq!(waits(Kind::Stalled, 2, 0.0), [1.5, 3.0]);
        assert_eq!(waits(Kind::Denied, 2, 1.0), [2.5, 5.0]);
        let cap = waits(Kind::Failed, 100, 1.0);
        assert_eq!(cap[99], 150.0);
    }

    #[test]
    fn what_is_not_there_is_asked_for_slowly_and_a_silent_docker_climbs_nothing() {
        let slow = [60.0, 120.0, 240.0, 480.0, 600.0];
        assert_eq!(waits(Kind::NotFound, 5, 0.5), slow);
        assert_eq!(waits(Kind::Docker, 3, 0.5), [2.0, 2.0, 2.0]);
    }

    #[test]
    fn a_registry_is_left_alone_for_as_long_as_it_asks() {
        let now = Instant::now();
        let asked = Some(Duration::from_secs(40));
        let gate = Gate::closed(None, asked, now, 0.0);
        assert_eq!(left(gate.opens, now), asked);
        let just_before = now + Duration::from_millis(39_999);
        assert!(left(gate.opens, just_before).is_some());
        assert_eq!(left(gate.opens, now + Duration::from_secs(40)), None);
        // A second refusal, of a pull that was under way, shortens nothing.
        let again = Gate::closed(Some(gate), Some(Duration::from_secs(1)), now, 1.0);
        assert_eq!(again.opens, gate.opens);
        let day = Gate::closed(None, Some(Duration::from_secs(86_400)), now, 0.0);
        assert_eq!(day.opens - now, Duration::from_secs(3600));
    }

    #[test]
    fn a_registry_that_does_not_say_how_long_is_asked_ever_less_often() {
        let mut now = Instant::now();
        let mut gate = None;
        let mut waits = Vec::new();
        for _ in 0..7 {
            let next = Gate::closed(gate, None, now, 0.5);
            waits.push((next.opens - now).as_secs());
            now = next.opens;
            gate = Some(next);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }
}
