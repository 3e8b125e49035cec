//! What lands where on the host, before it is written in any language.

use super::units;
use sha2::Digest;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// The binary, where the units expect it.
const BINARY: &str = "/opt/bin/agent";
/// Where systemd-sysext looks; the name has to be that of the extension.
const EXTENSION: &str = "/etc/extensions/agent.raw";
const EXTENSIONS: &str = "/opt/extensions/agent/";
const LOGIND: &str = "/etc/systemd/logind.conf.d/10-agent.conf";
const SYSUSERS: &str = "/etc/sysusers.d/agent.conf";
/// Members may talk to the agent's sockets.
const GROUP: &str = "agent";
/// Directories that other things live in too: they keep the mode they have.
const SHARED: [&str; 4] = ["/etc", "/etc/agent", "/opt", "/opt/bin"];
/// What logind is to wait at least before it shuts down.
const LEAST_DELAY: Duration = Duration::from_secs(120);
/// Over the longest drain: for what lies between its steps.
const MARGIN: Duration = Duration::from_secs(20);

/// One kind of host, as its operator describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    pub program: Program,
    /// The config, and whatever else it needs.
    pub files: Vec<File>,
    /// Units that must not start: what ran on such hosts before.
    pub masks: Vec<String>,
    /// What the config listens on; systemd holds these sockets where a unit of that name is there.
    pub sockets: Vec<Socket>,
    /// The longest that stopping all containers in order may take.
    pub drain: Duration,
}

/// How the agent itself comes to the host.
#[derive(Debug, Clone, PartialEq)]
pub enum Program {
    /// The image has it at /opt/bin/agent.
    Preinstalled,
    Binary(Remote),
    /// A system extension with binary and units in it.
    Sysext(Remote),
}

/// Something that the host fetches: https, http or s3, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub url: String,
    pub sha512: Sha512,
}

/// 128 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sha512(String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub path: String,
    pub mode: u32,
    pub contents: Contents,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    Inline(Vec<u8>),
    Remote(Remote),
}

/// A listener of the config: FileDescriptorName= and the values of ListenStream=.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    pub name: &'static str,
    pub listen: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub groups: Vec<&'static str>,
    /// Each with mode 0700.
    pub directories: Vec<String>,
    pub files: Vec<File>,
    /// (path, target)
    pub links: Vec<(String, String)>,
    pub units: Vec<Unit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    pub state: State,
    /// None: the unit is there by other means.
    pub contents: Option<String>,
    pub drop_ins: Vec<DropIn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// By preset, which systemd applies on the first boot.
    Enabled,
    Masked,
    /// Neither: only its drop-ins matter.
    AsIs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropIn {
    pub name: String,
    pub contents: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    #[error("{0:?} is no file on a host: an absolute path without .., // or a slash at its end")]
    Path(String),
    #[error("{0} is put on the host twice")]
    Twice(String),
    #[error("{0:?} is no name of a unit, such as fluentd.service")]
    Unit(String),
    #[error("{0:?} is nothing that a host can fetch: https://, s3:// or http://")]
    Url(String),
}

impl Sha512 {
    pub fn of(bytes: &[u8]) -> Sha512 {
        let digest = sha2::Sha512::digest(bytes);
        Sha512(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// 128 hex digits, with or without `sha512-` before them.
    pub fn parse(text: &str) -> Option<Sha512> {
        let digits = text.strip_prefix("sha512-").unwrap_or(text);
        let is_hex = digits.len() == 128 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_hex.then(|| Sha512(digits.to_ascii_lowercase()))
    }
}

impl fmt::Display for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl File {
    fn text(path: &str, text: String) -> File {
        File {
            path: path.into(),
            mode: 0o644,
            contents: Contents::Inline(text.into_bytes()),
        }
    }

    fn remote(path: String, mode: u32, remote: &Remote) -> File {
        File {
            path,
            mode,
            contents: Contents::Remote(remote.clone()),
        }
    }
}

/// Everything that a host of this kind gets.
pub fn plan(host: &Host) -> Result<Plan, PlanError> {
    let mut files = Vec::new();
    let mut links = Vec::new();
    match &host.program {
        Program::Preinstalled => (),
        Program::Binary(remote) => files.push(File::remote(BINARY.into(), 0o755, remote)),
        Program::Sysext(remote) => {
            let path = format!("{EXTENSIONS}{}", image_name(&remote.url));
            files.push(File::remote(path.clone(), 0o644, remote));
            links.push((EXTENSION.into(), path));
        }
    }
    files.extend(host.files.iter().cloned());
    files.push(File::text(SYSUSERS, units::bare(units::SYSUSERS)));
    files.push(File::text(LOGIND, logind(host.drain)));
    let is_sysext = matches!(host.program, Program::Sysext(_));
    let mut units = units::units(&host.sockets, is_sysext);
    for name in &host.masks {
        units.push(Unit {
            name: name.clone(),
            state: State::Masked,
            contents: None,
            drop_ins: Vec::new(),
        });
    }
    let plan = Plan {
        groups: vec![GROUP],
        directories: private_directories(&host.files),
        files,
        links,
        units,
    };
    check(&plan)?;
    Ok(plan)
}

/// The last part of the URL where it names an image: its version stays visible.
fn image_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    match path.rsplit('/').next() {
        Some(name) if name.ends_with(".raw") && name.len() > ".raw".len() => name,
        _ => "agent.raw",
    }
}

/// logind.conf(5): how long a reboot waits for the agent to drain.
fn logind(drain: Duration) -> String {
    let seconds = (drain + MARGIN).max(LEAST_DELAY).as_secs_f64().ceil();
    format!("[Login]\nInhibitDelayMaxSec={seconds}\n")
}

/// Where secrets lie nobody else looks.
fn private_directories(files: &[File]) -> Vec<String> {
    let private = files.iter().filter(|file| file.mode & 0o077 == 0);
    let parents: BTreeSet<&str> = private
        .filter_map(|file| Some(file.path.rsplit_once('/')?.0))
        .filter(|parent| !parent.is_empty() && !SHARED.contains(parent))
        .collect();
    parents.into_iter().map(str::to_owned).collect()
}

fn check(plan: &Plan) -> Result<(), PlanError> {
    let mut paths = BTreeSet::new();
    let written = plan.files.iter().map(|file| &file.path);
    for path in written.chain(plan.links.iter().map(|(path, _)| path)) {
        if !is_path(path) {
            return Err(PlanError::Path(path.clone()));
        }
        if !paths.insert(path) {
            return Err(PlanError::Twice(path.clone()));
        }
    }
    for file in &plan.files {
        if let Contents::Remote(remote) = &file.contents {
            checked_url(&remote.url)?;
        }
    }
    let mut names = BTreeSet::new();
    for unit in &plan.units {
        if !is_unit(&unit.name) {
            return Err(PlanError::Unit(unit.name.clone()));
        }
        if !names.insert(&unit.name) {
            return Err(PlanError::Twice(unit.name.clone()));
        }
    }
    Ok(())
}

fn is_path(path: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(is_part))
        && !path.chars().any(char::is_control)
}

/// The URL as it is, if a host can fetch from it.
pub fn checked_url(url: &str) -> Result<&str, PlanError> {
    match is_url(url) {
        true => Ok(url),
        false => Err(PlanError::Url(url.into())),
    }
}

fn is_url(url: &str) -> bool {
    let schemes = ["https://", "http://", "s3://"];
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    // A quote would end the string that the install script puts it in.
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && url.chars().all(|c| c.is_ascii_graphic())
        && !url.contains(['\'', '"', '\\', '#'])
}

/// systemd.unit(5), names.
fn is_unit(name: &str) -> bool {
    const TYPES: [&str; 9] = [
        "service",
        "socket",
        "target",
        "timer",
        "path",
        "mount",
        "automount",
        "swap",
        "slice",
    ];
    name.rsplit_once('.').is_some_and(|(stem, suffix)| {
        let is_right = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        !stem.is_empty() && stem.chars().all(is_right) && TYPES.contains(&suffix)
    }) && name.len() < 256
}
