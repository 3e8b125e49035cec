//! Volumes, other mounts, and secrets, which may be mounts too.

use super::environment::secrets;
use crate::config::compose::check_volume;
use crate::config::fault::{Place, quoted};
use crate::config::read::{Item, Table, Wrong};
use crate::supervise::spec::{Mount, MountKind, Propagation, SecretUse};
use std::collections::{BTreeMap, BTreeSet};

pub const PROPAGATIONS: [(&str, Propagation); 6] = [
    ("private", Propagation::Private),
    ("rprivate", Propagation::Rprivate),
    ("shared", Propagation::Shared),
    ("rshared", Propagation::Rshared),
    ("slave", Propagation::Slave),
    ("rslave", Propagation::Rslave),
];

#[derive(Clone, Copy)]
enum Kind {
    Bind,
    Volume,
    Tmpfs,
}

const KINDS: [(&str, Kind); 3] = [
    ("bind", Kind::Bind),
    ("volume", Kind::Volume),
    ("tmpfs", Kind::Tmpfs),
];

pub struct Storage {
    pub volumes: Vec<String>,
    pub mounts: Vec<Mount>,
    pub tmpfs: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, SecretUse>,
}

/// One entry of `volumes`.
enum Volume {
    Short(String),
    Long(Mount),
}

pub fn storage(table: &mut Table<'_>) -> Storage {
    let item = table.take("volumes");
    let place = item.place();
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    for item in item.list().unwrap_or_default() {
        let volume = match item.is_table() {
            true => item.table(volume),
            false => item.parse("a volume such as \"/host:/container\"", |text| {
                check_volume(text).map(|()| Volume::Short(text.into()))
            }),
        };
        match volume {
            Some(Volume::Short(volume)) => volumes.push(volume),
            Some(Volume::Long(mount)) => mounts.push(mount),
            None => {}
        }
    }
    let tmpfs = tmpfs(table.take("tmpfs"));
    let item = table.take("secrets");
    let secrets_place = item.place();
    let secrets = secrets(item);
    let storage = Storage {
        volumes,
        mounts,
        tmpfs,
        secrets,
    };
    check_targets(table, (place, secrets_place), &storage);
    storage
}

/// The long form. A bind that makes its host path is what the short form says.
fn volume(table: &mut Table<'_>) -> Option<Volume> {
    let kind = table.take("type");
    if !kind.is_there() {
        table.missing("type", "\"bind\", \"volume\" or \"tmpfs\"");
    }
    let kind = kind.choice(&KINDS, &["npipe", "cluster", "image"]);
    let item = table.take("source");
    let source = item.string();
    let target = table.take("target");
    if !target.is_there() {
        table.missing("target", "\"/container\"");
    }
    let target = target.path_buf().map(super::path_text);
    let read_only = table.take("read_only").bool().unwrap_or_default();
    let (propagation, creates) = table.take("bind").table(|table| {
        let propagation = table.take("propagation").choice(&PROPAGATIONS, &[]);
        let creates = table.take("create_host_path").bool().unwrap_or(true);
        (propagation, creates)
    });
    let nocopy = table
        .take("volume")
        .table(|table| table.take("nocopy").bool().unwrap_or_default());
    let (size, mode) = table.take("tmpfs").table(|table| {
        let size = table.take("size").size(1, u64::MAX >> 1);
        (size, table.take("mode").integer(0, 0o7777))
    });
    let (kind, target) = (kind?, target?);
    let check_source = |is_needed: bool| match (&source, is_needed) {
        (None, true) => table.fault("a bind needs a source on the host"),
        (Some(source), true) if !source.starts_with('/') => item.wrong(Wrong::new(format!(
            "{} is no absolute path",
            quoted(source)
        ))),
        (Some(source), false) => {
            if let Err(wrong) = check_volume(&format!("{source}:/x"))
                && !source.starts_with('/')
            {
                item.wrong(wrong);
            } else if source.starts_with('/') {
                item.wrong(
                    Wrong::new("is a path, not a volume's name").help("use type = \"bind\""),
                );
            }
        }
        _ => {}
    };
    let kind = match kind {
        Kind::Bind => {
            check_source(true);
            let source = source?;
            let is_plain = !source.contains(':') && !target.contains(':');
            if creates && is_plain {
                let mut options: Vec<&str> = Vec::new();
                options.extend(read_only.then_some("ro"));
                options.extend(propagation.map(Propagation::word));
                let mut text = format!("{source}:{target}");
                if !options.is_empty() {
                    text.push_str(&format!(":{}", options.join(",")));
                }
                return Some(Volume::Short(text));
            }
            MountKind::Bind {
                source,
                propagation,
            }
        }
        Kind::Volume => {
            check_source(false);
            MountKind::Volume { source, nocopy }
        }
        Kind::Tmpfs => {
            if source.is_some() {
                item.wrong(Wrong::new("a tmpfs has no source"));
            }
            let mode = mode.and_then(|mode| u32::try_from(mode).ok());
            MountKind::Tmpfs { size, mode }
        }
    };
    Some(Volume::Long(Mount {
        kind,
        target,
        read_only,
    }))
}

fn tmpfs(item: Item<'_>) -> BTreeMap<String, String> {
    if item.is_table() {
        return item.map();
    }
    let lines = item.strings(|text| match text.starts_with('/') {
        true => Ok(()),
        false => Err(Wrong::new(format!("{} is no absolute path", quoted(text)))),
    });
    let split = |line: String| match line.split_once(':') {
        Some((path, options)) => (path.into(), options.into()),
        None => (line, String::new()),
    };
    lines.into_iter().map(split).collect()
}

/// Docker refuses two mounts at one path, but only when it creates the container.
fn check_targets(table: &Table<'_>, (volumes, secrets): (Place, Place), storage: &Storage) {
    let short = storage.volumes.iter().map(|volume| {
        let mut parts = volume.split(':');
        let source = parts.next();
        parts.next().or(source).unwrap_or_default()
    });
    let long = storage.mounts.iter().map(|mount| mount.target.as_str());
    let secret = storage.secrets.values();
    let secret = secret.filter_map(|secret| secret.target.as_deref());
    let all = short
        .chain(long)
        .map(|target| ("volumes", volumes, target))
        .chain(secret.map(|target| ("secrets", secrets, target)));
    let mut seen: BTreeSet<&str> = storage.tmpfs.keys().map(String::as_str).collect();
    for (key, place, target) in all {
        if !seen.insert(target) {
            let text = format!("two mounts at {}", quoted(target));
            table.fault_at(place, key, &text, "each path can be mounted once");
        }
    }
}
