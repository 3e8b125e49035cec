//! `filesystem`: size and free room of mounts. Sources: /proc/1/mountinfo (the
//! host's mounts even from a container that sees its pids; ours when that
//! cannot be read) and statfs(2) below the root file system.
//!
//! A mount that fails or hangs shows `device_error` 1 and whether it is read
//! only, the others are whole; see `statfs` for what hanging costs.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::mounts::{Mount, parse_line, without_root};
use crate::metrics::options::Filter;
use crate::metrics::pattern::Sieve;
use crate::metrics::source::{Source, Text};
use crate::metrics::statfs::{Answer, Place, Pool, Usage};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub struct Filesystem {
    mountinfo: Source,
    /// Read where `mountinfo` cannot be.
    own_mountinfo: Source,
    rootfs: PathBuf,
    mount_points: Sieve,
    types: Sieve,
    pool: Pool,
    known: Known,
}

/// The mounts, as long as mountinfo stays as it is.
#[derive(Default)]
struct Known {
    text: String,
    read: Option<Instant>,
    /// Which places were read-only then, by statfs(2); None: not asked yet.
    read_only: Option<Vec<Option<bool>>>,
    /// With the index of its place.
    mounts: Vec<(Mount, usize)>,
    /// What to ask; all differ.
    places: Vec<Place>,
}

/// What is on the page of mountinfo is never older: some options change without an event.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// Answer statfs(2) from memory, whatever becomes of their disk.
const NEAR: [&str; 9] = [
    "btrfs", "ext2", "ext3", "ext4", "f2fs", "ramfs", "tmpfs", "vfat", "xfs",
];
/// Harmless on the way to a mount: no name below them is looked up on another host or by a daemon.
const PASSED: [&str; 8] = [
    "cgroup", "cgroup2", "devtmpfs", "erofs", "overlay", "proc", "squashfs", "sysfs",
];

impl Filesystem {
    pub fn new(roots: &Roots, mount_points: &Filter, types: &Filter) -> Filesystem {
        Filesystem {
            mountinfo: Source::new(roots.proc.join("1/mountinfo")),
            own_mountinfo: Source::new(roots.proc.join("self/mountinfo")),
            rootfs: roots.rootfs.clone(),
            mount_points: Sieve::new(mount_points),
            types: Sieve::new(types),
            pool: Pool::new(),
            known: Known::default(),
        }
    }

    /// Reads mountinfo where it may say something new: the kernel prints each mount of each
    /// container for it.
    fn find_mounts(&mut self) -> Result<(), CollectError> {
        let is_old = |read: Instant| read.elapsed() > READ_AGAIN;
        let known = self.known.read.is_some_and(|read| !is_old(read));
        if known && !self.mountinfo.may_have_changed() {
            return Ok(());
        }
        self.read_mounts()
    }

    fn read_mounts(&mut self) -> Result<(), CollectError> {
        self.known.read_only = None;
        let text = match self.mountinfo.read() {
            Ok(text) => text,
            Err(_) => self.own_mountinfo.read()?,
        };
        if text.as_str() == self.known.text {
            self.known.read = Some(Instant::now());
            return Ok(());
        }
        self.pool.forget();
        self.known = known(&text, &self.rootfs, &mut self.mount_points, &mut self.types)?;
        Ok(())
    }
}

fn known(
    text: &Text<'_>,
    rootfs: &Path,
    mount_points: &mut Sieve,
    types: &mut Sieve,
) -> Result<Known, CollectError> {
    let mut known = Known {
        text: text.as_str().to_owned(),
        read: Some(Instant::now()),
        ..Known::default()
    };
    let mut all = Vec::new();
    for line in text.as_str().lines() {
        let mut mount = parse_line(line).map_err(|what| text.malformed(what))?;
        mount.mount_point = without_root(&mount.mount_point, &rootfs.to_string_lossy());
        all.push(mount);
    }
    let far = far(&all);
    let mut seen = HashSet::new();
    let mut asked = HashMap::new();
    for mount in all {
        if !mount_points.takes(&mount.mount_point) || !types.takes(&mount.fstype) {
            continue;
        }
        let labels = (
            mount.device.clone(),
            mount.mount_point.clone(),
            mount.fstype.clone(),
        );
        if !seen.insert(labels) {
            continue; // mounted twice at one place
        }
        // statfs sees the topmost of the mounts at one place: all of them show its answer.
        let path = *asked.entry(mount.mount_point.clone()).or_insert_with(|| {
            let path = rootfs.join(mount.mount_point.trim_start_matches('/'));
            let near = !far.iter().any(|far| is_below(&mount.mount_point, far));
            known.places.push(Place { path, near });
            known.places.len() - 1
        });
        known.mounts.push((mount, path));
    }
    Ok(known)
}

fn read_only(answers: &[Answer]) -> Vec<Option<bool>> {
    let flag = |answer: &Answer| match answer {
        Answer::Usage(usage) => Some(usage.read_only),
        Answer::Error(_) | Answer::Timeout => None,
    };
    answers.iter().map(flag).collect()
}

/// Mount points that only a thread of its own may ask or pass.
fn far(mounts: &[Mount]) -> Vec<String> {
    let of_others = mounts.iter().filter(|mount| {
        let fstype = mount.fstype.as_str();
        !NEAR.contains(&fstype) && !PASSED.contains(&fstype)
    });
    of_others.map(|mount| mount.mount_point.clone()).collect()
}

/// Whether the way to `mount_point` leads to or through `other`.
fn is_below(mount_point: &str, other: &str) -> bool {
    let rest = mount_point.strip_prefix(other.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Collector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        self.find_mounts()?;
        let mut answers = self.pool.ask_all(&self.known.places);
        let read_only = read_only(&answers);
        if (self.known.read_only.as_ref()).is_some_and(|before| *before != read_only) {
            // The kernel has made one read-only by itself, which is no event of the table.
            self.read_mounts()?;
            answers = self.pool.ask_all(&self.known.places);
        }
        self.known.read_only = Some(self::read_only(&answers));
        let rows: Vec<Row<'_>> = self
            .known
            .mounts
            .iter()
            .map(|(mount, path)| Row::new(mount, &answers[*path]))
            .collect();
        write(page, &rows);
        Ok(())
    }
}

/// A mount with its answer.
struct Row<'a> {
    mount: &'a Mount,
    usage: Option<Usage>,
    device_error: String,
}

impl<'a> Row<'a> {
    fn new(mount: &'a Mount, answer: &Answer) -> Row<'a> {
        let (usage, device_error) = match answer {
            Answer::Usage(usage) => (Some(*usage), String::new()),
            Answer::Error(error) => (None, reason(error)),
            Answer::Timeout => (None, "mountpoint timeout".to_owned()),
        };
        Row {
            mount,
            usage,
            device_error,
        }
    }

    fn labels(&self) -> [(&str, &str); 4] {
        [
            ("device", &self.mount.device),
            ("device_error", &self.device_error),
            ("fstype", &self.mount.fstype),
            ("mountpoint", &self.mount.mount_point),
        ]
    }
}

/// The kernel's words as Go prints them: lower case, no number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// Family, help, and what of the answer it shows.
type UsageFamily = (&'static str, &'static str, fn(&Usage) -> u64);

const USAGE: [UsageFamily; 6] = [
    (
        "node_filesystem_size_bytes",
        "Filesystem size in bytes.",
        |usage| usage.size,
    ),
    (
        "node_filesystem_free_bytes",
        "Filesystem free space in bytes.",
        |usage| usage.free,
    ),
    (
        "node_filesystem_avail_bytes",
        "Filesystem space available to non-root users in bytes.",
        |usage| usage.available,
    ),
    (
        "node_filesystem_files",
        "Filesystem total file nodes.",
        |usage| usage.files,
    ),
    (
        "node_filesystem_files_free",
        "Filesystem total free file nodes.",
        |usage| usage.files_free,
    ),
    (
        "node_filesystem_purgeable_bytes",
        "Filesystem space available including purgeable space (MacOS specific).",
        |_| 0,
    ),
];

fn write(page: &mut Page, rows: &[Row<'_>]) {
    let mut family = page.family(
        "node_filesystem_device_error",
        Kind::Gauge,
        "Whether an error occurred while getting statistics for the given device.",
    );
    for row in rows {
        family.sample(&row.labels(), row.usage.is_none());
    }
    let mut family = page.family(
        "node_filesystem_readonly",
        Kind::Gauge,
        "Filesystem read-only status.",
    );
    for row in rows {
        family.sample(&row.labels(), row.mount.read_only);
    }
    for (name, help, shown) in USAGE {
        let mut family = page.family(name, Kind::Gauge, help);
        for row in rows {
            if let Some(usage) = &row.usage {
                family.sample(&row.labels(), shown(usage));
            }
        }
    }
    let mut family = page.family(
        "node_filesystem_mount_info",
        Kind::Gauge,
        "Filesystem mount information.",
    );
    for row in rows.iter().filter(|row| row.usage.is_some()) {
        let labels = [
            ("device", row.mount.device.as_str()),
            ("major", &row.mount.major),
            ("minor", &row.mount.minor),
            ("mountpoint", &row.mount.mount_point),
        ];
        family.sample(&labels, 1u64);
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Filesystem, Mount, Page, Roots, Row, Usage, parse_line, reason, write};
    use crate::metrics::collector::Collector;
    use crate::metrics::options::Options;
    use crate::metrics::tests::{collect, expect, host, parse};
    use std::io;

    fn mount(line: &str) -> Mount {
        parse_line(line).unwrap()
    }

    fn with_defaults(roots: &Roots) -> Filesystem {
        let options = Options::default();
        Filesystem::new(roots, &options.mount_points, &options.fs_types)
    }

    #[test]
    fn mounts_are_shown_below_the_root_and_pseudo_ones_are_not() {
        let (dir, roots) = host(&[
            ("data/file", ""),
            (
                "proc/1/mountinfo",
                "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
                 2 1 0:5 / /proc rw - proc proc rw\n\
                 3 1 0:6 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n\
                 4 1 8:2 / /data ro - xfs /dev/old rw\n\
                 5 1 8:3 / /data rw - xfs /dev/sdb1 rw\n\
                 7 1 8:3 / /data rw - xfs /dev/sdb1 rw\n\
                 6 1 0:7 / /gone rw - tmpfs tmpfs rw\n",
            ),
        ]);
        let mut filesystem = with_defaults(&roots);
        let pages = collect(&mut filesystem);
        let labels = |device, error, fstype, point| {
            [
                ("device", device),
                ("device_error", error),
                ("fstype", fstype),
                ("mountpoint", point),
            ]
        };
        let root = labels("/dev/sda1", "", "ext4", "/");
        let data = labels("/dev/sdb1", "", "xfs", "/data");
        let gone = labels("tmpfs", "no such file or directory", "tmpfs", "/gone");
        let below = labels("/dev/old", "", "xfs", "/data");
        for (labels, error, read_only) in [
            (root, 0.0, 0.0),
            (data, 0.0, 0.0),
            (below, 0.0, 1.0),
            (gone, 1.0, 0.0),
        ] {
            expect(&pages, "node_filesystem_device_error", &labels, error);
            expect(&pages, "node_filesystem_readonly", &labels, read_only);
        }
        assert_eq!(pages["node_filesystem_device_error"].series.len(), 4);
        assert_eq!(pages["node_filesystem_size_bytes"].series.len(), 3);
        expect(&pages, "node_filesystem_purgeable_bytes", &data, 0.0);
        let info = [
            ("device", "/dev/sdb1"),
            ("major", "8"),
            ("minor", "3"),
            ("mountpoint", "/data"),
        ];
        expect(&pages, "node_filesystem_mount_info", &info, 1.0);

        std::fs::write(
            dir.path().join("proc/1/mountinfo"),
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n",
        )
        .unwrap();
        let pages = collect(&mut filesystem);
        assert_eq!(pages["node_filesystem_device_error"].series.len(), 1);
    }

    #[test]
    fn a_hung_mount_says_mountpoint_timeout_and_shows_no_sizes() {
        let hung = mount("9 1 0:50 / /nfs ro - nfs4 server:/ rw");
        let fine = mount("1 0 8:1 / / rw - ext4 /dev/sda1 rw");
        let usage = Usage {
            size: 7,
            ..Usage::default()
        };
        let mut page = Page::default();
        write(
            &mut page,
            &[
                Row::new(&hung, &Answer::Timeout),
                Row::new(&fine, &Answer::Usage(usage)),
            ],
        );
        let pages = parse(&page);
        let labels = [
            ("device", "server:/"),
            ("device_error", "mountpoint timeout"),
            ("fstype", "nfs4"),
            ("mountpoint", "/nfs"),
        ];
        expect(&pages, "node_filesystem_device_error", &labels, 1.0);
        expect(&pages, "node_filesystem_readonly", &labels, 1.0);
        assert_eq!(pages["node_filesystem_size_bytes"].series.len(), 1);
    }

    #[test]
    fn without_pid_1_our_own_mounts_are_shown() {
        let (_dir, roots) = host(&[(
            "proc/self/mountinfo",
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n",
        )]);
        let pages = collect(&mut with_defaults(&roots));
        assert_eq!(pages["node_filesystem_size_bytes"].series.len(), 1);
    }

    #[test]
    fn a_broken_mountinfo_is_an_error() {
        let (_dir, roots) = host(&[("proc/1/mountinfo", "nonsense\n")]);
        let error = with_defaults(&roots).update(&mut Page::default());
        assert!(error.unwrap_err().to_string().contains("nonsense"));
    }

    #[test]
    fn error_labels_read_as_those_of_node_exporter() {
        let denied = io::Error::from_raw_os_error(13);
        assert_eq!(reason(&denied), "permission denied");
    }
}
