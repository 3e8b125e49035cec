//! What btrfs tells of its devices over ioctl(2), linux/btrfs.h: errors, size
//! and use. It takes no rights beyond opening the mount point.
//!
//! Opening what stands below a dead mount never returns. So a thread of its own
//! asks; a page waits for it no longer than [`PATIENCE`], and a thread that is
//! stuck is not waited for again until it came back.

use crate::metrics::mounts::{parse_line, without_root};
use rustix::fs::{Mode, OFlags, open};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// How long a page waits for the thread.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// open and ioctl need next to no stack.
const STACK: usize = 128 << 10;

const BTRFS_IOC_FS_INFO: libc::Ioctl = 0x8400_941f;
const BTRFS_IOC_DEV_INFO: libc::Ioctl = 0xd000_941e;
const BTRFS_IOC_GET_DEV_STATS: libc::Ioctl = 0xc408_9434;
/// struct btrfs_ioctl_fs_info_args, and what of it we read.
const FS_INFO: usize = 1024;
const MAX_ID_AT: usize = 0;
const N_DEVICES_AT: usize = 8;
const FSID_AT: usize = 16;
/// struct btrfs_ioctl_dev_info_args: number, UUID, bytes used, size, path.
const DEV_INFO: usize = 4096;
const DEV_UUID_AT: usize = 8;
const BYTES_USED_AT: usize = 24;
const TOTAL_BYTES_AT: usize = 32;
const PATH_AT: usize = 3072;
const UUID: usize = 16;
/// struct btrfs_ioctl_get_dev_stats: number, how many values there is room for, flags, values.
const DEV_STATS: usize = 1032;
const N_VALUES_AT: usize = 8;
const VALUES_AT: usize = 24;
/// Values in the kernel's order, as node_exporter calls them.
pub const ERRORS: [&str; 5] = ["write", "read", "flush", "corruption", "generation"];
/// Numbers of devices are given out once each: more than this were never in one file system.
const MOST_DEVICES: u64 = 4096;

/// One device of a mounted file system. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Without its directory.
    pub name: String,
    /// Of the device in its file system, with dashes.
    pub uuid: String,
    pub size: u64,
    pub used: u64,
    /// In the order of [`ERRORS`].
    pub errors: [u64; ERRORS.len()],
}

/// Devices by the UUID of their file system, hexadecimal without dashes.
pub type Devices = HashMap<String, Vec<Device>>;

/// The question itself; tests give one that hangs.
type Ask = Arc<dyn Fn(&[PathBuf]) -> Devices + Send + Sync>;

/// The thread that asks.
pub struct Asker {
    ask: Ask,
    /// Where mount points go and devices come back.
    thread: Option<(SyncSender<Vec<PathBuf>>, Receiver<Devices>)>,
    /// It has not answered the last question.
    is_stuck: bool,
}

impl Asker {
    /// Starts nothing yet.
    pub fn new() -> Asker {
        Asker::with(Arc::new(ask_all))
    }

    fn with(ask: Ask) -> Asker {
        Asker {
            ask,
            thread: None,
            is_stuck: false,
        }
    }

    /// What is mounted there; nothing of file systems that do not answer in time or at all.
    pub fn ask(&mut self, mount_points: Vec<PathBuf>) -> Devices {
        if mount_points.is_empty() {
            return Devices::new();
        }
        if self.is_stuck {
            let late = self.thread.as_ref().map(|(_, answers)| answers.try_recv());
            if !matches!(late, Some(Ok(_))) {
                return Devices::new();
            }
            self.is_stuck = false;
        }
        if self.thread.is_none() {
            self.thread = start(self.ask.clone()).ok();
        }
        let Some((questions, answers)) = &self.thread else {
            return Devices::new();
        };
        if questions.try_send(mount_points).is_err() {
            self.thread = None; // it has ended; the next page starts another
            return Devices::new();
        }
        match answers.recv_timeout(PATIENCE) {
            Ok(devices) => devices,
            Err(_) => {
                self.is_stuck = true;
                Devices::new()
            }
        }
    }
}

fn start(ask: Ask) -> io::Result<(SyncSender<Vec<PathBuf>>, Receiver<Devices>)> {
    let (questions, asked) = sync_channel::<Vec<PathBuf>>(1);
    // Room for one answer that comes late: the thread never waits to be heard.
    let (answer, answers) = sync_channel(1);
    thread::Builder::new()
        .name("btrfs".into())
        .stack_size(STACK)
        .spawn(move || {
            while let Ok(mount_points) = asked.recv() {
                if answer.try_send(ask(&mount_points)).is_err() {
                    break;
                }
            }
        })?;
    Ok((questions, answers))
}

/// One mount point below `rootfs` of each source of a btrfs mount, as mountinfo tells.
pub fn mount_points(mountinfo: &str, rootfs: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for mount in mountinfo.lines().filter_map(|line| parse_line(line).ok()) {
        if mount.fstype == "btrfs" && !found.iter().any(|(device, _)| *device == mount.device) {
            let point = without_root(&mount.mount_point, &rootfs.to_string_lossy());
            let point = rootfs.join(point.trim_start_matches('/'));
            found.push((mount.device, point));
        }
    }
    found.into_iter().map(|(_, point)| point).collect()
}

fn ask_all(mount_points: &[PathBuf]) -> Devices {
    let all = mount_points.iter().filter_map(|point| ask(point).ok());
    all.collect()
}

/// The UUID of the file system and its devices.
fn ask(mount_point: &Path) -> io::Result<(String, Vec<Device>)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(mount_point, flags, Mode::empty())?;
    let mut info = [0; FS_INFO];
    ioctl(&directory, BTRFS_IOC_FS_INFO, &mut info)?;
    let (last, count) = (u64_at(&info, MAX_ID_AT), u64_at(&info, N_DEVICES_AT));
    let mut devices = Vec::new();
    // Numbers may begin at 0 or 1 and have gaps.
    for number in 0..=last.min(MOST_DEVICES) {
        match device(&directory, number) {
            Ok(device) => devices.push(device),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => return Err(error),
        }
        if devices.len() as u64 == count {
            break;
        }
    }
    Ok((hexadecimal(&info[FSID_AT..FSID_AT + UUID]), devices))
}

fn device(directory: &OwnedFd, number: u64) -> io::Result<Device> {
    let mut info = [0; DEV_INFO];
    info[..8].copy_from_slice(&number.to_ne_bytes());
    ioctl(directory, BTRFS_IOC_DEV_INFO, &mut info)?;
    let mut stats = [0; DEV_STATS];
    stats[..8].copy_from_slice(&number.to_ne_bytes());
    let room = ERRORS.len() as u64;
    stats[N_VALUES_AT..N_VALUES_AT + 8].copy_from_slice(&room.to_ne_bytes());
    ioctl(directory, BTRFS_IOC_GET_DEV_STATS, &mut stats)?;
    let path = &info[PATH_AT..];
    let end = path.iter().position(|byte| *byte == 0);
    let path = String::from_utf8_lossy(&path[..end.unwrap_or(path.len())]);
    let name = path.rsplit('/').next().unwrap_or_default();
    Ok(Device {
        name: name.to_owned(),
        uuid: with_dashes(&hexadecimal(&info[DEV_UUID_AT..DEV_UUID_AT + UUID])),
        size: u64_at(&info, TOTAL_BYTES_AT),
        used: u64_at(&info, BYTES_USED_AT),
        errors: std::array::from_fn(|at| u64_at(&stats, VALUES_AT + 8 * at)),
    })
}

/// `arguments` has the size that is part of `number`.
fn ioctl(directory: &OwnedFd, number: libc::Ioctl, arguments: &mut [u8]) -> io::Result<()> {
    #![allow(unsafe_code)]
    // SAFETY: the pointer is to a buffer of the size that the number of the question tells, which
    // lives beyond the call; the kernel reads and fills it and keeps no reference.
    match unsafe { libc::ioctl(directory.as_raw_fd(), number, arguments.as_mut_ptr()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 9562, section 4.
fn with_dashes(digits: &str) -> String {
    let mut text = digits.to_owned();
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Asker, Devices, PATIENCE, ask, mount_points};
    use std::path::{Path, PathBuf};
    use std::sync::mpsc::sync_channel;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    #[test]
    fn each_file_system_is_asked_at_one_of_its_mounts() {
        let mountinfo = "\
            30 1 0:25 / / rw - btrfs /dev/nvme0n1p3 rw\n\
            31 30 0:25 /oem /oem rw - btrfs /dev/nvme0n1p3 rw\n\
            32 30 8:1 / /data rw - ext4 /dev/sda1 rw\n\
            33 30 0:30 / /host/srv rw - btrfs /dev/nvme1n1 rw\n\
            not a mount\n";
        let expected: [PathBuf; 2] = ["/host/".into(), "/host/srv".into()];
        assert_eq!(mount_points(mountinfo, Path::new("/host")), expected);
    }

    #[test]
    fn what_is_no_btrfs_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ask(Path::new("/proc")).is_err());
        assert!(ask(&dir.path().join("none")).is_err());
    }

    #[test]
    fn who_hangs_is_waited_for_once_and_heard_again_when_it_is_back() {
        let (release, released) = sync_channel::<()>(1);
        let released = Mutex::new(released);
        let mut asker = Asker::with(Arc::new(move |_| {
            let released = released.lock().unwrap();
            released.recv().unwrap();
            Devices::from([("f00".to_owned(), Vec::new())])
        }));
        let somewhere = || vec![PathBuf::from("/")];
        let start = Instant::now();
        assert!(asker.ask(somewhere()).is_empty());
        assert!(start.elapsed() >= PATIENCE);
        let start = Instant::now();
        assert!(asker.ask(somewhere()).is_empty());
        assert!(start.elapsed() < PATIENCE);
        release.send(()).unwrap(); // of the question that hung
        let deadline = Instant::now() + Duration::from_secs(10);
        while asker.is_stuck {
            assert!(Instant::now() < deadline);
            release.try_send(()).ok(); // of the one that follows
            asker.ask(somewhere());
            std::thread::yield_now();
        }
        release.try_send(()).ok();
        assert_eq!(asker.ask(somewhere()).len(), 1);
    }
}
