//! `os`: which release runs. Source: /etc/os-release, else /usr/lib/os-release,
//! os-release(5). Opened anew each time: an update replaces the file.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use std::fs::File;
use std::io::{self, Read};
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
}

impl Os {
    pub fn new(roots: &Roots) -> Os {
        Os {
            paths: ["etc/os-release", "usr/lib/os-release"].map(|path| roots.rootfs.join(path)),
        }
    }

    fn read(&self) -> Result<String, CollectError> {
        let [first, second] = &self.paths;
        match read(first) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                read(second).map_err(|error| CollectError::read(second, error))
            }
            other => other.map_err(|error| CollectError::read(first, error)),
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SIZE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Collector for Os {
    fn name(&self) -> &'static str {
        "os"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.read()?;
        let labels = INFO.map(|(label, key)| (label, assigned(&text, key)));
        let labels: Vec<(&str, &str)> = labels.iter().map(|(l, v)| (*l, v.as_str())).collect();
        page.family(
            "node_os_info",
            Kind::Gauge,
            "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, \
             image_version, name, pretty_name, variant, variant_id, version, \
             version_codename, version_id.",
        )
        .sample(&labels, 1u64);
        let version = major_minor(&assigned(&text, "VERSION_ID"));
        if version > 0.0 {
            let labels: Vec<(&str, &str)> = labels
                .into_iter()
                .filter(|(label, _)| ["id", "id_like", "name"].contains(label))
                .collect();
            page.family(
                "node_os_version",
                Kind::Gauge,
                "Metric containing the major.minor part of the OS version.",
            )
            .sample(&labels, version);
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
