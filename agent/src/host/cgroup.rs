//! Where a container's cgroup is: from /proc/PID/cgroup, never from a template.
//!
//! Docker's cgroupfs driver makes `/docker/ID`, its systemd driver
//! `/system.slice/docker-ID.scope`, a parent of the operator's something else;
//! what they share is one component that holds the container's id. Processes
//! may sit deeper (an init system inside), so the path is cut after it.
//!
//! cgroups(7), "/proc files": `hierarchy-ID:controller-list:path`.

use std::path::{Path, PathBuf};

/// One container's cgroup in all hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// cAdvisor's label `id`: the path below the hierarchy's root.
    pub path: String,
    pub tree: Tree,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// v1, or v1 and v2 side by side: one directory per controller.
    V1(V1),
    /// v2 alone.
    V2(PathBuf),
}

/// None: no such controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct V1 {
    pub cpu: Option<PathBuf>,
    pub cpuacct: Option<PathBuf>,
    pub memory: Option<PathBuf>,
    pub blkio: Option<PathBuf>,
}

impl Cgroup {
    /// Reads `text`, the process's /proc/PID/cgroup. None where it is not (any
    /// more) in a cgroup of the container `id`. `mounts` is /sys/fs/cgroup.
    pub fn of(text: &str, id: &str, mounts: &Path) -> Option<Cgroup> {
        let mut v1 = V1::default();
        let mut v1_path = None;
        let mut v2_path = None;
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            let Some(path) = cut(path, id) else { continue };
            if controllers.is_empty() {
                v2_path = Some(path);
                continue;
            }
            for controller in controllers.split(',') {
                let slot = match controller {
                    "cpu" => &mut v1.cpu,
                    "cpuacct" => &mut v1.cpuacct,
                    "memory" => &mut v1.memory,
                    "blkio" => &mut v1.blkio,
                    _ => continue,
                };
                *slot = Some(below(&mount(mounts, controllers, controller), path));
                v1_path.get_or_insert(path);
            }
        }
        if let Some(path) = v1_path {
            return Some(Cgroup {
                path: path.into(),
                tree: Tree::V1(v1),
            });
        }
        let path = v2_path?;
        Some(Cgroup {
            path: path.into(),
            tree: Tree::V2(below(mounts, path)),
        })
    }

    /// The cgroup is there: the container runs.
    pub fn exists(&self) -> bool {
        match &self.tree {
            Tree::V1(v1) => [&v1.memory, &v1.cpuacct, &v1.cpu, &v1.blkio]
                .into_iter()
                .flatten()
                .next()
                .is_some_and(|directory| directory.is_dir()),
            Tree::V2(directory) => directory.is_dir(),
        }
    }
}

/// The path up to and with the component that names the container.
fn cut<'a>(path: &'a str, id: &str) -> Option<&'a str> {
    let start = path.find(id)?;
    let after = start + id.len();
    let end = path[after..].find('/').map_or(path.len(), |at| after + at);
    Some(&path[..end])
}

/// Controllers mounted together have a link each; where those lack, the list is the name.
fn mount(mounts: &Path, controllers: &str, controller: &str) -> PathBuf {
    let single = mounts.join(controller);
    if controllers != controller && !single.is_dir() {
        return mounts.join(controllers);
    }
    single
}

fn below(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::{Cgroup, Tree};
    use std::path::Path;

    const ID: &str = "86a8a7e548721453224638d610c56e198e6457c899340ce37adfe28eb0d9ebe3";

    #[test]
    fn the_path_is_the_kernels_whatever_the_driver() {
        let mounts = Path::new("/sys/fs/cgroup");
        for (text, expected) in [
            (format!("0::/docker/{ID}\n"), format!("/docker/{ID}")),
            (
                format!("0::/system.slice/docker-{ID}.scope/init.scope\n"),
                format!("/system.slice/docker-{ID}.scope"),
            ),
            (format!("0::/a:b/{ID}/x/y\n"), format!("/a:b/{ID}")),
        ] {
            let found = Cgroup::of(&text, ID, mounts).unwrap();
            assert_eq!(found.path, expected);
            let directory = Path::new("/sys/fs/cgroup").join(expected.trim_start_matches('/'));
            assert_eq!(found.tree, Tree::V2(directory));
        }
    }

    #[test]
    fn hybrid_hosts_are_read_through_their_v1_controllers() {
        let text = format!(
            "9:name=systemd:/docker/{ID}\n4:memory:/docker/{ID}\n2:cpu,cpuacct:/docker/{ID}\n\
             0::/docker/{ID}\n"
        );
        let found = Cgroup::of(&text, ID, Path::new("/no/cgroups")).unwrap();
        let Tree::V1(v1) = found.tree else {
            panic!("not v1");
        };
        let at = |controller: &str| Some(format!("/no/cgroups/{controller}/docker/{ID}").into());
        assert_eq!(v1.memory, at("memory"));
        assert_eq!(v1.cpuacct, at("cpu,cpuacct"));
        assert_eq!(v1.blkio, None);
    }

    #[test]
    fn a_pid_that_was_given_to_another_process_is_seen() {
        let text = "4:memory:/user.slice\n0::/user.slice\n\nnonsense\n";
        assert_eq!(Cgroup::of(text, ID, Path::new("/sys/fs/cgroup")), None);
    }
}
