//! `os`: which release runs. Source: /etc/os-release, else /usr/lib/os-release,
//! os-release(5). Read anew when it is another file, or was written since.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// No release file comes near this; what is beyond is not looked at.
const MAX_SIZE: u64 = 64 << 10;

/// Label of `node_os_info`, key of the file.
const INFO: [(&str, &str); 12] = [
    ("build_id", "BUILD_ID"),
    ("id", "ID"),
    ("id_like", "ID_LIKE"),
    ("image_id", "IMAGE_ID"),
    ("image_version", "IMAGE_VERSION"),
    ("name", "NAME"),
    ("pretty_name", "PRETTY_NAME"),
    ("variant", "VARIANT"),
    ("variant_id", "VARIANT_ID"),
    ("version", "VERSION"),
    ("version_codename", "VERSION_CODENAME"),
    ("version_id", "VERSION_ID"),
];

pub struct Os {
    paths: [PathBuf; 2],
    known: Option<(Stamp, Release)>,
}

/// What differs when the file does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

struct Release {
    info: [(&'static str, String); INFO.len()],
    version: f64,
}

impl Os {
    pub fn new(roots: &Roots) -> Os {
        Os {
            paths: ["etc/os-release", "usr/lib/os-release"].map(|path| roots.rootfs.join(path)),
            known: None,
        }
    }

    fn read(&mut self) -> Result<&Release, CollectError> {
        let [first, second] = &self.paths;
        let stamp = match Stamp::of(first) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Stamp::of(second).map_err(|error| CollectError::read(second, error))
            }
            other => other.map_err(|error| CollectError::read(first, error)),
        }?;
        let release = match self.known.take() {
            Some((known, release)) if known == stamp => release,
            _ => Release::read(&stamp.path)?,
        };
        Ok(&self.known.insert((stamp, release)).1)
    }
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Stamp> {
        let about = fs::metadata(path)?;
        Ok(Stamp {
            path: path.to_owned(),
            device: about.dev(),
            inode: about.ino(),
            length: about.len(),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}

impl Release {
    fn read(path: &Path) -> Result<Release, CollectError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_SIZE).read_to_end(&mut bytes))
            .map_err(|error| CollectError::read(path, error))?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(Release {
            info: INFO.map(|(label, key)| (label, assigned(&text, key))),
            version: major_minor(&assigned(&text, "VERSION_ID")),
        })
    }
}

impl Collector for Os {
    fn name(&self) -> &'static str {
        "os"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let release = self.read()?;
        let info = release.info.iter().map(|(l, v)| (*l, v.as_str()));
        let labels: Vec<(&str, &str)> = info.collect();
        page.family(
            "node_os_info",
            Kind::Gauge,
            "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, \
             image_version, name, pretty_name, variant, variant_id, version, \
             version_codename, version_id.",
        )
        .sample(&labels, 1u64);
        if release.version > 0.0 {
            let labels: Vec<(&str, &str)> = labels
                .into_iter()
                .filter(|(label, _)| ["id", "id_like", "name"].contains(label))
                .collect();
            page.family(
                "node_os_version",
                Kind::Gauge,
                "Metric containing the major.minor part of the OS version.",
            )
            .sample(&labels, release.version);
        }
        Ok(())
    }
}

/// The value of the last assignment to `key`, without its quotes; empty where there is none.
fn assigned(text: &str, key: &str) -> String {
    let raw = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
        .next_back()
        .unwrap_or_default();
    for quote in ['"', '\''] {
        let inside = raw.strip_prefix(quote).and_then(|r| r.strip_suffix(quote));
        match inside {
            Some(inside) if quote == '"' => return unescaped(inside),
            Some(inside) => return inside.to_owned(),
            None => {}
        }
    }
    raw.to_owned()
}

/// os-release(5): within double quotes `\` guards `"`, `$`, `\` and the backtick.
fn unescaped(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    value
}

/// 4081.2 of `4081.2.1`; 0 where a version does not begin with a number.
fn major_minor(version: &str) -> f64 {
    let mut dots = 0;
    let end = version.find(|c: char| {
        dots += u32::from(c == '.');
        !c.is_ascii_digit() && (c != '.' || dots > 1)
    });
    version[..end.unwrap_or(version.len())]
        .parse()
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::{Os, assigned, major_minor};
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn the_release_is_shown_from_either_place() {
        let text = "NAME=\"Flatcar Container Linux by Kinvolk\"\nID=flatcar\nID_LIKE=coreos\n\
            VERSION=4081.2.1\nVERSION_ID=4081.2.1\nBUILD_ID=2025-01-01-0000\n";
        let labels = [
            ("id", "flatcar"),
            ("id_like", "coreos"),
            ("name", "Flatcar Container Linux by Kinvolk"),
        ];
        for path in ["etc/os-release", "usr/lib/os-release"] {
            let (_dir, roots) = host(&[(path, text)]);
            let pages = collect(&mut Os::new(&roots));
            expect(&pages, "node_os_version", &labels, 4081.2);
            let (info, _) = pages["node_os_info"].series.first_key_value().unwrap();
            assert_eq!(info["build_id"], "2025-01-01-0000");
            assert_eq!((info.len(), info["variant"].as_str()), (12, ""));
        }
    }

    #[test]
    fn an_update_of_the_release_is_seen() {
        let (dir, roots) = host(&[("etc/os-release", "ID=flatcar\nVERSION_ID=1.2.3\n")]);
        let mut os = Os::new(&roots);
        let labels = [("id", "flatcar"), ("id_like", ""), ("name", "")];
        for (text, version) in [
            ("ID=flatcar\nVERSION_ID=1.2.3\n", 1.2),
            ("ID=flatcar\nVERSION_ID=4.5.6\n", 4.5),
        ] {
            let path = dir.path().join("etc/os-release");
            std::fs::write(path.with_extension("new"), text).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
            for _ in 0..2 {
                expect(&collect(&mut os), "node_os_version", &labels, version);
            }
        }
    }

    #[test]
    fn quotes_come_off_and_escapes_are_undone() {
        let text = "A=\"say \\\"hi\\\"\"\nB='x y'\nAB=no\nC=\nB=\"\n";
        for (key, value) in [("A", "say \"hi\""), ("C", ""), ("D", ""), ("B", "\"")] {
            assert_eq!(assigned(text, key), value);
        }
    }

    #[test]
    fn versions_keep_major_and_minor() {
        for (text, number) in [("20.04", 20.04), ("12", 12.0), ("4081.2.1", 4081.2)] {
            assert_eq!(major_minor(text), number);
        }
        for odd in ["", "rolling", ".5x.", "é"] {
            assert!(major_minor(odd) < 1.0, "{odd}");
        }
    }

    #[test]
    fn a_root_without_release_file_has_no_data() {
        let (_dir, roots) = host(&[]);
        let result = Os::new(&roots).update(&mut Page::default());
        assert!(matches!(result, Err(CollectError::Absent { .. })));
    }
}
