//! Waiting for a level: the condition is asked again until it holds.

use std::time::{Duration, Instant};

/// Long enough for anything on a loaded machine; a test that needs it has failed elsewhere.
pub const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// What `look` finds, once it finds something. Panics after `patience`, naming `what`.
pub fn until_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain until {what}"
        );
        std::thread::sleep(PAUSE);
    }
}

/// [`until_within`] with [`PATIENCE`].
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// Asserts that something stays as it is for a while.
pub fn holds_for(span: Duration, what: &str, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(look(), "{what}");
        std::thread::sleep(PAUSE);
    }
}
