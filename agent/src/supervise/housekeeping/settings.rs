//! What housekeeping is told: `gc` and `gc_*` of `[images]`.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// false: nothing is ever removed. Default true.
    pub on: bool,
    /// Removal begins at this share of the disk. Unit: percent; default 85.
    pub high: u8,
    /// Removal ends below this share of the disk. Unit: percent; default 75.
    pub low: u8,
    /// Between two looks. Default 5 min.
    pub interval: Duration,
    /// What was in use, or came, within this time stays. Default 1 h.
    pub min_age: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            on: true,
            high: 85,
            low: 75,
            interval: Duration::from_secs(5 * 60),
            min_age: Duration::from_secs(60 * 60),
        }
    }
}
