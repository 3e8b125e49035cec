//! Variables and secrets. What is wrong is told without the value.

use super::path_text;
use crate::config::fault::quoted;
use crate::config::read::{Item, Table, Wrong};
use crate::supervise::spec::resolve::MAX_VARIABLE;
use crate::supervise::spec::{EnvFile, EnvFormat, SecretSource, SecretUse};
use std::collections::BTreeMap;

pub const ENV_FORMATS: [(&str, EnvFormat); 2] =
    [("compose", EnvFormat::Compose), ("raw", EnvFormat::Raw)];
/// What `agent check --effective` shows in place of values that look like secrets.
pub const MASK: &str = "***";

/// Own variables, and the files of more.
pub fn environment(
    table: &mut Table<'_>,
    secrets: &BTreeMap<String, SecretUse>,
) -> (BTreeMap<String, String>, Vec<EnvFile>) {
    let item = table.take("environment");
    let place = item.place();
    let environment = item.map_of(bare, check_variable);
    for (name, secret) in secrets {
        if secret.target.is_none() && environment.contains_key(name) {
            let text = format!("{} is among secrets as well", quoted(name));
            table.fault_at(place, "environment", &text, "remove one of the two");
        }
    }
    (environment, env_files(table.take("env_file")))
}

/// Compose would take it from its own environment.
fn bare(name: &str) -> Result<(String, String), Wrong> {
    let wrong = Wrong::new(format!("{} has no value", quoted(name)));
    Err(wrong.help(
        "the agent's own environment is not passed on: write \"NAME=value\", or use env_file",
    ))
}

fn check_variable(name: &str, value: &str) -> Result<(), Wrong> {
    check_name(name)?;
    if value.contains(['\n', '\r']) {
        let wrong = Wrong::new("the value has more than one line");
        return Err(wrong.help("put it into a file: secrets = { NAME = { file = \"/path\" } }"));
    }
    if name.len() + 1 + value.len() > MAX_VARIABLE {
        let wrong = Wrong::new("is longer than 128 KiB: no process can be started with it");
        return Err(wrong.help("put it into a file and mount that"));
    }
    if value == MASK {
        let wrong = Wrong::new("is the mask of agent check --effective, not a value");
        return Err(wrong.help("write the value, or use secrets"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Wrong> {
    match name.chars().any(char::is_control) {
        true => Err(Wrong::new(format!(
            "{} has a control character",
            quoted(name)
        ))),
        false => Ok(()),
    }
}

/// One path, a list of paths, and tables that say more of one.
fn env_files(item: Item<'_>) -> Vec<EnvFile> {
    let items = item.list().unwrap_or_default();
    let read = |item: Item<'_>| {
        if !item.is_table() {
            return Some(EnvFile {
                path: item.path_buf()?,
                required: true,
                format: EnvFormat::Compose,
            });
        }
        item.table(|table| {
            let path = table.take("path");
            if !path.is_there() {
                table.missing("path", "\"/etc/agent/app.env\"");
            }
            let required = table.take("required").bool().unwrap_or(true);
            let format = table.take("format").choice(&ENV_FORMATS, &[]);
            Some(EnvFile {
                path: path.path_buf()?,
                required,
                format: format.unwrap_or_default(),
            })
        })
    };
    items.into_iter().filter_map(read).collect()
}

/// Each by its name, with the place where its value is.
pub fn secrets(item: Item<'_>) -> BTreeMap<String, SecretUse> {
    const SCHEMES: [&str; 2] = ["secretsmanager", "ssm"];
    let mut secrets = BTreeMap::new();
    for (name, item) in item.pairs() {
        if name.is_empty() || name.contains(['=', '\0']) {
            item.wrong(Wrong::new("the name is empty or has \"=\" in it"));
        }
        if let Err(wrong) = check_name(&name) {
            item.wrong(wrong);
        }
        if !item.is_table() {
            let text = item.plain().unwrap_or_default();
            let scheme = SCHEMES.iter().find(|scheme| {
                text.strip_prefix(**scheme)
                    .is_some_and(|rest| rest.starts_with(':'))
            });
            // The text is not shown: somebody may have written the secret itself.
            let wrong = match scheme {
                Some(scheme) => Wrong::new(format!("{scheme}: is not supported by this version"))
                    .help("a later version brings it; this one has { file = \"/path\" }"),
                None => Wrong::new("is no place of a secret").help("write { file = \"/path\" }"),
            };
            item.wrong(wrong);
            continue;
        }
        let secret = item.table(|table| {
            let file = table.take("file");
            if !file.is_there() {
                table.missing("file", "\"/etc/agent/secrets/name\"");
            }
            let target = table.take("target").path_buf().map(path_text);
            Some(SecretUse {
                source: SecretSource::File(file.path_buf()?),
                target,
            })
        });
        secrets.extend(secret.map(|secret| (name, secret)));
    }
    secrets
}
