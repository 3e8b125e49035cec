//! Finds the files, reads them all, checks them, changes nothing.

use crate::config::dirs::{self, Surroundings};
use crate::config::document::{self, Entry};
use crate::config::fault::{Fault, Faults, Place};
use crate::config::read::Report;
use crate::config::{Settings, file, validate};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where configuration is looked for when no file is named.
const ETC: &str = "/etc/agent";
/// No configuration that a person wrote is larger. Unit: bytes.
const MAX_FILE: u64 = 1 << 20;
/// Less than `TimeoutStopSec=` of systemd/agent.service.
const LONGEST_STOP: Duration = Duration::from_secs(140);

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// None: `/etc/agent/agent.toml`, then `/etc/agent/conf.d/*.toml` in name order, as far
    /// as they exist. Files named here must exist.
    pub files: Option<Vec<PathBuf>>,
    /// Wins over `agent.state_dir`.
    pub state_dir: Option<PathBuf>,
}

/// A configuration without faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    /// The files that were read, in order; none for the built-in defaults.
    pub files: Vec<PathBuf>,
    /// To be told once logging runs.
    pub warnings: Vec<String>,
}

/// Reads and checks the whole configuration. Errors: every fault there is.
pub fn load(origin: &Origin) -> Result<Loaded, Faults> {
    load_from(origin, Path::new(ETC), &Surroundings::of_process())
}

/// As the agent would on a host of its own, run as root by its unit: what this
/// process is does not matter. For rendering what other hosts get.
pub fn load_for_host(files: Vec<PathBuf>) -> Result<Loaded, Faults> {
    let origin = Origin {
        files: Some(files),
        state_dir: None,
    };
    let around = Surroundings {
        is_root: true,
        temp: "/tmp".into(),
        ..Surroundings::default()
    };
    load_from(&origin, Path::new(ETC), &around)
}

pub(super) fn load_from(
    origin: &Origin,
    etc: &Path,
    around: &Surroundings,
) -> Result<Loaded, Faults> {
    let (files, mut faults) = match &origin.files {
        Some(files) => (files.clone(), Vec::new()),
        None => found_in(etc),
    };
    let mut texts = Vec::new();
    for (index, path) in files.iter().enumerate() {
        match read_file(path) {
            Ok(bytes) => texts.push((index, bytes)),
            Err(error) => faults.push(unreadable(index, &error)),
        }
    }
    let mut tree = Vec::new();
    for (index, bytes) in texts {
        match String::from_utf8(bytes) {
            Ok(text) => read_text(index, &text, &mut tree, &mut faults),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                faults.push(not_utf8(index, &error.as_bytes()[..valid]));
            }
        }
    }
    check(&tree, faults, origin.state_dir.clone(), around)
        .map(|(settings, warnings)| Loaded {
            settings,
            files: files.clone(),
            warnings,
        })
        .map_err(|faults| Faults::new(files, faults))
}

fn read_text(index: usize, text: &str, tree: &mut Vec<Entry>, faults: &mut Vec<Fault>) {
    let (entries, found) = document::parse(index, text);
    document::merge(tree, entries);
    faults.extend(found);
}

/// Reads the sections of a tree; `faults` are those of the text, which make it partial.
pub(super) fn check(
    tree: &[Entry],
    mut faults: Vec<Fault>,
    state_dir: Option<PathBuf>,
    around: &Surroundings,
) -> Result<(Settings, Vec<String>), Vec<Fault>> {
    let report = Report::new(!faults.is_empty());
    let file = file::read(tree, &report);
    let asked = state_dir.or_else(|| file.agent.state_dir.clone());
    let dirs = dirs::resolve(asked, around);
    let settings = validate::settings(file, &dirs, &report);
    faults.extend(report.faults());
    if faults.is_empty() {
        let stop = too_long(settings.agent.stop_timeout);
        Ok((settings, dirs.warning.into_iter().chain(stop).collect()))
    } else {
        Err(faults)
    }
}

/// systemd kills what outlasts the unit's `TimeoutStopSec=`.
fn too_long(stop_timeout: Duration) -> Option<String> {
    (stop_timeout > LONGEST_STOP).then(|| {
        format!(
            "agent.stop_timeout is longer than {} s: agent.service is killed after 150 s, \
             raise its TimeoutStopSec= by a drop-in as well",
            LONGEST_STOP.as_secs()
        )
    })
}

/// `agent.toml` and the drop-ins, as far as they exist.
fn found_in(etc: &Path) -> (Vec<PathBuf>, Vec<Fault>) {
    let mut files = Vec::new();
    let main = etc.join("agent.toml");
    // An entry that is there but cannot be followed is read, and refused, below.
    if main.symlink_metadata().is_ok() {
        files.push(main);
    }
    let drop_ins = etc.join("conf.d");
    match toml_files(&drop_ins) {
        Ok(mut found) => {
            found.sort();
            files.append(&mut found);
            (files, Vec::new())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (files, Vec::new()),
        Err(error) => {
            let fault = unreadable(files.len(), &error);
            files.push(drop_ins);
            (files, vec![fault])
        }
    }
}

fn toml_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        let is_hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    Ok(files)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // A FIFO would make the agent wait for a writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(bytes)
}

fn unreadable(file: usize, error: &io::Error) -> Fault {
    let place = Place {
        file,
        ..Place::default()
    };
    Fault {
        unreadable: true,
        ..Fault::new(place, format!("cannot be read: {error}"))
    }
}

fn not_utf8(file: usize, before: &[u8]) -> Fault {
    let before = String::from_utf8_lossy(before);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    let place = Place {
        file,
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column).unwrap_or(u32::MAX),
    };
    Fault::new(place, "not UTF-8").help("save the file as UTF-8")
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_STOP, too_long};
    use std::time::Duration;

    #[test]
    fn a_stop_that_systemd_would_cut_short_is_warned_of() {
        let unit = include_str!("../../../systemd/agent.service");
        let timeout = unit
            .lines()
            .find_map(|line| line.strip_prefix("TimeoutStopSec="));
        let timeout = Duration::from_secs(timeout.unwrap().parse().unwrap());
        assert!(LONGEST_STOP < timeout);
        assert_eq!(too_long(LONGEST_STOP), None);
        let warning = too_long(timeout).unwrap();
        let named = format!("killed after {} s", timeout.as_secs());
        assert!(warning.contains(&named), "{warning}");
    }
}
