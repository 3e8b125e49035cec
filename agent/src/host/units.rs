//! Unit files that start a container by `docker run`, as hosts had them before
//! the agent.

use std::fs;
use std::path::{Path, PathBuf};

/// Largest unit file that is read. Unit: bytes.
const FILE_LIMIT: u64 = 256 << 10;
/// Most files that are looked through, in all folders.
const FILES: usize = 4000;

/// Where unit files and the control groups of running units are.
#[derive(Debug, Clone)]
pub struct Units {
    folders: Vec<PathBuf>,
    slices: Vec<PathBuf>,
}

/// A unit that starts a container of some name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `campaigns.service`
    pub name: String,
    /// It has processes now.
    pub active: bool,
}

impl Default for Units {
    fn default() -> Units {
        Units::under(Path::new("/"))
    }
}

impl Units {
    /// systemd's folders below a root. Source: systemd.unit(5), "Unit File Load Path";
    /// cgroup v2, and systemd's own hierarchy of v1.
    pub fn under(root: &Path) -> Units {
        let below = |paths: &[&str]| paths.iter().map(|path| root.join(path)).collect();
        Units {
            folders: below(&[
                "etc/systemd/system",
                "run/systemd/system",
                "usr/local/lib/systemd/system",
                "usr/lib/systemd/system",
            ]),
            slices: below(&[
                "sys/fs/cgroup/system.slice",
                "sys/fs/cgroup/systemd/system.slice",
            ]),
        }
    }

    /// The first unit whose ExecStart runs a container of that name; one that is
    /// active comes first. Reads files: call it where that may block.
    pub fn of_container(&self, container: &str) -> Option<Unit> {
        let files = self.folders.iter().filter_map(|at| fs::read_dir(at).ok());
        let mut found = None;
        for entry in files.flatten().flatten().take(FILES) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            let is_fit = name.ends_with(".service")
                && fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= FILE_LIMIT);
            if !is_fit || !fs::read_to_string(&path).is_ok_and(|text| runs(&text, &name, container))
            {
                continue;
            }
            let active = self.is_active(&name);
            let unit = Unit { name, active };
            if active {
                return Some(unit);
            }
            found = found.or(Some(unit));
        }
        found
    }

    fn is_active(&self, unit: &str) -> bool {
        self.slices.iter().any(|slice| {
            let told = fs::read_to_string(slice.join(unit).join("cgroup.procs"));
            told.is_ok_and(|pids| !pids.trim().is_empty())
        })
    }
}

/// Whether a unit's ExecStart is a `docker run` with that `--name`.
fn runs(text: &str, unit: &str, container: &str) -> bool {
    let whole = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let prefix = unit.strip_suffix(".service").unwrap_or(unit);
    let starts = whole
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ExecStart="));
    starts.into_iter().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_docker = words.iter().any(|word| {
            let word = word.trim_matches(['\'', '"']);
            word == "docker" || word.ends_with("/docker")
        });
        let named = words.iter().enumerate().filter_map(|(at, word)| {
            let word = word.trim_matches(['\'', '"']);
            match word.strip_prefix("--name=") {
                Some(name) => Some(name),
                None if word == "--name" => words.get(at + 1).copied(),
                None => None,
            }
        });
        let expanded = named.map(|name| {
            let name = name.trim_matches(['\'', '"']);
            name.replace("%n", unit)
                .replace("%N", prefix)
                .replace("%p", prefix)
        });
        is_docker && words.contains(&"run") && expanded.into_iter().any(|name| name == container)
    })
}

#[cfg(test)]
mod tests {
    use super::{Unit, Units, runs};
    use std::fs;

    const CAMPAIGNS: &str = "[Service]\nExecStartPre=-/usr/bin/docker rm vf-export\n\
        ExecStart=/usr/bin/docker run --rm \\\n  --name vf-export \\\n  -p 8080:8080 image\n";

    #[test]
    fn the_unit_that_runs_a_container_of_the_name_is_named() {
        let root = tempfile::tempdir().unwrap();
        let units = Units::under(root.path());
        assert_eq!(units.of_container("vf-export"), None);
        let folder = root.path().join("etc/systemd/system");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("campaigns.service"), CAMPAIGNS).unwrap();
        fs::write(folder.join("binary.service"), [0xff, 0xfe]).unwrap();
        fs::write(folder.join("notes.txt"), CAMPAIGNS).unwrap();
        let unit = |active| {
            let name = "campaigns.service".to_owned();
            Some(Unit { name, active })
        };
        assert_eq!(units.of_container("vf-export"), unit(false));
        let group = root
            .path()
            .join("sys/fs/cgroup/system.slice/campaigns.service");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.procs"), "4711\n").unwrap();
        assert_eq!(units.of_container("vf-export"), unit(true));
        assert_eq!(units.of_container("vf"), None);
    }

    #[test]
    fn names_are_found_in_each_way_of_writing_and_nowhere_else() {
        let is = |line: &str| runs(&format!("ExecStart={line}\n"), "app.service", "app");
        assert!(is("/bin/docker run --name=app x"));
        assert!(is("/bin/sh -c '/usr/bin/docker run --name app x'"));
        assert!(is("docker run --rm --name %p x"));
        assert!(is("docker run --name \"%N\" x"));
        assert!(!is("docker run --name application x"));
        assert!(!is("docker stop --name app"));
        assert!(!is("/bin/podman run --name app x"));
        assert!(!runs(
            "ExecStop=docker run --name app x\n",
            "app.service",
            "app"
        ));
        assert!(!runs("", "app.service", "app"));
    }
}
