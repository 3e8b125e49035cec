//! The promise that the fuzz targets of tests/fuzz look after, without a fuzzer: some thousand
//! changed files, the same at each run, cost no panic and no page that breaks the format.

use super::{parse_text, roots_in};
use crate::metrics::{COLLECTORS, OPTIONAL, Options, Settings, containers, page, web};
use fastrand::Rng;
use std::fs;
use std::path::{Path, PathBuf};

/// Changes of each file.
const ROUNDS: usize = 12;
/// Collectors that read no file: the kernel or systemd answers them.
const ASK_THE_KERNEL: [&str; 5] = ["ethtool", "netdev", "systemd", "timex", "uname"];
/// Among the seeds and no collector.
const OTHERS: [&str; 2] = ["containers", "web_config"];
/// What parsers look for, and numbers at the ends of their ranges.
const WORDS: [&str; 16] = [
    "0",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775808",
    "1e999",
    "NaN",
    "\n",
    "\r\n",
    ":",
    " ",
    "\t",
    "\"",
    "\\",
    "é",
    "\u{0}",
];

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds")
}

/// All files below, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut found: Vec<PathBuf> = entries
        .flat_map(|entry| match entry.unwrap().path() {
            path if path.is_dir() => files(&path),
            path => vec![path],
        })
        .collect();
    found.sort();
    found
}

/// One to three of: a byte changed, a part cut, doubled, or replaced by a word.
fn changed(content: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut content = content.to_vec();
    for _ in 0..rng.usize(1..=3) {
        let start = rng.usize(0..=content.len());
        let end = rng.usize(start..=content.len().min(start + 24));
        let part = match rng.u8(0..5) {
            0 => Vec::new(),
            1 => content[start..end].repeat(2),
            2 => content[start..end].iter().map(|_| rng.u8(..)).collect(),
            3 => WORDS[rng.usize(0..WORDS.len())].as_bytes().to_vec(),
            _ => {
                content.truncate(start);
                continue;
            }
        };
        content.splice(start..end, part);
    }
    content
}

fn look(collector: &str, host: &Path) {
    let roots = roots_in(host);
    if collector == "containers" {
        for (pid, id) in [(1, "cafe01"), (2, "beef02")] {
            parse_text(&containers::page_of(&roots, pid, id).unwrap_or_default());
        }
        return;
    }
    let text = page(&Settings {
        listen: Vec::new(),
        collectors: vec![collector.to_owned()],
        roots,
        options: Options {
            cpu_info: true,
            textfiles: vec![host.join("textfile")],
            ..Options::default()
        },
    });
    parse_text(&text);
}

#[test]
fn changed_files_never_break_a_collector_or_the_page() {
    let seeds = seeds();
    let mut rng = Rng::with_seed(9100);
    let mut n_looks = 0;
    for directory in fs::read_dir(&seeds).unwrap() {
        let directory = directory.unwrap().path();
        let collector = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let host = tempfile::tempdir().unwrap();
        let all: Vec<(PathBuf, Vec<u8>)> = files(&directory)
            .iter()
            .map(|path| {
                let place = host.path().join(path.strip_prefix(&directory).unwrap());
                (place, fs::read(path).unwrap())
            })
            .collect();
        for (place, content) in &all {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, content).unwrap();
        }
        for (place, content) in &all {
            for _ in 0..ROUNDS {
                let content = changed(content, &mut rng);
                n_looks += 1;
                if collector == "web_config" {
                    let text = String::from_utf8_lossy(&content);
                    let _ = web::check_text(place, &text); // right or not, it ends
                    continue;
                }
                fs::write(place, &content).unwrap();
                look(&collector, host.path());
            }
            fs::write(place, content).unwrap();
        }
    }
    assert!(n_looks > 1000, "only {n_looks}");
}

#[test]
fn every_collector_that_reads_files_has_seeds_that_it_shows() {
    let mut faults = Vec::new();
    for name in COLLECTORS.iter().chain(OPTIONAL) {
        let directory = seeds().join(name);
        if ASK_THE_KERNEL.contains(name) {
            continue;
        }
        if !directory.is_dir() {
            faults.push(format!("no tests/fuzz/seeds/{name}"));
            continue;
        }
        let text = page(&Settings {
            listen: Vec::new(),
            collectors: vec![(*name).to_owned()],
            roots: roots_in(&directory),
            options: Options {
                textfiles: vec![directory.join("textfile")],
                ..Options::default()
            },
        });
        if parse_text(&text).is_empty() {
            faults.push(format!("tests/fuzz/seeds/{name} shows nothing"));
        }
    }
    for (pid, id) in [(1, "cafe01"), (2, "beef02")] {
        let text = containers::page_of(&roots_in(&seeds().join("containers")), pid, id);
        if !text.is_some_and(|text| text.contains("container_memory_usage_bytes")) {
            faults.push(format!("container {id} shows nothing"));
        }
    }
    let known = |name: &str| {
        COLLECTORS.contains(&name) || OPTIONAL.contains(&name) || OTHERS.contains(&name)
    };
    for entry in fs::read_dir(seeds()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !known(&name) {
            faults.push(format!("tests/fuzz/seeds/{name} is nobody's"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
