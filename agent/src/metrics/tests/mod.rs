//! Shared by this room's tests: a page parser written against the format's
//! specification, not against our writer, and a host made of a few files.

mod bytes;
mod conformance;
mod lists;
mod mutations;
mod pages;
mod served;

use crate::host::bus::Bus;
use crate::host::bus::systemd1::Systemd1;
use crate::host::roots::Roots;
use crate::metrics::collector::Collector;
use crate::metrics::exposition::Page;
use crate::metrics::{Options, Settings, Units, systemd};
pub use pages::{Pages, parse_text};
use std::path::Path;

/// Parses what `page` prints; a page that breaks the format fails the test.
pub fn parse(page: &Page) -> Pages {
    let mut text = String::new();
    page.render(|piece| text.push_str(piece));
    parse_text(&text)
}

/// Runs one collector that must succeed.
pub fn collect(collector: &mut dyn Collector) -> Pages {
    let mut page = Page::default();
    collector.update(&mut page).unwrap();
    assert_eq!(page.duplicates(), 0);
    parse(&page)
}

/// Fails unless the page holds that series with that number.
#[track_caller]
pub fn expect(pages: &Pages, family: &str, labels: &[(&str, &str)], value: f64) {
    let found = pages.get(family).and_then(|family| {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        family.series.get(&labels).copied()
    });
    assert_eq!(found, Some(value), "{family} {labels:?}");
}

/// A root directory with these files, and the roots that point into it.
pub fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Roots) {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let roots = roots_in(dir.path());
    (dir, roots)
}

/// Roots as node_exporter's own end-to-end test lays them out.
pub fn roots_in(dir: &Path) -> Roots {
    Roots {
        proc: dir.join("proc"),
        sys: dir.join("sys"),
        rootfs: dir.to_owned(),
        udev: dir.join("udev/data"),
    }
}

/// Nobody to ask systemd.
pub fn nobody() -> systemd::Asker {
    systemd::open(&Units::default(), Systemd1::new(Bus::system())).0
}

/// Defaults over these roots, with no collector on.
pub fn settings_in(roots: Roots) -> Settings {
    Settings {
        listen: Vec::new(),
        collectors: Vec::new(),
        roots,
        options: Options::default(),
    }
}
