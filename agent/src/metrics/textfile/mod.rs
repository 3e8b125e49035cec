//! `textfile`: metrics that other programs leave as `*.prom` files in the
//! directories of `metrics.textfile.directories`, with the files' ages.
//!
//! A file counts whole or not at all: one that cannot be read, breaks the format
//! or carries time stamps sets `node_textfile_scrape_error` and has no mtime, so
//! that it does not look fresh. Families of one name from several files are one
//! family: the first help text and type hold, and what contradicts them is left
//! out and an error. With `metrics.textfile.max_age`, what an older file says is
//! left out, its mtime stays.
//!
//! Files are parsed when they change (`kept`). Bounds per scrape: [`MAX_FILES`]
//! files of [`MAX_SIZE`] octets, [`MAX_SAMPLES`] samples and [`MAX_OCTETS`] of the
//! page over all of them; what is no regular file is not opened.

mod glob;
mod kept;

#[cfg(test)]
mod tests;

use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{self, Kind, Page};
use crate::metrics::prom::{Family, Points, Totals, bound_text};
use kept::Kept;
#[cfg(doc)]
use kept::MAX_SIZE;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

/// Files beyond these, in order, are not read and are an error.
const MAX_FILES: usize = 256;
/// Entries of a directory that are looked at; more are an error.
const MAX_ENTRIES: usize = 65_536;
/// Samples of all files; those beyond, in order, are left out and an error.
const MAX_SAMPLES: usize = 50_000;
/// What all files may take on the page.
const MAX_OCTETS: usize = 4 << 20;

pub struct Textfile {
    /// As written, signs of globs included.
    directories: Vec<PathBuf>,
    max_age: Option<Duration>,
    kept: Kept,
    /// What was wrong at the last scrape; logged when it is new.
    faults: BTreeSet<String>,
    /// Files that were too old at the last scrape; likewise.
    stale: BTreeSet<PathBuf>,
}

/// Families of one name, in the files' order.
struct Merged<'a> {
    /// The first help text that a file gives.
    help: Option<&'a str>,
    /// Of those whose help does not contradict it.
    paths: Vec<&'a str>,
    parts: Vec<&'a Family>,
}

impl Textfile {
    pub fn new(directories: Vec<PathBuf>, max_age: Option<Duration>) -> Textfile {
        Textfile {
            directories,
            max_age,
            kept: Kept::default(),
            faults: BTreeSet::new(),
            stale: BTreeSet::new(),
        }
    }

    fn update_at(&mut self, page: &mut Page, now: SystemTime) {
        let mut faults = BTreeSet::new();
        let files = files(&self.directories, &mut faults);
        for (path, _) in &files {
            self.kept.look(path, now);
        }
        self.kept.sweep();
        let mut merged: BTreeMap<&str, Merged<'_>> = BTreeMap::new();
        let mut mtimes = BTreeMap::new();
        let mut stale = BTreeSet::new();
        let (mut samples, mut octets) = (0, 0);
        for (path, shown) in &files {
            let content = match self.kept.get(path) {
                Ok(content) => content,
                Err(what) => {
                    faults.insert(format!("{shown}: {what}"));
                    continue;
                }
            };
            if is_stale(content.mtime, self.max_age, now) {
                mtimes.insert(shown, content.mtime);
                stale.insert(path.clone());
                continue;
            }
            if samples + content.samples > MAX_SAMPLES || octets + content.octets > MAX_OCTETS {
                faults.insert(format!("{shown}: too much together with other files"));
                continue;
            }
            samples += content.samples;
            octets += content.octets;
            mtimes.insert(shown, content.mtime);
            for family in &content.families {
                merge(&mut merged, family, shown, &mut faults);
            }
        }
        let mut shown = Vec::new();
        for (name, family) in &merged {
            if let Some(base) = covers(&merged, name) {
                let path = family.paths.first().copied().unwrap_or_default();
                faults.insert(format!("{path}: {name} is a part of {base}"));
                continue;
            }
            let parts = accepted(name, family, &mut faults);
            shown.push((*name, family, parts));
        }
        // Before the files: none of them can stand in the place of these.
        let mut family = page.family(
            "node_textfile_mtime_seconds",
            Kind::Gauge,
            "Unixtime mtime of textfiles successfully read.",
        );
        for (file, mtime) in &mtimes {
            family.sample(&[("file", file)], *mtime as f64);
        }
        page.family(
            "node_textfile_scrape_error",
            Kind::Gauge,
            "1 if there was an error opening or reading a file, 0 otherwise",
        )
        .bare(!faults.is_empty());
        if self.max_age.is_some() {
            page.family(
                "agent_textfile_stale_files",
                Kind::Gauge,
                "Text files left out because they are older than metrics.textfile.max_age.",
            )
            .bare(stale.len() as u64);
        }
        for (name, family, parts) in shown {
            write(page, name, family, &parts);
        }
        for fault in faults.difference(&self.faults) {
            warn!(%fault, "textfile not shown");
        }
        for path in stale.difference(&self.stale) {
            warn!(path = %path.display(), "textfile is too old and not shown");
        }
        for path in self.stale.difference(&stale) {
            info!(path = %path.display(), "textfile is gone or no longer too old");
        }
        self.faults = faults;
        self.stale = stale;
    }
}

impl Collector for Textfile {
    fn name(&self) -> &'static str {
        "textfile"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        self.update_at(page, SystemTime::now());
        Ok(())
    }
}

fn is_stale(mtime: i64, max_age: Option<Duration>, now: SystemTime) -> bool {
    let now = now.duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let age = u64::try_from(now.saturating_sub(mtime)).unwrap_or(0);
    max_age.is_some_and(|max_age| age > max_age.as_secs())
}

/// The files with their paths as shown, in the order of directories and names. A directory
/// that stands twice gives its files twice, which the page then tells.
fn files(directories: &[PathBuf], faults: &mut BTreeSet<String>) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for written in directories {
        let found = glob::glob(&written.to_string_lossy()).unwrap_or_default();
        // Neither there nor a glob: looked at as it is, so that the fault names it.
        let found = match found.is_empty() {
            true => vec![written.clone()],
            false => found,
        };
        for directory in found {
            match names(&directory) {
                Ok(names) => files.extend(names.iter().map(|name| {
                    // Joined as Go does: no `//`, no `/./`.
                    let path: PathBuf = directory.join(name).components().collect();
                    let shown = path.to_string_lossy().into_owned();
                    (path, shown)
                })),
                Err(what) => {
                    faults.insert(format!("{}: {what}", directory.display()));
                }
            }
        }
    }
    if files.len() > MAX_FILES {
        faults.insert(format!("more than {MAX_FILES} files"));
        files.truncate(MAX_FILES);
    }
    files
}

/// Names of `*.prom`, sorted.
fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>, String> {
    let entries = fs::read_dir(directory).map_err(|error| error.to_string())?;
    let mut names = Vec::new();
    for (n, entry) in entries.enumerate() {
        if n == MAX_ENTRIES {
            return Err(format!("more than {MAX_ENTRIES} entries"));
        }
        let name = entry.map_err(|error| error.to_string())?.file_name();
        if name.as_encoded_bytes().ends_with(b".prom") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The first help text holds; a family that contradicts it is left out.
fn merge<'a>(
    merged: &mut BTreeMap<&'a str, Merged<'a>>,
    family: &'a Family,
    path: &'a str,
    faults: &mut BTreeSet<String>,
) {
    let known = merged.entry(&family.name).or_insert(Merged {
        help: None,
        paths: Vec::new(),
        parts: Vec::new(),
    });
    let help = family.help.as_deref();
    if let (Some(first), Some(help)) = (known.help, help)
        && first != help
    {
        let name = &family.name;
        faults.insert(format!("{path}: {name} has another help than before"));
        return;
    }
    known.help = known.help.or(help);
    known.paths.push(path);
    known.parts.push(family);
}

/// The summary or histogram that prints series of that name itself.
fn covers<'a>(merged: &BTreeMap<&str, Merged<'_>>, name: &'a str) -> Option<&'a str> {
    let parts = ["_sum", "_count", "_bucket"].iter();
    let mut bases = parts.filter_map(|part| name.strip_suffix(part));
    bases.find(|base| {
        let first = merged.get(base).and_then(|family| family.parts.first());
        let kind = first.map(|part| part.kind);
        let is_bucket = name.ends_with("_bucket");
        kind == Some(Kind::Histogram) || (kind == Some(Kind::Summary) && !is_bucket)
    })
}

/// The parts that agree with the first one's type and help. As there, one that lacks its help while
/// another file gives it has a help of its own making, and who comes first decides.
fn accepted<'a>(name: &str, merged: &Merged<'a>, faults: &mut BTreeSet<String>) -> Vec<&'a Family> {
    let Some(first) = merged.parts.first() else {
        return Vec::new();
    };
    let mut accepted = Vec::new();
    for (part, path) in merged.parts.iter().zip(&merged.paths) {
        if part.help.is_some() != first.help.is_some() {
            faults.insert(format!("{path}: {name} has no help, or alone has one"));
        } else if part.kind != first.kind {
            faults.insert(format!("{path}: {name} has another type than before"));
        } else {
            accepted.push(*part);
        }
    }
    accepted
}

/// One family of the page.
fn write(page: &mut Page, name: &str, merged: &Merged<'_>, parts: &[&Family]) {
    let Some(first) = parts.first() else {
        return;
    };
    let made = format!("Metric read from {}", merged.paths.join(", "));
    let mut family = page.family(name, first.kind, first.help.as_deref().unwrap_or(&made));
    for part in parts {
        write_series(&mut family, part);
    }
}

fn write_series(family: &mut exposition::Family<'_>, part: &Family) {
    for series in &part.series {
        let names = part.labels.iter().map(String::as_str);
        let values = series.values.iter().map(|value| &**value);
        let labels: Vec<(&str, &str)> = names.zip(values).collect();
        match &series.points {
            Points::Number(number) => family.sample(&labels, *number),
            Points::Summary(quantiles, totals) => {
                for (quantile, value) in quantiles {
                    let text = bound_text(*quantile);
                    family.sample(&with(&labels, "quantile", &text), *value);
                }
                write_totals(family, &labels, *totals);
            }
            Points::Histogram(buckets, totals) => {
                let last = (f64::INFINITY, totals.count);
                let is_whole = buckets.last().is_some_and(|(bound, _)| *bound == last.0);
                let added = (!is_whole).then_some(&last);
                for (bound, count) in buckets.iter().chain(added) {
                    let text = bound_text(*bound);
                    family.suffixed("_bucket", &with(&labels, "le", &text), *count);
                }
                write_totals(family, &labels, *totals);
            }
        }
    }
}

fn with<'a>(
    labels: &[(&'a str, &'a str)],
    name: &'a str,
    value: &'a str,
) -> Vec<(&'a str, &'a str)> {
    let mut labels = labels.to_vec();
    labels.push((name, value));
    labels
}

fn write_totals(
    family: &mut exposition::Family<'_>,
    labels: &[(&str, &str)],
    Totals { sum, count }: Totals,
) {
    family.suffixed("_sum", labels, sum);
    family.suffixed("_count", labels, count);
}
