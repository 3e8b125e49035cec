//! The whole room from text to Settings and back.

mod changes;
mod documentation;
mod faults;
mod round_trip;
mod where_from;

use crate::config::dirs::Surroundings;
use crate::config::fault::Faults;
use crate::config::{Settings, document, load};
use std::path::PathBuf;

/// A host where an ordinary user runs the agent.
fn surroundings() -> Surroundings {
    Surroundings {
        uid: 1000,
        xdg_state_home: Some("/home/u/state".into()),
        xdg_runtime_dir: Some("/run/user/1000".into()),
        temp: "/tmp".into(),
        ..Surroundings::default()
    }
}

/// Reads texts as files `a.toml`, `b.toml`, … in order.
fn read(texts: &[&str]) -> Result<Settings, Faults> {
    let names = (b'a'..).map(|name| PathBuf::from(format!("{}.toml", char::from(name))));
    let mut tree = Vec::new();
    let mut faults = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let (entries, found) = document::parse(index, text);
        document::merge(&mut tree, entries);
        faults.extend(found);
    }
    load::check(&tree, faults, None, &surroundings())
        .map(|(settings, _)| settings)
        .map_err(|faults| Faults::new(names.take(texts.len()).collect(), faults))
}
