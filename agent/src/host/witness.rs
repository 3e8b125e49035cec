//! A witness of one container's end: it knows that the main process is dead before Docker has taken
//! the cgroup away, and asks the cgroup whether the kernel has killed for want of memory.
//!
//! Docker's own word for it, an event and a flag, comes from the same counter by way of containerd,
//! which is often too late with it where the main process is the one that was killed.
//!
//! Sources: pidfd_open(2); `oom_kill` of memory.events (cgroup v2, "Memory Interface Files") or of
//! memory.oom_control (v1, since Linux 4.13).

use crate::host::cgroup::{Cgroup, Tree};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const MOUNTS: &str = "/sys/fs/cgroup";

pub struct Witness {
    process: AsyncFd<OwnedFd>,
    /// The file that counts.
    counter: PathBuf,
    /// The count at the last look.
    before: u64,
    /// It has been told.
    over: bool,
}

impl Witness {
    /// None where the process, or its cgroup, is not there for us to see: it has gone, or the agent
    /// lives in a container of its own.
    pub fn over(pid: i64, id: &str) -> Option<Witness> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let process = pidfd_open(number, PidfdFlags::empty()).ok()?;
        // Read after the process is held: what it says is of no other.
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let counter = counter(&text, id, Path::new(MOUNTS))?;
        Some(Witness {
            process: watched(process)?,
            before: count(&counter)?,
            over: false,
            counter,
        })
    }

    /// What has happened by now is not what it will die of.
    pub fn look(&mut self) {
        if let Some(count) = count(&self.counter) {
            self.before = count;
        }
    }

    /// Waits for the end of the process; whether the kernel has killed in there since the last
    /// look. Told once.
    pub async fn end(&mut self) -> bool {
        // The end stays readable for ever: asked again, it would be told without end.
        if self.over || self.process.readable().await.is_err() {
            return std::future::pending().await;
        }
        self.over = true;
        let now = count(&self.counter);
        let struck = now.is_some_and(|now| now > self.before);
        self.before = now.unwrap_or(self.before);
        struck
    }
}

fn watched(process: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    #![allow(unsafe_code)]
    // SAFETY: an `OwnedFd` keeps the same open descriptor for as long as it lives, and nothing
    // here takes it out of the `AsyncFd`.
    unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }.ok()
}

/// Where it is counted, by the process' /proc/PID/cgroup.
fn counter(text: &str, id: &str, mounts: &Path) -> Option<PathBuf> {
    match Cgroup::of(text, id, mounts)?.tree {
        Tree::V1(v1) => Some(v1.memory?.join("memory.oom_control")),
        Tree::V2(directory) => Some(directory.join("memory.events")),
    }
}

fn count(counter: &Path) -> Option<u64> {
    kills(&fs::read_to_string(counter).ok()?)
}

fn kills(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{Witness, counter, kills};
    use std::path::Path;

    const ID: &str = "86a8a7e548721453224638d610c56e198e6457c899340ce37adfe28eb0d9ebe3";

    #[test]
    fn the_counter_is_that_of_the_containers_own_cgroup() {
        let at = |text: &str| counter(text, ID, Path::new("/none"));
        let v2 = format!("0::/system.slice/docker-{ID}.scope\n");
        let expected = format!("/none/system.slice/docker-{ID}.scope/memory.events");
        assert_eq!(at(&v2), Some(expected.into()));
        let v1 = format!("4:memory:/docker/{ID}\n2:cpu:/docker/{ID}\n0::/\n");
        let expected = format!("/none/memory/docker/{ID}/memory.oom_control");
        assert_eq!(at(&v1), Some(expected.into()));
        assert_eq!(at("0::/user.slice\n"), None);
    }

    #[test]
    fn kills_are_counted_in_either_form() {
        let v2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(kills(v2), Some(2));
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n";
        assert_eq!(kills(v1), Some(7));
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[tokio::test]
    async fn the_end_is_told_once() {
        // A pipe whose other end is closed is as readable as a pidfd of a dead process.
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut witness = Witness {
            process: super::watched(read).unwrap(),
            counter: "/none".into(),
            before: 0,
            over: false,
        };
        let brief = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(brief, witness.end()).await.is_err());
        drop(write);
        assert!(!witness.end().await);
        assert!(tokio::time::timeout(brief, witness.end()).await.is_err());
    }

    #[tokio::test]
    async fn what_is_in_no_cgroup_of_the_container_has_no_witness() {
        assert!(Witness::over(1, ID).is_none());
        assert!(Witness::over(0, ID).is_none());
        assert!(Witness::over(i64::MAX, ID).is_none());
    }
}
