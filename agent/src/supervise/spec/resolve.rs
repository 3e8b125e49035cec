//! Reads what a spec takes from files: env files, secrets, seccomp profiles.
//!
//! Blocking. A file that is not as it has to be is an error that names it and
//! never an empty value; no error has anything of a value in it.

use super::env_file;
use super::hash::Written;
use super::{EnvFile, SecretSource, SecretUse, Spec};
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longest file. Unit: bytes.
pub const MAX_FILE: u64 = 1 << 20;
/// Longest `NAME=value` that a process can be started with: MAX_ARG_STRLEN of
/// execve(2), the final NUL counted. Unit: bytes.
pub const MAX_VARIABLE: usize = 128 * 1024 - 1;

/// What was read, for one create call.
#[derive(Debug, Default)]
pub struct Resolved {
    /// From env files, then from secrets; the config's own `environment` stands between them.
    pub env_files: BTreeMap<String, Secret>,
    pub secrets: BTreeMap<String, Secret>,
    /// `security_opt` with the profiles in place of their paths.
    pub security_opt: Option<Vec<String>>,
    /// Digest of all of it; None where nothing is read from files.
    pub content: Option<String>,
}

/// A file that a container cannot be made from. The cause, if any, is the source.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("cannot read {what} {}", path.display())]
    Read {
        what: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{what} {} is {problem}", path.display())]
    Unfit {
        what: String,
        path: PathBuf,
        problem: &'static str,
    },
    #[error("env_file {}, line {line}: {problem}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        problem: String,
    },
    #[error("the files of its environment and secrets could not be read in time")]
    Late,
}

impl Spec {
    /// Something of it stands in files.
    pub fn reads_files(&self) -> bool {
        let profile = |option: &String| profile(option).is_some();
        !self.env_files.is_empty()
            || !self.secrets.is_empty()
            || self.security_opt.iter().any(profile)
    }
}

/// `seccomp=/path`: Docker wants what is in the file.
fn profile(option: &str) -> Option<&Path> {
    let path = option.strip_prefix("seccomp")?.strip_prefix(['=', ':'])?;
    path.starts_with('/').then_some(Path::new(path))
}

/// Reads all files of `spec`. Errors: the first that is not as it has to be.
pub fn resolve(spec: &Spec) -> Result<Resolved, ResolveError> {
    if !spec.reads_files() {
        return Ok(Resolved::default());
    }
    let mut written = Written::default();
    let mut variables = BTreeMap::new();
    for file in &spec.env_files {
        read_env_file(file, &mut variables)?;
    }
    for (name, value) in &variables {
        written.one("variable", Some(name));
        written.one("value", Some(value));
    }
    let mut resolved = Resolved::default();
    for (name, secret) in &spec.secrets {
        let value = read_secret(name, secret, &mut written)?;
        resolved
            .secrets
            .extend(value.map(|value| (name.clone(), value)));
    }
    let options = spec
        .security_opt
        .iter()
        .map(|option| match profile(option) {
            None => Ok(option.clone()),
            Some(path) => {
                let profile = read_profile(path)?;
                written.one("seccomp", Some(&profile));
                Ok(format!("seccomp={profile}"))
            }
        });
    resolved.security_opt = Some(options.collect::<Result<_, _>>()?);
    resolved.content = Some(written.digest());
    let secret = |(name, value)| (name, Secret::new(value));
    resolved.env_files = variables.into_iter().map(secret).collect();
    Ok(resolved)
}

fn read_env_file(
    file: &EnvFile,
    variables: &mut BTreeMap<String, String>,
) -> Result<(), ResolveError> {
    let bytes = match read("env_file", &file.path) {
        Err(ResolveError::Read { source, .. })
            if !file.required && source.kind() == io::ErrorKind::NotFound =>
        {
            return Ok(());
        }
        bytes => bytes?,
    };
    let text = text("env_file", &file.path, bytes)?;
    env_file::read(&text, file.format, variables).map_err(|wrong| ResolveError::Line {
        path: file.path.clone(),
        line: wrong.line,
        problem: wrong.problem,
    })
}

/// The value of one that goes into the environment.
fn read_secret(
    name: &str,
    secret: &SecretUse,
    written: &mut Written,
) -> Result<Option<Secret>, ResolveError> {
    let SecretSource::File(path) = &secret.source;
    let what = format!("secret {name}");
    let bytes = read(&what, path)?;
    let unfit = |problem| ResolveError::Unfit {
        what: what.clone(),
        path: path.clone(),
        problem,
    };
    if secret.target.is_some() {
        written.one("secret", Some(name));
        let mut content = Written::default();
        // A key may be any bytes.
        content.bytes(&bytes);
        written.one("content", Some(content.digest()));
        return Ok(None);
    }
    let mut value = text(&what, path, bytes)?;
    // Editors and `echo` end a file with a newline that is no part of the value.
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    if value.is_empty() {
        return Err(unfit("empty"));
    }
    if name.len() + 1 + value.len() > MAX_VARIABLE {
        return Err(unfit(
            "too long for an environment variable (128 KiB): give it a target",
        ));
    }
    written.one("secret", Some(name));
    written.one("value", Some(&value));
    Ok(Some(Secret::new(value)))
}

fn read_profile(path: &Path) -> Result<String, ResolveError> {
    const WHAT: &str = "seccomp profile";
    let text = text(WHAT, path, read(WHAT, path)?)?;
    let profile: serde_json::Value =
        serde_json::from_str(&text).map_err(|_| ResolveError::Unfit {
            what: WHAT.into(),
            path: path.into(),
            problem: "not JSON",
        })?;
    Ok(profile.to_string())
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>, ResolveError> {
    let unfit = |problem| ResolveError::Unfit {
        what: what.into(),
        path: path.into(),
        problem,
    };
    let failed = |source| ResolveError::Read {
        what: what.into(),
        path: path.into(),
        source,
    };
    // A FIFO would make us wait for a writer.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(unfit("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unfit("larger than 1 MiB"));
    }
    Ok(bytes)
}

fn text(what: &str, path: &Path, bytes: Vec<u8>) -> Result<String, ResolveError> {
    let unfit = |problem| ResolveError::Unfit {
        what: what.into(),
        path: path.into(),
        problem,
    };
    let text = String::from_utf8(bytes).map_err(|_| unfit("not UTF-8"))?;
    if text.contains('\0') {
        return Err(unfit("not text: it has a NUL character in it"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
