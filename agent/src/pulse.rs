//! Who still turns: each loop that matters beats, the watchdog asks who stopped.
//!
//! A beat is one relaxed atomic store, cheap enough for any loop. A loop that
//! may wait for ever on its input beats from a timer arm of its own `select!`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// All beating loops of the process. Cloning shares them.
#[derive(Clone)]
pub struct Pulse {
    born: Instant,
    beats: Arc<Mutex<Vec<Arc<Inner>>>>,
}

struct Inner {
    name: String,
    allowance: Duration,
    last_ms: AtomicU64,
    retired: AtomicBool,
}

/// One loop's beat. Dropping it retires the loop: a loop that ended on
/// purpose is not a hung one.
pub struct Beat {
    born: Instant,
    inner: Arc<Inner>,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse {
            born: Instant::now(),
            beats: Arc::default(),
        }
    }
}

impl Pulse {
    /// Enters a loop which promises to beat at least every `allowance`.
    pub fn register(&self, name: impl Into<String>, allowance: Duration) -> Beat {
        let inner = Arc::new(Inner {
            name: name.into(),
            allowance,
            last_ms: AtomicU64::new(millis(self.born.elapsed())),
            retired: AtomicBool::new(false),
        });
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.retain(|beat| !beat.retired.load(Ordering::Relaxed));
        beats.push(inner.clone());
        Beat {
            born: self.born,
            inner,
        }
    }

    /// Names of loops that have been silent for longer than they promised.
    pub fn silent(&self) -> Vec<String> {
        let now = millis(self.born.elapsed());
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats
            .iter()
            .filter(|beat| !beat.retired.load(Ordering::Relaxed))
            .filter(|beat| {
                let silence = now.saturating_sub(beat.last_ms.load(Ordering::Relaxed));
                silence > millis(beat.allowance)
            })
            .map(|beat| beat.name.clone())
            .collect()
    }
}

impl Beat {
    pub fn beat(&self) {
        let now = millis(self.born.elapsed());
        self.inner.last_ms.store(now, Ordering::Relaxed);
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.inner.retired.store(true, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Pulse;
    use std::thread::sleep;
    use std::time::Duration;

    #[test]
    fn a_loop_that_stops_beating_is_named_until_it_retires() {
        let pulse = Pulse::default();
        let stuck = pulse.register("log writer", Duration::from_millis(5));
        let turning = pulse.register("http", Duration::from_secs(60));
        sleep(Duration::from_millis(20));
        turning.beat();
        assert_eq!(pulse.silent(), ["log writer"]);
        stuck.beat();
        assert!(pulse.silent().is_empty());
        sleep(Duration::from_millis(20));
        drop(stuck);
        assert!(pulse.silent().is_empty());
    }
}
