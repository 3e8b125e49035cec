//! What outlives the agent: back-off, counters, readiness.
//!
//! One JSON file, replaced whole: written beside, synced, renamed. A file that
//! cannot be read is set aside, and containers' labels alone tell what is ours.
//! Of a newer agent's file the operator's word is obeyed, in whatever format
//! (docs/decisions/0009-upgrade.md).

use super::spec::Spec;
use super::{Exit, ExitClass};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Raised when an agent of the version before would misread the file; a new
/// key with a default is none of that.
const VERSION: u32 = 1;

/// By container name.
pub type Memory = BTreeMap<String, Entry>;

/// What is remembered of one container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Failures since it was last good.
    pub climb: u32,
    pub restarts: u64,
    pub last_exit: Option<SavedExit>,
    /// The run that `ready` speaks of: id and start time.
    pub run: String,
    pub ready: Option<bool>,
    /// Its startup probe has passed.
    pub started: bool,
    /// The end of its back-off. Unix milliseconds.
    pub wait_until: Option<u64>,
    /// Its last unplanned ends. Unix milliseconds.
    pub falls: Vec<u64>,
    /// What it was made of when it last was good for a while.
    pub last_good: Option<Good>,
    /// The hash of a config that was tried and was no good.
    pub bad: Option<String>,
    /// The operator has stopped it.
    pub stopped: bool,
    /// The operator has it left alone until then. Unix milliseconds; 0 is for ever.
    pub paused_until: Option<u64>,
    /// The run whose death has been counted.
    pub buried: String,
}

impl Entry {
    /// It ran when an agent of this boot last saw it, and nobody knows that it has ended.
    pub fn is_alive(&self) -> bool {
        !self.run.is_empty() && self.run != self.buried
    }
}

/// A shape that was good, its image named by its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Good {
    pub hash: String,
    /// As the config wrote it.
    pub image: String,
    pub spec: Spec,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedExit {
    pub code: i64,
    pub class: String,
    /// Unix milliseconds.
    pub at: u64,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    /// The boot in which it was written.
    #[serde(default)]
    boot: String,
    containers: Memory,
}

/// What every version begins with.
#[derive(Deserialize)]
pub(super) struct Head {
    pub version: u32,
}

/// What keeps its name and meaning in every version.
#[derive(Deserialize)]
struct Orders {
    #[serde(default)]
    containers: BTreeMap<String, Order>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Order {
    stopped: bool,
    paused_until: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("cannot write supervision memory {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot move supervision memory to {path}")]
    Rename { path: PathBuf, source: io::Error },
}

/// Reads the memory; what was true of another boot only (ladders, runs) is
/// left out. An absent file is an empty one, an unreadable one is
/// renamed to `<path>.bad` with a warning.
pub fn load(path: &Path, boot: &str) -> Memory {
    let fault = match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice::<Head>(&bytes) {
            Ok(head) if head.version > VERSION => {
                set_aside(path, "supervision memory", head.version, VERSION);
                return orders(&bytes);
            }
            Ok(head) if head.version == VERSION => match serde_json::from_slice(&bytes) {
                Ok(written) => return of_boot(written, boot),
                Err(error) => error.to_string(),
            },
            Ok(head) => format!("version {} is not known", head.version),
            Err(error) => error.to_string(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Memory::new(),
        Err(error) => error.to_string(),
    };
    let aside = sibling(path, "bad");
    let moved = fs::rename(path, &aside).is_ok();
    tracing::warn!(path = %path.display(), fault, moved, "supervision memory is unreadable and set aside");
    Memory::new()
}

/// A newer agent's file is kept for it, as `<path>.v<version>`.
pub(super) fn set_aside(path: &Path, what: &str, version: u32, known: u32) {
    let aside = sibling(path, &format!("v{version}"));
    let moved = fs::rename(path, &aside).is_ok();
    tracing::warn!(
        path = %path.display(), version, known, aside = %aside.display(), moved,
        "{what} was written by a newer agent and is kept aside for it: with that agent, move it back"
    );
}

/// What a newer agent's file says of the operator's wishes.
fn orders(bytes: &[u8]) -> Memory {
    let orders = serde_json::from_slice::<Orders>(bytes).map(|orders| orders.containers);
    let orders = orders.unwrap_or_else(|error| {
        tracing::warn!(%error, "what the operator had stopped or paused is not known");
        BTreeMap::new()
    });
    let given = orders.into_iter();
    let given = given.filter(|(_, order)| order.stopped || order.paused_until.is_some());
    given
        .map(|(name, order)| {
            let entry = Entry {
                stopped: order.stopped,
                paused_until: order.paused_until,
                ..Entry::default()
            };
            (name, entry)
        })
        .collect()
}

fn of_boot(written: Written, boot: &str) -> Memory {
    let mut memory = written.containers;
    if written.boot != boot {
        for entry in memory.values_mut() {
            entry.climb = 0;
            entry.wait_until = None;
            entry.falls.clear();
            entry.run.clear();
        }
    }
    memory
}

/// Unix milliseconds; 0 for what was before.
pub fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or_default())
}

/// Replaces the file: after a crash either the old or the new one is there.
pub fn save(path: &Path, boot: &str, memory: &Memory) -> Result<(), SaveError> {
    let beside = sibling(path, "new");
    let written = Written {
        version: VERSION,
        boot: boot.to_owned(),
        containers: memory.clone(),
    };
    write(&beside, &written).map_err(|source| SaveError::Write {
        path: beside.clone(),
        source,
    })?;
    fs::rename(&beside, path)
        .and_then(|()| File::open(folder_of(path))?.sync_all())
        .map_err(|source| SaveError::Rename {
            path: path.into(),
            source,
        })
}

fn write(path: &Path, written: &Written) -> io::Result<()> {
    let text = serde_json::to_vec(written)?;
    let mut file = File::create(path)?;
    file.write_all(&text)?;
    file.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

impl SavedExit {
    pub fn of(exit: &Exit) -> SavedExit {
        SavedExit {
            code: exit.code,
            class: exit.class.word().to_owned(),
            at: millis(exit.at),
        }
    }

    pub fn exit(&self) -> Option<Exit> {
        let at: SystemTime = UNIX_EPOCH.checked_add(Duration::from_millis(self.at))?;
        Some(Exit {
            code: self.code,
            class: ExitClass::ALL
                .into_iter()
                .find(|class| class.word() == self.class)?,
            at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Memory, SavedExit, load, save};
    use crate::supervise::{Exit, ExitClass};
    use std::time::{Duration, UNIX_EPOCH};

    const BOOT: &str = "b1";

    #[test]
    fn another_boot_begins_at_the_foot_of_the_ladder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("supervise.json");
        let entry = Entry {
            climb: 5,
            restarts: 9,
            falls: vec![1, 2],
            stopped: true,
            ..Entry::default()
        };
        save(&path, BOOT, &Memory::from([("app".into(), entry)])).unwrap();
        let after = load(&path, "b2").remove("app").unwrap();
        assert_eq!((after.climb, after.restarts, after.stopped), (0, 9, true));
        assert!(after.falls.is_empty());
    }

    #[test]
    fn alive_is_what_ran_in_this_boot_and_has_not_been_buried() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("supervise.json");
        let entry = Entry {
            run: "id@then".into(),
            ..Entry::default()
        };
        save(&path, BOOT, &Memory::from([("app".into(), entry.clone())])).unwrap();
        assert!(load(&path, BOOT)["app"].is_alive());
        assert!(!load(&path, "b2")["app"].is_alive());
        let buried = Entry {
            buried: "id@then".into(),
            ..entry
        };
        assert!(!buried.is_alive());
        assert!(!Entry::default().is_alive());
    }

    #[test]
    fn what_was_saved_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("supervise.json");
        assert_eq!(load(&path, BOOT), Memory::new());
        let exit = Exit {
            code: 137,
            class: ExitClass::Oom,
            at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        };
        let entry = Entry {
            climb: 3,
            restarts: 9,
            last_exit: Some(SavedExit::of(&exit)),
            run: "id@then".into(),
            ready: Some(true),
            ..Entry::default()
        };
        let memory = Memory::from([("app".into(), entry)]);
        save(&path, BOOT, &memory).unwrap();
        assert_eq!(load(&path, BOOT), memory);
        let back = load(&path, BOOT)["app"].last_exit.clone().unwrap().exit();
        assert_eq!(back, Some(exit));
    }

    #[test]
    fn a_newer_memory_is_kept_for_its_agent_and_the_operators_word_is_obeyed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("supervise.json");
        let text = r#"{"version":2,"boot":{"id":"b1"},"containers":{
            "app":{"climb":"three","restarts":[9]},
            "batch":{"stopped":true,"climb":{}},
            "web":{"paused_until":0}}}"#;
        std::fs::write(&path, text).unwrap();
        let memory = load(&path, BOOT);
        assert_eq!(memory.keys().collect::<Vec<_>>(), ["batch", "web"]);
        assert!(memory["batch"].stopped && memory["batch"].paused_until.is_none());
        assert_eq!(memory["web"].paused_until, Some(0));
        let aside = dir.path().join("supervise.json.v2");
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), text);
        assert!(!path.exists());

        // So new that it says nothing of them.
        std::fs::write(&path, r#"{"version":3,"containers":[]}"#).unwrap();
        assert_eq!(load(&path, BOOT), Memory::new());
        assert!(aside.exists() && dir.path().join("supervise.json.v3").exists());
    }

    #[test]
    fn an_unreadable_memory_is_set_aside_not_obeyed_and_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("supervise.json");
        for bad in [
            "{\"version\":1,\"contain",
            "{\"version\":0,\"containers\":{}}",
            "\0",
        ] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(load(&path, BOOT), Memory::new());
            assert!(!path.exists());
            let aside = dir.path().join("supervise.json.bad");
            assert_eq!(std::fs::read_to_string(aside).unwrap(), bad);
        }
    }
}
