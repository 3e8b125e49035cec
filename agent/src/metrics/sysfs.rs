//! Devices that many hosts lack, as directories of one-value files below /sys.
//!
//! These files are opened at each read: what they describe comes and goes, and
//! hosts that have them have few. An attribute that cannot be read or holds no
//! number is skipped, so that a device that goes away costs only itself.

use crate::metrics::collector::CollectError;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// sysfs gives at most one page; of anything else no more is looked at.
const MAX_ATTRIBUTE: u64 = 64 << 10;

/// Names in `directory` that begin with `prefix`, sorted. Names that are not UTF-8 are skipped.
pub fn names(directory: &Path, prefix: &str) -> Result<Vec<String>, CollectError> {
    let entries =
        std::fs::read_dir(directory).map_err(|error| CollectError::read(directory, error))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// As [`names`], for directories whose absence node_exporter counts as an empty one.
pub fn names_if_any(directory: &Path, prefix: &str) -> Result<Vec<String>, CollectError> {
    match names(directory, prefix) {
        Err(CollectError::Absent { .. }) => Ok(Vec::new()),
        result => result,
    }
}

/// The number behind `prefix` and before `suffix`, as text: `mc0` is "0".
pub fn index<'a>(name: &'a str, prefix: &str, suffix: &str) -> Option<&'a str> {
    let index = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    digits.then_some(index)
}

/// The file's text without the spaces around it.
pub fn attribute(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(MAX_ATTRIBUTE)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The file's whole number; some may be below zero.
pub fn number(path: &Path) -> Option<f64> {
    attribute(path)?.parse::<i64>().ok().map(|n| n as f64)
}

#[cfg(test)]
mod tests {
    use super::{attribute, index, names, names_if_any, number};
    use crate::metrics::collector::CollectError;
    use crate::metrics::tests::host;

    #[test]
    fn what_cannot_be_read_or_is_no_number_is_skipped() {
        let (_dir, roots) = host(&[("sys/a1/good", " -5\n"), ("sys/a0/bad", "x\n")]);
        assert_eq!(names(&roots.sys, "a").unwrap(), ["a0", "a1"]);
        assert_eq!(number(&roots.sys.join("a1/good")), Some(-5.0));
        assert_eq!(number(&roots.sys.join("a0/bad")), None);
        assert_eq!(attribute(&roots.sys.join("a0/bad")).as_deref(), Some("x"));
        assert_eq!(attribute(&roots.sys.join("a0")), None);
    }

    #[test]
    fn a_missing_directory_is_absent_or_empty() {
        let (_dir, roots) = host(&[]);
        let none = roots.sys.join("none");
        assert!(matches!(names(&none, ""), Err(CollectError::Absent { .. })));
        assert!(names_if_any(&none, "").unwrap().is_empty());
    }

    #[test]
    fn an_index_is_digits_only() {
        assert_eq!(index("ch12_ce_count", "ch", "_ce_count"), Some("12"));
        assert_eq!(index("mc", "mc", ""), None);
        assert_eq!(index("mcx", "mc", ""), None);
    }
}
