//! Exponential back-off with jitter: how long to wait before try number n.

use std::time::Duration;

/// A ladder of delays: `first`, doubled each step, never above `cap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub cap: Duration,
}

impl Backoff {
    pub const fn new(first: Duration, cap: Duration) -> Backoff {
        Backoff { first, cap }
    }

    /// The delay before retry `step`, 0 being the first one that waits, without jitter.
    pub fn delay(&self, step: u32) -> Duration {
        let factor = 1u32.checked_shl(step).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.cap)
    }

    /// The same delay spread by ±20 %. `spread` is drawn from 0.0..1.0.
    pub fn jittered(&self, step: u32, spread: f64) -> Duration {
        self.delay(step).mul_f64(0.8 + 0.4 * spread.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    const LADDER: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

    #[test]
    fn delay_doubles_up_to_the_cap() {
        let seconds: Vec<u64> = (0..8).map(|n| LADDER.delay(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(LADDER.delay(400), Duration::from_secs(60));
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        assert_eq!(LADDER.jittered(1, 0.0), Duration::from_millis(1600));
        assert_eq!(LADDER.jittered(1, 1.0), Duration::from_millis(2400));
    }
}
