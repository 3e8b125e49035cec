//! Which boot of the host this is.

use std::fs;

/// A random id that the kernel draws at each boot; empty where it is not told.
/// Source: /proc/sys/kernel/random/boot_id.
pub fn id() -> String {
    let told = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    told.map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_boot_has_one_id() {
        assert_eq!(super::id(), super::id());
        assert!(!super::id().is_empty());
    }
}
