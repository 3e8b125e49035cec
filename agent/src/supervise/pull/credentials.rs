//! Who asks a registry: logins from the config, from another room, from the
//! file that `docker login` writes.
//!
//! Files are read anew for each pull, so a rotated password needs no restart.
//! No value of any of them is in an error, a log or a status: only where it
//! came from.

use super::Settings;
use crate::chain::Chain;
use crate::docker::image::DOCKER_HUB;
use crate::docker::image_pull::Login;
use crate::secret::Secret;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// Longest docker config file that is read. Unit: bytes.
const FILE_LIMIT: u64 = 1 << 20;
/// Deadline of reading a file and of asking another room.
const DEADLINE: Duration = Duration::from_secs(10);
/// As `docker login` writes it; others leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What another room is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub registry: String,
    /// The registry has just refused what was answered before.
    pub refused: bool,
}

/// Another room's answer: a login, None where the registry is not its own, or
/// why it has none now.
pub type Answer = BoxFuture<'static, Result<Option<Login>, String>>;

/// Logins that another room makes, such as ECR's of twelve hours.
#[derive(Clone)]
pub struct Dynamic(pub Arc<dyn Fn(Question) -> Answer + Send + Sync>);

/// What is known of a registry's login.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// None: it is asked as nobody.
    pub login: Option<Login>,
    /// Where it is from, or why there is none; for an operator.
    pub told: String,
}

#[derive(Clone, Default)]
pub struct Credentials {
    pub dynamic: Option<Dynamic>,
    /// `$CREDENTIALS_DIRECTORY`
    pub directory: Option<PathBuf>,
}

/// The parts of `~/.docker/config.json` that matter here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Credentials {
    /// The login for a registry: the config's own before another room's before
    /// the docker config file's. `refused`: what was found before did not do.
    pub async fn find(&self, settings: &Settings, registry: &str, refused: bool) -> Found {
        if let Some(named) = settings.credentials.get(registry) {
            let place = format!("[images.credentials.{registry:?}]");
            let read = named.password.read(self.directory.as_deref());
            return match timeout(DEADLINE, read).await {
                Ok(Ok(password)) => Found {
                    login: Some(Login {
                        username: named.username.clone(),
                        password,
                        identity_token: None,
                    }),
                    told: place,
                },
                Ok(Err(error)) => Found::none(format!("none: {place}: {}", Chain(&error))),
                Err(_) => Found::none(format!("none: {place}: its file cannot be read in time")),
            };
        }
        if let Some(Dynamic(ask)) = &self.dynamic {
            let question = Question {
                registry: registry.to_owned(),
                refused,
            };
            match timeout(DEADLINE, ask(question)).await {
                Ok(Ok(None)) => {}
                Ok(Ok(login)) => {
                    return Found {
                        login,
                        told: "made for this registry".into(),
                    };
                }
                Ok(Err(error)) => return Found::none(format!("none: {error}")),
                Err(_) => return Found::none("none: they cannot be made in time".into()),
            }
        }
        match timeout(DEADLINE, in_file(&settings.docker_config, registry)).await {
            Ok(found) => found,
            Err(_) => {
                let path = settings.docker_config.display();
                Found::none(format!("none: {path} cannot be read in time"))
            }
        }
    }
}

impl Found {
    fn none(told: String) -> Found {
        Found { login: None, told }
    }
}

async fn in_file(path: &Path, registry: &str) -> Found {
    let shown = path.display();
    let mut text = Vec::new();
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        file.take(FILE_LIMIT).read_to_end(&mut text).await
    };
    match read.await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Found::none(format!("none: no {shown}"));
        }
        Err(error) => return Found::none(format!("none: {shown}: {error}")),
    }
    // The fault's text could quote the file.
    match serde_json::from_slice::<DockerConfig>(&text) {
        Ok(config) => config.find(&shown.to_string(), registry),
        Err(error) => Found::none(format!(
            "none: {shown} is no docker config (line {}, column {})",
            error.line(),
            error.column()
        )),
    }
}

impl DockerConfig {
    fn find(&self, path: &str, registry: &str) -> Found {
        let helper = self.helpers.iter().find(|(key, _)| host(key) == registry);
        let helper = helper.map(|(_, helper)| ("credHelpers", helper));
        let auth = self.auths.iter().find(|(key, _)| host(key) == registry);
        let login = auth.and_then(|(_, auth)| auth.login());
        let store = self.store.as_ref().map(|store| ("credsStore", store));
        // With a store the entries are empty, and only say who has logged in.
        match (helper, login, store) {
            (None, Some(login), _) => Found {
                login: Some(login),
                told: path.to_owned(),
            },
            (Some((kind, program)), ..) | (None, None, Some((kind, program))) => {
                Found::none(format!(
                    "none: {path} leaves them to docker-credential-{program} ({kind}), a program, and the agent runs none: write [images.credentials.{registry:?}]"
                ))
            }
            (None, None, None) if auth.is_some() => Found::none(format!(
                "none: the entry for {registry} in {path} cannot be read"
            )),
            (None, None, None) => Found::none(format!("none: no entry for {registry} in {path}")),
        }
    }
}

impl Auth {
    fn login(&self) -> Option<Login> {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let decoded = filled(&self.auth)
            .and_then(|auth| BASE64.decode(auth.trim()).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (username, password) = match pair {
            Some((username, password)) => {
                let password = password.trim_end_matches('\0');
                (username.to_owned(), password.to_owned())
            }
            None => (
                filled(&self.username)?,
                filled(&self.password).unwrap_or_default(),
            ),
        };
        let token = filled(&self.identitytoken);
        if password.is_empty() && token.is_none() {
            return None;
        }
        Some(Login {
            username,
            password: Secret::new(password),
            identity_token: token.map(Secret::new),
        })
    }
}

/// The registry that a key of `auths` means: `https://host/v1/` is an old form
/// of `host`, and Docker's own registry has several names.
pub fn host(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    }
}

#[cfg(test)]
mod tests;
