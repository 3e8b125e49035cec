//! What the fuzz targets of the kernel's text share: a host made of `seeds/`, one file of which
//! is replaced by the input.
//!
//! `seeds/NAME/…` is a host as the collector NAME reads it: `proc`, `sys`, `udev/data`,
//! `textfile`, the rest is its root. An input is the name of a collector and of one of its files,
//! a line feed, and that file's new content; `run` makes the corpus of the seeds that way. A new
//! collector needs a directory here and nothing else.

use agent::host::roots::Roots;
use agent::metrics::{Options, Settings, containers};
use std::fs;
use std::path::{Path, PathBuf};

/// Parsers of `metrics::containers`, which are no collector: pid and id of each container there.
pub const CONTAINERS: &str = "containers";
const RUNNING: [(i32, &str); 2] = [(1, "cafe01"), (2, "beef02")];
/// Sizes of files are the kernel's; a limit keeps the fuzzer at what differs otherwise.
const LONGEST: usize = 16 << 10;

/// One host per collector, in memory, and which files it has.
pub struct Hosts {
    directory: PathBuf,
    /// Collector, file, and what stands there when no input replaces it.
    files: Vec<(String, String, Vec<u8>)>,
}

impl Hosts {
    /// Lays the seeds out below $FUZZ_HOSTS, which `run` makes and removes, else below /dev/shm.
    pub fn new() -> Hosts {
        let own = format!("/dev/shm/agent-fuzz-{}", std::process::id());
        let directory = std::env::var_os("FUZZ_HOSTS").map_or_else(|| own.into(), PathBuf::from);
        let mut hosts = Hosts {
            directory,
            files: Vec::new(),
        };
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
        hosts.add(&seeds, &seeds);
        hosts
    }

    fn add(&mut self, seeds: &Path, from: &Path) {
        let mut entries: Vec<PathBuf> = fs::read_dir(from)
            .expect("seeds can be read")
            .map(|entry| entry.expect("a seed").path())
            .collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                self.add(seeds, &path);
                continue;
            }
            let name = path.strip_prefix(seeds).expect("below the seeds");
            let name = name.to_str().expect("seeds have plain names");
            let (collector, file) = name.split_once('/').expect("a directory per collector");
            let content = fs::read(&path).expect("a seed can be read");
            // Inputs of another target; the textfile collector has a host as well as a target.
            let target = format!("fuzz_targets/{collector}.rs");
            let target = Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
            if collector != "textfile" && target.exists() {
                continue;
            }
            self.put(collector, file, &content);
            self.files.push((collector.into(), file.into(), content));
        }
    }

    fn put(&self, collector: &str, file: &str, content: &[u8]) {
        let path = self.directory.join(collector).join(file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("room in /dev/shm");
        fs::write(path, content).expect("room in /dev/shm");
    }

    /// What the agent makes of the input; `None` where the input names no file.
    pub fn run(&self, input: &[u8]) -> Option<String> {
        let (head, content) = split(input)?;
        let (collector, file) = std::str::from_utf8(head).ok()?.split_once(' ')?;
        let seed = |known: &&(String, String, Vec<u8>)| known.0 == collector && known.1 == file;
        let (_, _, before) = self.files.iter().find(seed)?;
        self.put(collector, file, &content[..content.len().min(LONGEST)]);
        let page = page(&self.directory.join(collector), collector);
        self.put(collector, file, before);
        Some(page)
    }

    /// The page's own reader takes the page: as a textfile it is no error, and says the same again.
    pub fn is_well_formed(&self, page: &str) -> bool {
        let host = self.directory.join("again");
        self.put("again", "textfile/page.prom", page.as_bytes());
        let again = crate::page(&host, "textfile");
        again.contains("\nnode_textfile_scrape_error 0\n")
    }

    /// `collector file` of the seeds, for changing an input's first line.
    pub fn heads(&self) -> impl Iterator<Item = String> {
        let files = self.files.iter();
        files.map(|(collector, file, _)| format!("{collector} {file}"))
    }
}

impl Default for Hosts {
    fn default() -> Hosts {
        Hosts::new()
    }
}

/// The first line, and what follows it.
pub fn split(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    Some((&input[..end], &input[end + 1..]))
}

fn page(host: &Path, collector: &str) -> String {
    let roots = Roots {
        proc: host.join("proc"),
        sys: host.join("sys"),
        rootfs: host.to_owned(),
        udev: host.join("udev/data"),
    };
    if collector == CONTAINERS {
        let pages = RUNNING.map(|(pid, id)| containers::page_of(&roots, pid, id));
        // One page may not hold a family twice: the first that is there.
        return pages.into_iter().flatten().next().unwrap_or_default();
    }
    agent::metrics::page(&Settings {
        listen: Vec::new(),
        collectors: vec![collector.to_owned()],
        roots,
        options: Options {
            cpu_info: true,
            textfiles: vec![host.join("textfile")],
            ..Options::default()
        },
    })
}
