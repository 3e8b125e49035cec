//! The restart ladder: how long a container waits before its next start.
//!
//! The first restart comes at once, the next after 1, 2, 4 … 60 s, each spread
//! by ±20 % so that a fleet does not move in step. A rung is climbed by every
//! unplanned exit and by every start that fails. 600 s of readiness (of running,
//! where there is no probe) lead back to the ground: time merely spent running
//! would let a container that dies every 11 s spin for ever.

use crate::backoff::Backoff;
use std::time::Duration;

/// Good time after which earlier failures are forgotten.
pub const RESET_AFTER: Duration = Duration::from_secs(600);

const DELAYS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// The wait before the next start after `climb` earlier failures. `spread` is
/// drawn from 0.0..1.0.
pub fn delay(climb: u32, spread: f64) -> Duration {
    match climb.checked_sub(1) {
        None => Duration::ZERO,
        Some(step) => DELAYS.jittered(step, spread),
    }
}

#[cfg(test)]
mod tests {
    use super::delay;
    use std::time::Duration;

    #[test]
    fn the_first_restart_is_at_once_and_the_next_ones_double_to_a_minute() {
        let seconds: Vec<u64> = (0..9).map(|n| delay(n, 0.5).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(u32::MAX, 0.5), Duration::from_secs(60));
    }

    #[test]
    fn a_fleet_does_not_move_in_step() {
        assert_eq!(delay(4, 0.0), Duration::from_millis(6400));
        assert_eq!(delay(4, 1.0), Duration::from_millis(9600));
    }
}
