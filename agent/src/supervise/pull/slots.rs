//! Who may pull now: a few at once, the most urgent first, then who came first.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// The smaller the sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// The heartbeat waits for it.
    Essential,
    Other,
}

#[derive(Clone)]
pub struct Slots {
    inner: Arc<Inner>,
}

struct Inner {
    line: Mutex<Line>,
    /// Counted up whenever somebody's turn may have come.
    turn: watch::Sender<u64>,
}

struct Line {
    free: usize,
    waiting: BTreeSet<(Priority, u64)>,
    n_came: u64,
}

/// A place in the line; given back when dropped.
pub struct Ticket {
    slots: Slots,
    number: u64,
}

/// The right to pull; given back when dropped.
pub struct Slot {
    slots: Slots,
}

impl Slots {
    pub fn new(n: usize) -> Slots {
        let line = Line {
            free: n,
            waiting: BTreeSet::new(),
            n_came: 0,
        };
        Slots {
            inner: Arc::new(Inner {
                line: Mutex::new(line),
                turn: watch::channel(0).0,
            }),
        }
    }

    pub fn queue(&self, priority: Priority) -> Ticket {
        let mut line = self.lock();
        let number = line.n_came;
        line.n_came += 1;
        line.waiting.insert((priority, number));
        Ticket {
            slots: self.clone(),
            number,
        }
    }

    fn take(&self, number: u64) -> Option<Slot> {
        let mut line = self.lock();
        let first = *line.waiting.first()?;
        if first.1 != number || line.free == 0 {
            return None;
        }
        line.free -= 1;
        line.waiting.remove(&first);
        drop(line);
        // There may be another free one, for the next.
        self.turn();
        Some(Slot {
            slots: self.clone(),
        })
    }

    fn turn(&self) {
        self.inner.turn.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Line> {
        self.inner
            .line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Waits for its turn.
    pub async fn slot(&self) -> Slot {
        let mut turn = self.slots.inner.turn.subscribe();
        loop {
            turn.borrow_and_update();
            if let Some(slot) = self.slots.take(self.number) {
                return slot;
            }
            // Its sender lives in what this ticket holds.
            let _ = turn.changed().await;
        }
    }

    /// Someone more urgent waits for the same; the place among equals is kept.
    pub fn hurry(&self, priority: Priority) {
        let mut line = self.slots.lock();
        let held = line
            .waiting
            .iter()
            .find(|one| one.1 == self.number)
            .copied();
        if let Some(held) = held
            && priority < held.0
        {
            line.waiting.remove(&held);
            line.waiting.insert((priority, self.number));
            drop(line);
            self.slots.turn();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.slots.lock().waiting.retain(|one| one.1 != self.number);
        self.slots.turn();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().free += 1;
        self.slots.turn();
    }
}

#[cfg(test)]
mod tests {
    use super::{Priority, Slots};
    use futures_util::FutureExt;

    #[tokio::test]
    async fn two_at_once_the_essential_before_the_others_then_in_order() {
        let slots = Slots::new(2);
        let tickets = [
            slots.queue(Priority::Other),
            slots.queue(Priority::Other),
            slots.queue(Priority::Other),
            slots.queue(Priority::Other),
            slots.queue(Priority::Essential),
        ];
        // Whoever has asked may go first; asking in vain changes nothing.
        assert!(tickets[0].slot().now_or_never().is_none());
        let app = tickets[4].slot().await;
        let first = tickets[0].slot().await;
        assert!(tickets[1].slot().now_or_never().is_none());
        drop(app);
        assert!(tickets[2].slot().now_or_never().is_none(), "not its turn");
        tickets[3].hurry(Priority::Essential);
        let hurried = tickets[3].slot().await;
        drop(first);
        let second = tickets[1].slot().await;
        drop((hurried, second));
        assert!(tickets[2].slot().now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_goes_away_keeps_nobody_waiting() {
        let slots = Slots::new(1);
        let (first, second) = (slots.queue(Priority::Other), slots.queue(Priority::Other));
        drop(first);
        let slot = second.slot().await;
        let third = slots.queue(Priority::Other);
        let waits = third.slot();
        tokio::pin!(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(slot);
        waits.await;
        assert_eq!(slots.lock().free, 1);
    }
}
