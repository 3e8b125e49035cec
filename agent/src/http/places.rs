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
    taken: HashMap<Id, (Activity, AbortHandle)>,
    limit: usize,
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
        self.taken.insert(task.id(), (activity, task));
    }

    pub fn free(&mut self, id: Id) {
        self.taken.remove(&id);
    }

    /// Ends the connection that has been idle longest, if that is `spared` or more.
    pub fn evict(&mut self, spared: Duration) -> bool {
        let idle = self.taken.iter();
        let longest = idle
            .filter_map(|(id, (activity, _))| Some((activity.idle_since()?, *id)))
            .filter(|(since, _)| since.elapsed() >= spared)
            .min_by_key(|(since, _)| *since);
        let Some((_, id)) = longest else {
            return false;
        };
        if let Some((_, task)) = self.taken.remove(&id) {
            task.abort();
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
        assert!(!places.evict(spared), "it just ended");
        advance(Duration::from_secs(2)).await;
        assert!(places.evict(spared));
        assert_eq!(
            second.idle_since().map(|since| since.elapsed().as_secs()),
            Some(5)
        );
    }
}
