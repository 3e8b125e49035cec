//! `textfile`: metrics that other programs leave as `*.prom` files in the
//! directories of `metrics.textfile.directories`, with the files' ages.
//!
//! A file counts whole or not at all: one that cannot be read, breaks the format
//! or carries time stamps sets `node_textfile_scrape_error` and has no mtime, so
//! that it does not look fresh. Bounds per scrape: [`MAX_FILES`] files of
//! [`MAX_SIZE`] bytes; what is no regular file is not opened.

use crate::metrics::attributes::names_in;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::prom::{self, Family};
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use tracing::warn;

/// More is refused: a page of this size cannot be scraped in time.
const MAX_SIZE: u64 = 1 << 20;
/// Files beyond these, by name, are not read and are an error.
const MAX_FILES: usize = 256;

pub struct Textfile {
    directories: Vec<PathBuf>,
    /// What was wrong at the last scrape; logged when it is new.
    faults: BTreeSet<String>,
}

/// A family as merged from all files.
struct Merged {
    family: Family,
    paths: Vec<String>,
}

impl Textfile {
    pub fn new(directories: Vec<PathBuf>) -> Textfile {
        Textfile {
            directories,
            faults: BTreeSet::new(),
        }
    }
}

impl Collector for Textfile {
    fn name(&self) -> &'static str {
        "textfile"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let mut faults = BTreeSet::new();
        let mut merged: BTreeMap<String, Merged> = BTreeMap::new();
        let mut mtimes = Vec::new();
        for path in files(&self.directories, &mut faults) {
            let shown = path.to_string_lossy().into_owned();
            match read(&path) {
                Ok((families, mtime)) => {
                    for family in families {
                        merge(&mut merged, family, &shown, &mut faults);
                    }
                    mtimes.push((shown, mtime));
                }
                Err(what) => {
                    faults.insert(format!("{shown}: {what}"));
                }
            }
        }
        for (name, merged) in merged {
            write(page, &name, merged);
        }
        let mut family = page.family(
            "node_textfile_mtime_seconds",
            Kind::Gauge,
            "Unixtime mtime of textfiles successfully read.",
        );
        for (file, mtime) in &mtimes {
            family.sample(&[("file", file)], *mtime);
        }
        page.family(
            "node_textfile_scrape_error",
            Kind::Gauge,
            "1 if there was an error opening or reading a file, 0 otherwise",
        )
        .bare(!faults.is_empty());
        for fault in faults.difference(&self.faults) {
            warn!(%fault, "textfile not shown");
        }
        self.faults = faults;
        Ok(())
    }
}

fn files(directories: &[PathBuf], faults: &mut BTreeSet<String>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for directory in directories {
        match names_in(directory) {
            Ok(Some(names)) => files.extend(
                names
                    .iter()
                    .filter(|name| name.ends_with(".prom"))
                    .map(|name| directory.join(name)),
            ),
            Ok(None) => {
                faults.insert(format!("{}: no such directory", directory.display()));
            }
            Err(error) => {
                faults.insert(error.to_string());
            }
        }
    }
    if files.len() > MAX_FILES {
        faults.insert(format!("more than {MAX_FILES} files"));
        files.truncate(MAX_FILES);
    }
    files
}

/// The families and the mtime in seconds, or what is wrong with the file.
fn read(path: &Path) -> Result<(Vec<Family>, f64), String> {
    let (text, mtime) = content(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(text).map_err(|_| "not UTF-8".to_owned())?;
    Ok((prom::parse(&text)?, mtime))
}

fn content(path: &Path) -> io::Result<(Vec<u8>, f64)> {
    // Opening a FIFO must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    (&file).take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mtime = metadata.modified()?.duration_since(UNIX_EPOCH);
    Ok((bytes, mtime.unwrap_or_default().as_secs_f64()))
}

/// The first file's type and help hold; a family that contradicts them is left out.
fn merge(
    merged: &mut BTreeMap<String, Merged>,
    family: Family,
    path: &str,
    faults: &mut BTreeSet<String>,
) {
    let Some(known) = merged.get_mut(&family.name) else {
        let name = family.name.clone();
        let paths = vec![path.to_owned()];
        merged.insert(name, Merged { family, paths });
        return;
    };
    if known.family.kind != family.kind || known.family.help != family.help {
        let name = &family.name;
        let first = known.paths.first().map_or("", String::as_str);
        faults.insert(format!(
            "{path}: {name} has other help or type than in {first}"
        ));
        return;
    }
    known.family.samples.extend(family.samples);
    if known.paths.last().is_none_or(|last| last != path) {
        known.paths.push(path.to_owned());
    }
}

/// Labels that only some series of a family have are empty on the others.
fn write(page: &mut Page, name: &str, merged: Merged) {
    let Family {
        kind,
        help,
        samples,
        ..
    } = merged.family;
    let own = ["le", "quantile"];
    let all: BTreeSet<&str> = samples
        .iter()
        .flat_map(|sample| sample.labels.keys().map(String::as_str))
        .filter(|label| !own.contains(label) || !matches!(kind, Kind::Histogram | Kind::Summary))
        .collect();
    let help = if help.is_empty() {
        format!("Metric read from {}", merged.paths.join(", "))
    } else {
        help
    };
    let mut family = page.family(name, kind, &help);
    for sample in &samples {
        let mut labels: BTreeMap<&str, &str> = all.iter().map(|label| (*label, "")).collect();
        for (label, value) in &sample.labels {
            labels.insert(label, value);
        }
        let labels: Vec<(&str, &str)> = labels.into_iter().collect();
        family.suffixed(&sample.suffix, &labels, sample.value);
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SIZE, Textfile};
    use crate::metrics::tests::{collect, expect};

    const ERROR: &str = "node_textfile_scrape_error";

    #[test]
    fn good_files_are_shown_with_their_age_and_bad_ones_raise_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(dir.path().join(name), text).unwrap();
        write("a.prom", b"backup_seconds{job=\"x\"} 5\n");
        write("b.txt", b"nonsense");
        let mut collector = Textfile::new(vec![dir.path().to_owned()]);
        let pages = collect(&mut collector);
        expect(&pages, ERROR, &[], 0.0);
        expect(&pages, "backup_seconds", &[("job", "x")], 5.0);
        assert_eq!(pages["node_textfile_mtime_seconds"].series.len(), 1);
        write("c.prom", b"\xff 1\n");
        write("d.prom", b"stamped 1 1441205977284\n");
        write("e.prom", &vec![b'\n'; MAX_SIZE as usize + 1]);
        std::fs::create_dir(dir.path().join("f.prom")).unwrap();
        let pages = collect(&mut collector);
        expect(&pages, ERROR, &[], 1.0);
        assert_eq!(collector.faults.len(), 4);
        assert_eq!(pages["node_textfile_mtime_seconds"].series.len(), 1);
    }

    #[test]
    fn a_missing_directory_is_an_error_and_none_is_not() {
        expect(&collect(&mut Textfile::new(vec![])), ERROR, &[], 0.0);
        let missing = Textfile::new(vec!["/nonexistent/textfiles".into()]);
        expect(&collect(&mut { missing }), ERROR, &[], 1.0);
    }

    #[test]
    fn a_family_of_two_files_keeps_the_first_help_and_fills_labels() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            (
                "a.prom",
                "# HELP e A.\n# TYPE e counter\ne{x=\"1\"} 1\ne 2\n",
            ),
            ("b.prom", "# HELP e A.\n# TYPE e counter\ne{x=\"3\"} 3\n"),
            ("c.prom", "# HELP e B.\n# TYPE e counter\ne{x=\"4\"} 4\n"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let pages = collect(&mut Textfile::new(vec![dir.path().to_owned()]));
        expect(&pages, ERROR, &[], 1.0);
        assert_eq!(pages["e"].series.len(), 3);
        expect(&pages, "e", &[("x", "")], 2.0);
    }
}
