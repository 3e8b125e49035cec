//! What files may say and what they may not. Beside node_exporter's own
//! collector the same is tried in tests/tests/metrics/textfile.rs.

use super::kept::MAX_SIZE;
use super::{MAX_FILES, MAX_SAMPLES, Textfile};
use crate::metrics::exposition::Page;
use crate::metrics::tests::{Pages, collect, expect, parse};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

const ERROR: &str = "node_textfile_scrape_error";
const MTIME: &str = "node_textfile_mtime_seconds";

struct Place(tempfile::TempDir);

impl Place {
    fn with(files: &[(&str, &str)]) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        for (name, text) in files {
            place.write(name, text.as_bytes());
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn collector(&self) -> Textfile {
        Textfile::new(vec![self.0.path().to_owned()], None)
    }

    fn pages(&self) -> Pages {
        collect(&mut self.collector())
    }
}

fn set_age(path: &Path, age: Duration) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn good_files_are_shown_with_their_mtime_and_bad_ones_raise_the_error() {
    let place = Place::with(&[
        ("a.prom", "backup_seconds{job=\"x\"} 5\n"),
        ("b.txt", "nonsense"),
    ]);
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
    let file = File::options()
        .append(true)
        .open(place.path("a.prom"))
        .unwrap();
    file.set_modified(mtime).unwrap();
    let mut collector = place.collector();
    let pages = collect(&mut collector);
    expect(&pages, ERROR, &[], 0.0);
    expect(&pages, "backup_seconds", &[("job", "x")], 5.0);
    let shown = place.path("a.prom").display().to_string();
    expect(&pages, MTIME, &[("file", &shown)], 1_700_000_000.0);
    let made = format!("Metric read from {shown}");
    assert_eq!(pages["backup_seconds"].help, made);
    place.write("c.prom", b"\xff 1\n");
    place.write("d.prom", b"stamped 1 1441205977284\nplain 2\n");
    place.write("e.prom", b"dos 1\r\n");
    let pages = collect(&mut collector);
    expect(&pages, ERROR, &[], 1.0);
    assert_eq!(collector.faults.len(), 3);
    assert_eq!(pages[MTIME].series.len(), 1);
    assert!(!pages.contains_key("plain"));
}

#[test]
fn a_missing_directory_is_an_error_and_none_is_not() {
    expect(&collect(&mut Textfile::new(vec![], None)), ERROR, &[], 0.0);
    let place = Place::with(&[("a.prom", "a 1\n"), ("f", "")]);
    for bad in ["none", "f", "none*", "["] {
        let mut collector = Textfile::new(vec![place.path(bad)], None);
        expect(&collect(&mut collector), ERROR, &[], 1.0);
        assert_eq!(collector.faults.len(), 1, "{bad}");
    }
}

#[test]
fn directories_are_globs_and_files_stand_in_their_order() {
    let place = Place::with(&[
        ("one/b.prom", "x{f=\"1b\"} 1\n"),
        ("one/a.prom", "x{f=\"1a\"} 1\n"),
        ("two/a.prom", "x{f=\"2\"} 1\n"),
        ("three/a.prom", "x{f=\"3\"} 1\n"),
    ]);
    let directories = vec![place.path("t*"), place.path("./one//")];
    let pages = collect(&mut Textfile::new(directories, None));
    expect(&pages, ERROR, &[], 0.0);
    let paths = ["three/a.prom", "two/a.prom", "one/a.prom", "one/b.prom"];
    let paths = paths.map(|path| place.path(path).display().to_string());
    assert_eq!(
        pages["x"].help,
        format!("Metric read from {}", paths.join(", "))
    );
    assert_eq!(pages[MTIME].series.len(), 4);
    // What stands twice is told by the page.
    let twice = vec![place.path("two"), place.path("two")];
    let mut page = Page::default();
    Textfile::new(twice, None).update_at(&mut page, SystemTime::now());
    assert_eq!(page.duplicates(), 1);
    let pages = parse(&page);
    assert_eq!((pages["x"].series.len(), pages[MTIME].series.len()), (1, 1));
}

#[test]
fn the_first_help_and_type_hold_and_labels_are_filled_within_a_file() {
    let typed = |help: &str, rest: &str| format!("{help}# TYPE e counter\n{rest}");
    let place = Place::with(&[
        (
            "a.prom",
            &typed("# HELP e A.\n", "e{x=\"1\"} 1\ne 2\ne{y=\"2\"} 3\n"),
        ),
        ("b.prom", &typed("# HELP e A.\n", "e{x=\"3\"} 3\n")),
        ("c.prom", &typed("# HELP e C.\n", "e{x=\"4\"} 4\n")),
        ("d.prom", "# HELP e A.\n# TYPE e gauge\ne{x=\"5\"} 5\n"),
        ("e.prom", &typed("", "e{x=\"6\"} 6\n")),
    ]);
    let mut collector = place.collector();
    let pages = collect(&mut collector);
    expect(&pages, ERROR, &[], 1.0);
    assert_eq!(collector.faults.len(), 3, "{:?}", collector.faults);
    let family = &pages["e"];
    assert_eq!(
        (family.kind.as_str(), family.help.as_str()),
        ("counter", "A.")
    );
    assert_eq!(family.series.len(), 4);
    expect(&pages, "e", &[("x", ""), ("y", "2")], 3.0);
    expect(&pages, "e", &[("x", "3")], 3.0);
    assert_eq!(pages[MTIME].series.len(), 5);
}

#[test]
fn no_file_speaks_for_the_collector_or_for_a_part_of_another_family() {
    let place = Place::with(&[
        (
            "a.prom",
            "node_textfile_scrape_error 0\ns_sum 7\nh_bucket 1\n",
        ),
        (
            "b.prom",
            "# TYPE s summary\ns_sum 3\n# TYPE h histogram\nh_sum 1\n",
        ),
        ("c.prom", "nonsense\n"),
    ]);
    let mut page = Page::default();
    let mut collector = place.collector();
    collector.update_at(&mut page, SystemTime::now());
    let pages = parse(&page);
    expect(&pages, ERROR, &[], 1.0);
    expect(&pages, "s", &[("__suffix", "_sum")], 3.0);
    assert!(!pages.contains_key("s_sum") && !pages.contains_key("h_bucket"));
    assert_eq!(collector.faults.len(), 3, "{:?}", collector.faults);
}

#[test]
fn summaries_and_histograms_are_made_whole() {
    let place = Place::with(&[(
        "a.prom",
        "# TYPE s summary\ns{quantile=\"0.90\",r=\"b\"} 2\ns{r=\"b\",quantile=\"0.5\"} 1\n\
         s_sum{r=\"b\"} 3.5\ns_count 4\ns{h=\"x\"} 9\n\
         # TYPE h histogram\nh_bucket{le=\"1e6\"} 2\nh_bucket{le=\"10.0\"} 1\nh_count 3.9\nh_sum 7\n",
    )]);
    let pages = place.pages();
    expect(&pages, ERROR, &[], 0.0);
    let labels = |quantile| [("h", ""), ("quantile", quantile), ("r", "b")];
    expect(&pages, "s", &labels("0.5"), 1.0);
    expect(&pages, "s", &labels("0.9"), 2.0);
    for (h, r, sum, count) in [("", "b", 3.5, 0.0), ("", "", 0.0, 4.0), ("x", "", 0.0, 0.0)] {
        expect(
            &pages,
            "s",
            &[("__suffix", "_sum"), ("h", h), ("r", r)],
            sum,
        );
        expect(
            &pages,
            "s",
            &[("__suffix", "_count"), ("h", h), ("r", r)],
            count,
        );
    }
    for (le, count) in [("10", 1.0), ("1e+06", 2.0), ("+Inf", 3.0)] {
        expect(&pages, "h", &[("__suffix", "_bucket"), ("le", le)], count);
    }
    expect(&pages, "h", &[("__suffix", "_count")], 3.0);
}

#[test]
fn files_are_parsed_when_they_change_and_forgotten_when_they_go() {
    let place = Place::with(&[("a.prom", "a 1\n"), ("bad.prom", "1\n")]);
    for name in ["a.prom", "bad.prom"] {
        set_age(&place.path(name), Duration::from_secs(60));
    }
    let mut collector = place.collector();
    for _ in 0..3 {
        let pages = collect(&mut collector);
        expect(&pages, "a", &[], 1.0);
        expect(&pages, ERROR, &[], 1.0);
    }
    assert_eq!(collector.kept.reads, 2);
    // Of the same length; too young to be trusted, so read at each scrape for a while.
    place.write("a.prom", b"a 2\n");
    expect(&collect(&mut collector), "a", &[], 2.0);
    place.write("a.prom", b"a 3\n");
    expect(&collect(&mut collector), "a", &[], 3.0);
    assert_eq!(collector.kept.reads, 4);
    // Another file of the same size and time.
    set_age(&place.path("a.prom"), Duration::from_secs(60));
    collect(&mut collector);
    let mtime = fs::metadata(place.path("a.prom"))
        .unwrap()
        .modified()
        .unwrap();
    place.write("new", b"a 4\n");
    let new = File::options()
        .append(true)
        .open(place.path("new"))
        .unwrap();
    new.set_modified(mtime).unwrap();
    fs::rename(place.path("new"), place.path("a.prom")).unwrap();
    expect(&collect(&mut collector), "a", &[], 4.0);
    for name in ["a.prom", "bad.prom"] {
        fs::remove_file(place.path(name)).unwrap();
    }
    let pages = collect(&mut collector);
    expect(&pages, ERROR, &[], 0.0);
    assert!(!pages.contains_key("a") && !pages.contains_key(MTIME));
}

#[test]
fn what_is_too_old_is_left_out_and_counted_and_its_mtime_stays() {
    let place = Place::with(&[("old.prom", "old 1\n"), ("new.prom", "new 1\n")]);
    set_age(&place.path("old.prom"), Duration::from_secs(3700));
    let directories = vec![place.0.path().to_owned()];
    let mut collector = Textfile::new(directories, Some(Duration::from_secs(3600)));
    let pages = collect(&mut collector);
    expect(&pages, "agent_textfile_stale_files", &[], 1.0);
    expect(&pages, ERROR, &[], 0.0);
    assert!(pages.contains_key("new") && !pages.contains_key("old"));
    assert_eq!(pages[MTIME].series.len(), 2);
    set_age(&place.path("old.prom"), Duration::from_secs(10));
    let pages = collect(&mut collector);
    expect(&pages, "agent_textfile_stale_files", &[], 0.0);
    expect(&pages, "old", &[], 1.0);
    assert!(!place.pages().contains_key("agent_textfile_stale_files"));
}

#[test]
fn hostile_files_are_an_error_each_and_cost_nothing_else() {
    let place = Place::with(&[("good.prom", "good 1\n"), ("d.prom/x", "")]);
    let sparse = File::create(place.path("sparse.prom")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    place.write("endless.prom", &vec![b'a'; MAX_SIZE as usize]);
    place.write("bytes.prom", b"a{b=\"\xc3\"} 1\n");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.path("fifo.prom"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    symlink("loop.prom", place.path("loop.prom")).unwrap();
    symlink("/dev/zero", place.path("zero.prom")).unwrap();
    symlink("nowhere", place.path("gone.prom")).unwrap();
    // Each label name would stand on each series.
    let wide: Vec<String> = (0..20_000).map(|n| format!("a{{b{n}=\"\"}} 1\n")).collect();
    place.write("wide.prom", wide.concat().as_bytes());
    let many: Vec<String> = (0..30_000).map(|n| format!("a{{b=\"{n}\"}} 1\n")).collect();
    place.write("many.prom", many.concat().as_bytes());
    let start = Instant::now();
    let mut collector = place.collector();
    let pages = collect(&mut collector);
    let took = start.elapsed();
    assert_eq!(collector.faults.len(), 10, "{:#?}", collector.faults);
    expect(&pages, ERROR, &[], 1.0);
    expect(&pages, "good", &[], 1.0);
    assert_eq!(pages[MTIME].series.len(), 1);
    assert!(took < Duration::from_secs(5), "{took:?}");
    // The same faults are not told again: nothing new to log.
    let before = collector.faults.clone();
    collect(&mut collector);
    assert_eq!(collector.faults, before);
}

#[test]
fn many_files_together_are_bounded() {
    let place = Place::with(&[]);
    for file in 0..MAX_FILES + 5 {
        let lines: Vec<String> = (0..300)
            .map(|n| format!("a{{f=\"{file}\",n=\"{n}\"}} 1\n"))
            .collect();
        place.write(&format!("{file:03}.prom"), lines.concat().as_bytes());
    }
    let mut collector = place.collector();
    let pages = collect(&mut collector);
    expect(&pages, ERROR, &[], 1.0);
    let n_series = pages["a"].series.len();
    assert!(n_series <= MAX_SAMPLES && n_series + 300 > MAX_SAMPLES);
    assert_eq!(pages[MTIME].series.len(), n_series / 300);
}
