//! What outlives the agent: which due times have been, what is under way, how runs ended.
//!
//! One JSON file, replaced whole: written beside, synced, renamed. A file that
//! cannot be read is set aside, as is a newer agent's, and containers' labels
//! alone tell what has run.

use super::state::Job;
use crate::supervise::memory::{Head, set_aside};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

/// By job name.
pub type Memory = BTreeMap<String, Job>;

#[derive(Serialize, Deserialize)]
struct Written<J> {
    version: u32,
    jobs: J,
}

#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("cannot write memory of jobs {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot move memory of jobs to {path}")]
    Rename { path: PathBuf, source: io::Error },
}

/// Reads the memory; an absent file is an empty one, an unreadable one is
/// renamed to `<path>.bad` with a warning.
pub fn load(path: &Path) -> Memory {
    let fault = match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice::<Head>(&bytes) {
            Ok(head) if head.version > VERSION => {
                set_aside(path, "memory of jobs", head.version, VERSION);
                return Memory::new();
            }
            Ok(head) if head.version == VERSION => {
                match serde_json::from_slice::<Written<Memory>>(&bytes) {
                    Ok(written) => return written.jobs,
                    Err(error) => error.to_string(),
                }
            }
            Ok(head) => format!("version {} is not known", head.version),
            Err(error) => error.to_string(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Memory::new(),
        Err(error) => error.to_string(),
    };
    let moved = fs::rename(path, sibling(path, "bad")).is_ok();
    tracing::warn!(path = %path.display(), fault, moved, "memory of jobs is unreadable and set aside");
    Memory::new()
}

/// What [`save`] writes.
pub fn text(jobs: &BTreeMap<&str, &Job>) -> Vec<u8> {
    let written = Written {
        version: VERSION,
        jobs,
    };
    // Numbers, texts and lists: nothing that JSON has not.
    serde_json::to_vec(&written).unwrap_or_default()
}

/// Replaces the file: after a crash either the old or the new one is there.
pub fn save(path: &Path, text: &[u8]) -> Result<(), SaveError> {
    let beside = sibling(path, "new");
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()
    });
    written.map_err(|source| SaveError::Write {
        path: beside.clone(),
        source,
    })?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::rename(&beside, path)
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|source| SaveError::Rename {
            path: path.into(),
            source,
        })
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
