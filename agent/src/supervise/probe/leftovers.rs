//! Ends what a probe's command left behind: Docker can begin a command, not end it.
//!
//! A process is killed only when its cgroup is the container's and it is the
//! command itself, its descendant, or carries the mark that the command was
//! given in its environment: so one that forked, changed its session and lost
//! its parent is found, and nothing of the container's own is. Signals go
//! through pidfds, which no later process of the same number can inherit.
//!
//! Children first, so that a parent that waits for them reaps them: a main
//! process that reaps no orphans would keep a zombie of each. A shell may get
//! as far as to begin its next command; that is killed too.

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// In the environment of each probe's command: the container's id and the probe.
const VARIABLE: &str = "AGENT_PROBE";
/// From a kill to the next look.
const PAUSE: Duration = Duration::from_millis(20);
/// Looks until what remains is said to be unkillable.
const ROUNDS: u32 = 50;
/// Rounds that kill only what has no children.
const GENTLE_ROUNDS: u32 = 3;

/// By what a command's processes are known.
#[derive(Debug, Clone)]
pub struct Mark {
    /// 64 hexadecimal digits.
    container: String,
    /// `AGENT_PROBE=…`
    variable: String,
}

/// These outlived SIGKILL, or are not ours to kill.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    #[error("processes {0:?} do not end")]
    Alive(Vec<i32>),
    #[error("cannot look for processes")]
    Look(#[source] std::io::Error),
}

struct Process {
    pid: i32,
    parent: i32,
    handle: OwnedFd,
}

impl Mark {
    pub fn new(container: &str, probe: &str) -> Mark {
        Mark {
            container: container.into(),
            variable: format!("{VARIABLE}={container}/{probe}"),
        }
    }

    /// To be added to the command's environment.
    pub fn variable(&self) -> String {
        self.variable.clone()
    }

    /// Kills all that carries the mark, and `root` with all below it: the
    /// command's first process, as Docker said a moment ago. Returns how many
    /// processes were signalled.
    pub async fn end(&self, root: Option<i32>) -> Result<usize, LeftoverError> {
        let mut signalled = BTreeSet::new();
        let mut left = Vec::new();
        for round in 0..ROUNDS {
            let mark = self.clone();
            let found = spawn_blocking(move || mark.find(Path::new("/proc"), root)).await;
            let found = found
                .map_err(std::io::Error::other)
                .and_then(|found| found)
                .map_err(LeftoverError::Look)?;
            if found.is_empty() {
                return Ok(signalled.len());
            }
            signalled.extend(kill(&found, round < GENTLE_ROUNDS));
            left = found.iter().map(|process| process.pid).collect();
            sleep(PAUSE).await;
        }
        Err(LeftoverError::Alive(left))
    }

    /// One look and one kill, without waiting: for what cannot wait.
    pub fn strike(&self) {
        if let Ok(found) = self.find(Path::new("/proc"), None) {
            kill(&found, false);
        }
    }

    fn find(&self, proc: &Path, root: Option<i32>) -> std::io::Result<Vec<Process>> {
        let mut inside = Vec::new();
        for entry in fs::read_dir(proc)?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            if !self.is_inside(&entry.path()) {
                continue;
            }
            // The handle first: what is read after it is of this process, or it is dead.
            let handle =
                Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            let Some(handle) = handle else { continue };
            if let (true, Some(parent)) = (self.is_inside(&entry.path()), parent(&entry.path())) {
                let process = Process {
                    pid,
                    parent,
                    handle,
                };
                inside.push((process, self.is_marked(&entry.path()) || root == Some(pid)));
            }
        }
        Ok(with_descendants(inside))
    }

    /// Docker names the cgroup after the container, whichever driver makes it.
    fn is_inside(&self, process: &Path) -> bool {
        fs::read_to_string(process.join("cgroup"))
            .is_ok_and(|cgroups| !self.container.is_empty() && cgroups.contains(&self.container))
    }

    fn is_marked(&self, process: &Path) -> bool {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == self.variable.as_bytes())
    }
}

/// The parent of a process that is not dead yet.
fn parent(process: &Path) -> Option<i32> {
    let stat = fs::read(process.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name before it is in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X" | "x");
    let parent = fields.next()?.parse().ok()?;
    (!is_dead).then_some(parent)
}

/// Those that are chosen, and all that descend from them.
fn with_descendants(all: Vec<(Process, bool)>) -> Vec<Process> {
    let mut chosen: BTreeSet<i32> = all
        .iter()
        .filter(|(_, is_chosen)| *is_chosen)
        .map(|(process, _)| process.pid)
        .collect();
    loop {
        let more: Vec<i32> = all
            .iter()
            .filter(|(p, _)| chosen.contains(&p.parent) && !chosen.contains(&p.pid))
            .map(|(process, _)| process.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        chosen.extend(more);
    }
    all.into_iter()
        .map(|(process, _)| process)
        .filter(|process| chosen.contains(&process.pid))
        .collect()
}

/// SIGKILL; returns who got it. `gently`: only those without children among them.
fn kill(found: &[Process], gently: bool) -> Vec<i32> {
    let is_parent = |process: &Process| found.iter().any(|other| other.parent == process.pid);
    found
        .iter()
        .filter(|process| !gently || !is_parent(process))
        // One that ended meanwhile is what was wanted.
        .filter(|process| pidfd_send_signal(&process.handle, Signal::KILL).is_ok())
        .map(|process| process.pid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Mark;
    use std::fs;
    use std::path::Path;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// A process as /proc shows it; the pid has to live, as a pidfd is made of it.
    fn process(proc: &Path, pid: u32, parent: u32, cgroup: &str, environ: &str, state: char) {
        let directory = proc.join(pid.to_string());
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("cgroup"), cgroup).unwrap();
        fs::write(directory.join("environ"), environ).unwrap();
        let stat = format!("{pid} (a) b) {state} {parent} 0 0");
        fs::write(directory.join("stat"), stat).unwrap();
    }

    fn found(cgroup: &str, environ: &str, state: char, root: bool) -> bool {
        let proc = tempfile::tempdir().unwrap();
        let own = std::process::id();
        process(proc.path(), own, 1, cgroup, environ, state);
        let root = root.then(|| i32::try_from(own).unwrap());
        let found = Mark::new(ID, "liveness").find(proc.path(), root).unwrap();
        !found.is_empty()
    }

    #[test]
    fn only_the_commands_own_processes_inside_the_container_are_found() {
        let inside = [
            format!("0::/system.slice/docker-{ID}.scope\n"),
            format!("9:pids:/docker/{ID}\n0::/\n"),
            format!("0::/docker/{ID}/below\n"),
        ];
        let marked = format!("A=b\0AGENT_PROBE={ID}/liveness\0C=d\0");
        for cgroup in &inside {
            assert!(found(cgroup, &marked, 'S', false), "{cgroup}");
            assert!(found(cgroup, "A=b\0", 'D', true), "{cgroup}");
            assert!(!found(cgroup, "A=b\0", 'S', false), "the app itself");
            assert!(!found(cgroup, &marked, 'Z', false), "dead already");
        }
        let other_probe = format!("AGENT_PROBE={ID}/readiness\0");
        assert!(!found(&inside[0], &other_probe, 'S', false));
        let longer = format!("XAGENT_PROBE={ID}/liveness\0AGENT_PROBE={ID}/livenessx\0");
        assert!(!found(&inside[0], &longer, 'S', false));
        let outside = "0::/system.slice/sshd.service\n";
        assert!(!found(outside, &marked, 'S', true), "not the container's");
    }

    #[test]
    fn descendants_are_found_whatever_their_environment() {
        let proc = tempfile::tempdir().unwrap();
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        let cgroup = format!("0::/docker/{ID}\n");
        process(proc.path(), parent, 1, &cgroup, "", 'S');
        process(proc.path(), own, parent, &cgroup, "", 'S');
        let mark = Mark::new(ID, "liveness");
        let pids = |root: u32| -> Vec<u32> {
            let root = i32::try_from(root).unwrap();
            let found = mark.find(proc.path(), Some(root)).unwrap();
            let mut pids: Vec<u32> = found.iter().map(|p| p.pid.unsigned_abs()).collect();
            pids.sort_unstable();
            pids
        };
        let mut both = vec![own, parent];
        both.sort_unstable();
        assert_eq!(pids(parent), both);
        assert_eq!(pids(own), [own]);
    }
}
