//! `[images]`: pulls, who the registries are told that asks, and what is removed again.

use crate::config::fault::quoted;
use crate::config::read::{Item, Table, Wrong};
use crate::secret::Source;
use crate::supervise::housekeeping;
use crate::supervise::pull::{Named, Settings, credentials};

pub fn images(table: &mut Table<'_>) -> (Settings, housekeeping::Settings) {
    (pulls(table), gc(table))
}

/// `gc` and `gc_*`.
fn gc(table: &mut Table<'_>) -> housekeeping::Settings {
    let default = housekeeping::Settings::default();
    let duration = |item: Item<'_>, default| item.duration().unwrap_or(default);
    let (high, low) = (table.take("gc_high"), table.take("gc_low"));
    let settings = housekeeping::Settings {
        on: table.take("gc").bool().unwrap_or(default.on),
        high: high.percent().unwrap_or(default.high),
        low: low.percent().unwrap_or(default.low),
        interval: duration(table.take("gc_interval"), default.interval),
        min_age: duration(table.take("gc_min_age"), default.min_age),
    };
    if settings.low >= settings.high {
        let (item, other, mark) = match low.is_there() {
            true => (low, "gc_high", settings.high),
            false => (high, "gc_low", settings.low),
        };
        let text = format!("gc_low has to be below gc_high, and {other} is {mark}%");
        item.wrong(Wrong::new(text).help("the defaults are gc_high = \"85%\", gc_low = \"75%\""));
    }
    settings
}

fn pulls(table: &mut Table<'_>) -> Settings {
    let default = Settings::default();
    let duration = |item: Item<'_>, default| item.duration().unwrap_or(default);
    Settings {
        stall_timeout: duration(table.take("stall_timeout"), default.stall_timeout),
        pull_timeout: duration(table.take("pull_timeout"), default.pull_timeout),
        docker_config: table
            .take("docker_config")
            .path_buf()
            .unwrap_or(default.docker_config),
        credentials: table
            .take("credentials")
            .named(named)
            .into_iter()
            .flatten()
            .collect(),
    }
}

fn named(registry: &str, table: &mut Table<'_>) -> Option<(String, Named)> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if registry.is_empty() || !registry.chars().all(is_allowed) {
        table.fault("not a registry: write \"host\" or \"host:port\" as images name it");
    }
    let username = table.take("username");
    if !username.is_there() {
        table.missing("username", "\"AWS\"");
    }
    let username = username.string();
    let password = table.take("password");
    if !password.is_there() {
        table.missing("password", "{ file = \"/path\" }");
    }
    let password = secret(password);
    Some((
        credentials::host(registry).to_owned(),
        Named {
            username: username?,
            password: password?,
        },
    ))
}

/// Where a secret lies. One that stands in the config itself is refused without
/// being printed.
fn secret(item: Item<'_>) -> Option<Source> {
    if item.is_there() && !item.is_table() {
        let wrong = Wrong::new("a secret does not stand in the config itself");
        item.wrong(wrong.help("write { file = \"/path\" } or { credential = \"name\" }"));
        return None;
    }
    let is_there = item.is_there();
    item.table(|table| {
        let file = table.take("file");
        let credential = table.take("credential");
        let is_written = file.is_there() || credential.is_there();
        let file = file.path_buf();
        let credential = credential.parse("the name of a credential", credential_name);
        match (file, credential) {
            (Some(file), None) => Some(Source::File(file)),
            (None, Some(name)) => Some(Source::Credential(name)),
            (Some(_), Some(_)) => {
                table.fault("file and credential do not go together");
                None
            }
            (None, None) => {
                if is_there && !is_written {
                    table.missing("file", "\"/path\", or credential = \"name\"");
                }
                None
            }
        }
    })
}

/// systemd.exec(5): it becomes the name of a file.
fn credential_name(text: &str) -> Result<String, Wrong> {
    let fits = !text.is_empty() && !text.starts_with('.') && text.len() <= 255;
    match fits
        && text
            .chars()
            .all(|c| c.is_ascii_graphic() && !"/:".contains(c))
    {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(format!(
            "{} cannot be the name of a credential",
            quoted(text)
        ))),
    }
}
