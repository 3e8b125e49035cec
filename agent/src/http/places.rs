//! Who has one of the places of a listener, and who has to leave when others wait.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::task::{AbortHandle, Id};
use tokio::time::Instant;

/// What one connection does: a request in work, or nothing since some time.
#[derive(Clone)]
pub struct Activity(Arc<Mutex<State>>);

#[derive(Clone, Copy)]
enum State {
    Idle(Instant),
    Busy,
}

impl Activity {
    pub fn new() -> Activity {
        Activity(Arc::new(Mutex::new(State::Idle(Instant::now()))))
    }

    pub fn begin(&self) {
        self.set(State::Busy);
    }

    pub fn end(&self) {
        self.set(State::Idle(Instant::now()));
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn idle_since(&self) -> Option<Instant> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Idle(since) => Some(since),
            State::Busy => None,
        }
    }
}

/// The connections of one listener.
pub struct Places {
    taken: HashMap<Id, Place>,
    limit: usize,
}

struct Place {
    activity: Activity,
    task: AbortHandle,
    since: Instant,
}

impl Places {
    pub fn new(limit: usize) -> Places {
        Places {
            taken: HashMap::new(),
            limit,
        }
    }

    pub fn are_full(&self) -> bool {
        self.taken.len() >= self.limit
    }

    pub fn take(&mut self, activity: Activity, task: AbortHandle) {
        let place = Place {
            activity,
            task,
            since: Instant::now(),
        };
        self.taken.insert(place.task.id(), place);
    }

    pub fn free(&mut self, id: Id) {
        self.taken.remove(&id);
    }

    /// Ends the connection that has been idle longest, if that is `spared` or
    /// more; else the one that came first and is between two requests, so that
    /// peers who ask without end keep nobody out either.
    pub fn evict(&mut self, spared: Duration) -> bool {
        let at_rest = self.taken.iter().filter_map(|(id, place)| {
            let idle_since = place.activity.idle_since()?;
            (place.since.elapsed() >= spared).then_some((*id, idle_since, place.since))
        });
        let ranked = at_rest.min_by_key(|(_, idle_since, since)| {
            let is_active = idle_since.elapsed() < spared;
            (is_active, if is_active { *since } else { *idle_since })
        });
        let Some((id, ..)) = ranked else {
            return false;
        };
        if let Some(place) = self.taken.remove(&id) {
            place.task.abort();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Activity, Places};
    use std::time::Duration;
    use tokio::task::JoinSet;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_leaves_and_nobody_who_works_or_just_came() {
        let mut tasks = JoinSet::new();
        let mut places = Places::new(2);
        let spared = Duration::from_secs(2);
        let mut enter = |places: &mut Places| {
            let activity = Activity::new();
            let task = tasks.spawn(std::future::pending::<()>());
            places.take(activity.clone(), task);
            activity
        };
        let first = enter(&mut places);
        let second = enter(&mut places);
        assert!(places.are_full());
        assert!(!places.evict(spared), "both just came");
        advance(Duration::from_secs(3)).await;
        first.begin();
        assert!(places.evict(spared), "the second does nothing");
        assert!(!places.are_full());
        assert!(!places.evict(spared), "the first is at work");
        first.end();
        let third = enter(&mut places);
        assert!(places.evict(spared), "the first has had its turn");
        assert!(!places.evict(spared), "the third just came");
        third.begin();
        advance(Duration::from_secs(2)).await;
        assert!(!places.evict(spared), "the third is at work");
        assert_eq!(
            second.idle_since().map(|since| since.elapsed().as_secs()),
            Some(5)
        );
    }
}
