//! Ignition, specification 3.3.0: the newest that every Flatcar since 3185 takes.

use super::gzip::{base64, data_url, gzip};
use super::plan::{Contents, File, Plan, Remote, Sha512, State, Unit};
use serde::Serialize;

const VERSION: &str = "3.3.0";
const UNIT_DIRECTORY: &str = "/etc/systemd/system";

#[derive(Serialize)]
struct Config {
    ignition: Ignition,
    #[serde(skip_serializing_if = "Option::is_none")]
    passwd: Option<Passwd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<Storage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    systemd: Option<Systemd>,
}

#[derive(Serialize)]
struct Ignition {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Replace>,
}

#[derive(Serialize)]
struct Replace {
    replace: Resource,
}

#[derive(Serialize)]
struct Passwd {
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: &'static str,
    system: bool,
}

#[derive(Serialize)]
struct Storage {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    directories: Vec<Directory>,
    files: Vec<FileEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
}

#[derive(Serialize)]
struct Directory {
    path: String,
    mode: u32,
}

#[derive(Serialize)]
struct FileEntry {
    path: String,
    mode: u32,
    overwrite: bool,
    contents: Resource,
}

#[derive(Serialize)]
struct Link {
    path: String,
    target: String,
    overwrite: bool,
}

#[derive(Serialize)]
struct Resource {
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<&'static str>,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification: Option<Verification>,
}

#[derive(Serialize)]
struct Verification {
    hash: String,
}

#[derive(Serialize)]
struct Systemd {
    units: Vec<UnitEntry>,
}

#[derive(Serialize)]
struct UnitEntry {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dropins: Vec<DropInEntry>,
}

#[derive(Serialize)]
struct DropInEntry {
    name: String,
    contents: String,
}

/// The config of a host. `compress`: what is inline is gzip where that is
/// shorter; units then come as files, because Ignition takes no compressed ones.
pub fn ignition(plan: &Plan, compress: bool) -> String {
    let mut files: Vec<FileEntry> = plan.files.iter().map(|f| file(f, compress)).collect();
    let mut units = Vec::new();
    for unit in &plan.units {
        if compress {
            files.extend(unit_files(unit).iter().map(|f| file(f, compress)));
        }
        if !compress || unit.state != State::AsIs {
            units.push(entry(unit, compress));
        }
    }
    let directory = |path: &String| Directory {
        path: path.clone(),
        mode: 0o700,
    };
    let link = |(path, target): &(String, String)| Link {
        path: path.clone(),
        target: target.clone(),
        overwrite: true,
    };
    let group = |&name: &&'static str| Group { name, system: true };
    text(&Config {
        ignition: Ignition {
            version: VERSION,
            config: None,
        },
        passwd: Some(Passwd {
            groups: plan.groups.iter().map(group).collect(),
        }),
        storage: Some(Storage {
            directories: plan.directories.iter().map(directory).collect(),
            files,
            links: plan.links.iter().map(link).collect(),
        }),
        systemd: Some(Systemd { units }),
    })
}

/// A config that says only where the whole one is, and what it must be.
pub fn pointer(url: &str, config: &str) -> String {
    let whole = Remote {
        url: url.into(),
        sha512: Sha512::of(config.as_bytes()),
    };
    text(&Config {
        ignition: Ignition {
            version: VERSION,
            config: Some(Replace {
                replace: remote(&whole),
            }),
        },
        passwd: None,
        storage: None,
        systemd: None,
    })
}

fn text(config: &Config) -> String {
    // Plain structs of strings and numbers have no way to fail.
    let mut text = serde_json::to_string(config).unwrap_or_default();
    text.push('\n');
    text
}

fn file(file: &File, compress: bool) -> FileEntry {
    FileEntry {
        path: file.path.clone(),
        mode: file.mode,
        overwrite: true,
        contents: match &file.contents {
            Contents::Remote(there) => remote(there),
            Contents::Inline(bytes) => inline(bytes, compress),
        },
    }
}

fn remote(remote: &Remote) -> Resource {
    Resource {
        compression: None,
        source: remote.url.clone(),
        verification: Some(Verification {
            hash: format!("sha512-{}", remote.sha512),
        }),
    }
}

fn inline(bytes: &[u8], compress: bool) -> Resource {
    let plain = Resource {
        compression: None,
        source: data_url(bytes),
        verification: None,
    };
    if compress {
        let packed = format!("data:;base64,{}", base64(&gzip(bytes)));
        if packed.len() + r#""compression":"gzip","#.len() < plain.source.len() {
            return Resource {
                compression: Some("gzip"),
                source: packed,
                verification: None,
            };
        }
    }
    plain
}

fn entry(unit: &Unit, as_files: bool) -> UnitEntry {
    let drop_ins = unit.drop_ins.iter().filter(|_| !as_files);
    UnitEntry {
        name: unit.name.clone(),
        enabled: (unit.state == State::Enabled).then_some(true),
        mask: (unit.state == State::Masked).then_some(true),
        contents: unit.contents.clone().filter(|_| !as_files),
        dropins: drop_ins
            .map(|drop_in| DropInEntry {
                name: drop_in.name.clone(),
                contents: drop_in.contents.clone(),
            })
            .collect(),
    }
}

/// What Ignition would write for the unit.
fn unit_files(unit: &Unit) -> Vec<File> {
    let of = |path: String, text: &String| File {
        path,
        mode: 0o644,
        contents: Contents::Inline(text.clone().into_bytes()),
    };
    let own = unit.contents.iter();
    let mut files: Vec<File> = own
        .map(|text| of(format!("{UNIT_DIRECTORY}/{}", unit.name), text))
        .collect();
    for drop_in in &unit.drop_ins {
        let path = format!("{UNIT_DIRECTORY}/{}.d/{}", unit.name, drop_in.name);
        files.push(of(path, &drop_in.contents));
    }
    files
}
