//! What may go, and in which order: pure.

use super::settings::Settings;
use crate::docker::container::Summary;
use crate::supervise::act::double_name;
use crate::supervise::body::{LABEL_CONTAINER, LABEL_MANAGED_BY, MANAGER};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// One image of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    /// `name:tag`
    pub tags: Vec<String>,
    /// `name@sha256:…`
    pub digests: Vec<String>,
    /// Unit: bytes, shared layers included.
    pub size: u64,
    /// When it was last of use: to a container, or as it came here.
    pub used: SystemTime,
}

/// What stays whatever the disk says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// As the config and pulls under way name images.
    pub references: BTreeSet<String>,
    /// `sha256:…`: what those references mean here, and what was last good.
    pub ids: BTreeSet<String>,
}

/// The file system below Docker's root. Unit: bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disk {
    pub used: u64,
    /// What is left for others than root.
    pub available: u64,
}

/// Why somebody looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// It was time to.
    Turn,
    /// Docker has run out of room.
    Emergency,
}

impl Disk {
    /// As df(1) has it: what root alone may still fill counts for nobody.
    pub fn ratio(self) -> f64 {
        let all = self.used.saturating_add(self.available);
        if all == 0 {
            return 0.0;
        }
        self.used as f64 / all as f64
    }

    /// Whole percent, rounded up as df(1) does.
    pub fn percent(self) -> u8 {
        (self.ratio() * 100.0).ceil() as u8
    }

    pub fn is_at(self, mark: u8) -> bool {
        self.ratio() * 100.0 >= f64::from(mark)
    }
}

/// Ids of the images that may go, those first that have been of no use for
/// longest; none while the disk is below the high mark. It is for the caller to
/// stop at the low mark: how much room an image gives nobody knows before.
pub fn plan(
    images: &[Image],
    containers: &[Summary],
    keep: &Keep,
    disk: Disk,
    settings: &Settings,
    occasion: Occasion,
    now: SystemTime,
) -> Vec<String> {
    if !settings.on || occasion == Occasion::Turn && !disk.is_at(settings.high) {
        return Vec::new();
    }
    let mut found: Vec<&Image> = images
        .iter()
        .filter(|image| is_free(image, containers, keep))
        .filter(|image| is_older(image.used, settings.min_age, now))
        .collect();
    found.sort_by(|a, b| (a.used, &a.id).cmp(&(b.used, &b.id)));
    found.into_iter().map(|image| image.id.clone()).collect()
}

/// No container has it, running or dead and whoever's, and nobody wants it.
pub fn is_free(image: &Image, containers: &[Summary], keep: &Keep) -> bool {
    let used = containers.iter().any(|one| one.image_id == image.id);
    let meant = keep.references.iter().any(|one| is_meant(image, one));
    !used && !meant && !keep.ids.contains(&image.id)
}

/// A clock that was set back makes nothing old.
fn is_older(than: SystemTime, age: Duration, now: SystemTime) -> bool {
    now.duration_since(than).is_ok_and(|is| is >= age)
}

/// Whether a reference may mean this image; in doubt it does.
fn is_meant(image: &Image, reference: &str) -> bool {
    let bare = |id: &str| id.strip_prefix("sha256:").unwrap_or(id).to_owned();
    let wanted = bare(reference);
    let is_id = wanted.len() >= 2 && wanted.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id && bare(&image.id).starts_with(&wanted) {
        return true;
    }
    if let Some((_, digest)) = reference.split_once('@') {
        let mut known = image.digests.iter().filter_map(|one| one.split_once('@'));
        return known.any(|(_, known)| known == digest);
    }
    let wanted = familiar(reference);
    image.tags.iter().any(|tag| familiar(tag) == wanted)
}

/// As Docker lists it: without its hub, with a tag.
fn familiar(reference: &str) -> String {
    let hub = ["docker.io/", "index.docker.io/"];
    let short = hub.iter().find_map(|hub| reference.strip_prefix(hub));
    let short = short.unwrap_or(reference);
    let short = short.strip_prefix("library/").unwrap_or(short);
    let last = short.rfind('/').map_or(0, |slash| slash + 1);
    match short[last..].contains(':') {
        true => short.to_owned(),
        false => format!("{short}:latest"),
    }
}

/// Dead containers of ours beyond the one generation that is kept of each, of
/// the names that the config has. One that stands for its name, or may be about
/// to be started, is none of them.
pub fn surplus<'a>(
    containers: &'a [Summary],
    names: &BTreeSet<String>,
    min_age: Duration,
    now: SystemTime,
) -> Vec<&'a Summary> {
    let mut by_name: BTreeMap<&String, Vec<&Summary>> = BTreeMap::new();
    for one in containers {
        let is_ours = one.labels.get(LABEL_MANAGED_BY).map(String::as_str) == Some(MANAGER);
        let of = one.labels.get(LABEL_CONTAINER);
        let Some(of) = of.filter(|of| is_ours && names.contains(*of)) else {
            continue;
        };
        if !one.running && one.name != *of && one.name != double_name(of) {
            by_name.entry(of).or_default().push(one);
        }
    }
    let mut found = Vec::new();
    for mut dead in by_name.into_values() {
        dead.sort_by_key(|one| std::cmp::Reverse(one.created));
        let kept = dead.iter().position(|one| !one.created_only);
        let others = dead.into_iter().enumerate();
        found.extend(
            others
                .filter(|(place, _)| Some(*place) != kept)
                .map(|(_, one)| one)
                .filter(|one| {
                    let created = u64::try_from(one.created).unwrap_or_default();
                    let created = SystemTime::UNIX_EPOCH + Duration::from_secs(created);
                    is_older(created, min_age, now)
                }),
        );
    }
    found
}

#[cfg(test)]
mod tests;
