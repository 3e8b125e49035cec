//! Where /proc, /sys and the root file system are; tests and sidecars move them.

use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    pub proc: PathBuf,
    pub sys: PathBuf,
    pub rootfs: PathBuf,
    pub udev: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots {
            proc: "/proc".into(),
            sys: "/sys".into(),
            rootfs: "/".into(),
            udev: "/run/udev/data".into(),
        }
    }
}
