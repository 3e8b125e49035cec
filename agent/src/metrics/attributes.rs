//! Directories of one-value files below /sys and /proc, for devices that come and go.
//!
//! [`Attributes`] keeps descriptors from scrape to scrape for as long as a file
//! is asked for: for what most hosts have. What few hosts have is opened at
//! each read ([`attribute`], [`number`]); there a value that cannot be read or
//! is no number is skipped, so that a device that goes away costs only itself.

use crate::metrics::collector::CollectError;
use crate::metrics::source::Source;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Descriptors kept at once; a host with more attributes reads the rest anew.
const KEPT: usize = 256;
/// sysfs gives at most one page; of anything else no more is looked at.
const MAX_ATTRIBUTE: u64 = 64 << 10;

#[derive(Default)]
pub struct Attributes {
    /// The source, and whether this scrape asked for it.
    kept: HashMap<PathBuf, (Source, bool)>,
}

impl Attributes {
    /// Forgets what the last scrape did not ask for; call it when a scrape begins.
    pub fn begin(&mut self) {
        self.kept
            .retain(|_, (_, asked)| std::mem::replace(asked, false));
    }

    /// `None` where there is no such attribute, or its device has just gone.
    pub fn get(&mut self, path: &Path) -> Result<Option<String>, CollectError> {
        if let Some((source, asked)) = self.kept.get_mut(path) {
            *asked = true;
            return value(source);
        }
        let mut source = Source::of_one_piece(path.to_owned());
        let value = value(&mut source)?;
        if value.is_some() && self.kept.len() < KEPT {
            self.kept.insert(path.to_owned(), (source, true));
        }
        Ok(value)
    }

    /// An attribute that may be missing or hold no number, which is then 0.
    pub fn number_or_zero(&mut self, path: &Path) -> Result<u64, CollectError> {
        let text = self.get(path)?;
        Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    }
}

fn value(source: &mut Source) -> Result<Option<String>, CollectError> {
    match source.read() {
        Ok(text) => Ok(Some(text.as_str().trim().to_owned())),
        Err(CollectError::Absent { .. }) => Ok(None),
        // ENODEV: unplugged since the directory was listed.
        Err(CollectError::Read { source, .. })
            if source.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Names in a directory, sorted; `None` where there is no such directory.
pub fn names_in(directory: &Path) -> Result<Option<Vec<String>>, CollectError> {
    let listed = fs::read_dir(directory).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>()
    });
    match listed {
        Ok(mut names) => {
            names.sort();
            Ok(Some(names))
        }
        Err(error) => match CollectError::read(directory, error) {
            CollectError::Absent { .. } => Ok(None),
            error => Err(error),
        },
    }
}

/// Names in `directory` that begin with `prefix`, sorted; it has to be there.
pub fn names(directory: &Path, prefix: &str) -> Result<Vec<String>, CollectError> {
    let mut names = names_in(directory)?.ok_or_else(|| CollectError::Absent {
        path: directory.to_owned(),
    })?;
    names.retain(|name| name.starts_with(prefix));
    Ok(names)
}

/// As [`names`], for directories whose absence node_exporter counts as an empty one.
pub fn names_if_any(directory: &Path, prefix: &str) -> Result<Vec<String>, CollectError> {
    let mut names = names_in(directory)?.unwrap_or_default();
    names.retain(|name| name.starts_with(prefix));
    Ok(names)
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
    use super::{Attributes, attribute, index, names, names_if_any, number};
    use crate::metrics::collector::CollectError;
    use crate::metrics::tests::host;

    #[test]
    fn what_a_scrape_did_not_ask_for_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        std::fs::write(&path, " live \n").unwrap();
        let mut attributes = Attributes::default();
        assert_eq!(attributes.get(&path).unwrap().as_deref(), Some("live"));
        assert_eq!(attributes.get(&dir.path().join("none")).unwrap(), None);
        attributes.begin();
        assert_eq!(attributes.kept.len(), 1);
        attributes.begin();
        assert_eq!(attributes.kept.len(), 0);
    }

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
