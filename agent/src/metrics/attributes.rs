//! Attribute files of devices that come and go: one trimmed value per file,
//! descriptors kept from scrape to scrape for as long as a file is asked for.

use crate::metrics::collector::CollectError;
use crate::metrics::source::Source;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Descriptors kept at once; a host with more attributes reads the rest anew.
const KEPT: usize = 256;

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
        let mut source = Source::new(path.to_owned());
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

#[cfg(test)]
mod tests {
    use super::Attributes;

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
}
