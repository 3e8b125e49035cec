//! The few shapes that cgroup files come in: a number, a word `max`, `key value` lines.
//!
//! Linux' admin-guide/cgroup-v2.rst, "Interface Files"; cgroup-v1/memory.rst, cpuacct.rst,
//! blkio-controller.rst. A line that is not understood counts as absent.

/// From here on a limit is none: v1 writes a number near 2^63. Unit: bytes.
const UNLIMITED: u64 = 1 << 62;

/// A file of one number.
pub fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A limit in bytes; 0 stands for none, as cAdvisor prints it.
pub fn limit(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(0),
        text => text.parse().ok().map(|n| if n > UNLIMITED { 0 } else { n }),
    }
}

/// The `key value` lines.
pub fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// The value of one key.
pub fn value(text: &str, key: &str) -> Option<u64> {
    pairs(text)
        .find(|(found, _)| *found == key)
        .map(|(_, value)| value)
}

/// `cpu.max`: `quota period` in microseconds; a quota of `max` is none.
pub fn cpu_max(text: &str) -> (Option<u64>, Option<u64>) {
    let mut words = text.split_ascii_whitespace().map(|word| word.parse().ok());
    (words.next().flatten(), words.next().flatten())
}

/// v1's shares from v2's weight, as container runtimes turn one into the other:
/// 1 to 10,000 becomes 2 to 262,144.
pub fn shares(weight: u64) -> Option<u64> {
    (1..=10_000)
        .contains(&weight)
        .then(|| 2 + (weight - 1) * 262_142 / 9_999)
}

#[cfg(test)]
mod tests {
    use super::{cpu_max, limit, shares, value};

    #[test]
    fn limits_that_are_none_print_as_zero() {
        assert_eq!(limit("104857600\n"), Some(104_857_600));
        assert_eq!(limit("max\n"), Some(0));
        assert_eq!(limit("9223372036854771712\n"), Some(0));
        assert_eq!(limit(""), None);
        assert_eq!(limit("-1\n"), None);
    }

    #[test]
    fn quota_and_weight_are_read_in_all_their_forms() {
        assert_eq!(cpu_max("50000 100000\n"), (Some(50_000), Some(100_000)));
        assert_eq!(cpu_max("max 100000\n"), (None, Some(100_000)));
        assert_eq!(cpu_max(""), (None, None));
        let weights = [0, 1, 39, 100, 10_000, 10_001].map(shares);
        let expected = [None, Some(2), Some(998), Some(2597), Some(262_144), None];
        assert_eq!(weights, expected);
    }

    #[test]
    fn broken_lines_count_as_absent() {
        let text = "a\nb x\n\nc 5 \nanon 7\n";
        assert_eq!(value(text, "a"), None);
        assert_eq!(value(text, "b"), None);
        assert_eq!(value(text, "c"), Some(5));
        assert_eq!(value(text, "anon"), Some(7));
    }
}
