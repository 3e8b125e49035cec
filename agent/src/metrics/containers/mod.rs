//! Container metrics under cAdvisor's names, on a listener of their own.
//!
//! ```text
//! Docker ─ list ──→ what runs ─┐
//! /proc/PID/cgroup ─ cgroup ───┼─ sampler ─ families ─→ page ─ serve
//! /sys/fs/cgroup ─ v1 or v2 ───┤
//! /proc/PID/net/dev ─ network ─┘
//! ```
//!
//! A scrape reads kernel files alone; Docker is asked beside it (`list`), so a
//! Docker that hangs costs no page, only `container_last_seen` falls behind.
//! It knows Docker's containers, not the host's other cgroups. Families,
//! sources and what differs from cAdvisor: docs/container-metrics.md.

mod devices;
mod families;
mod files;
mod list;
mod network;
mod sampler;
mod serve;
mod stats;
mod text;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

pub use list::Lister;
pub use serve::ContainerMetrics;

use crate::docker::{self, Docker};
use crate::host::cgroup::{Cgroup, Tree};
use crate::host::roots::Roots;
use crate::listener::Address;
use crate::metrics::exposition::Page;
use crate::supervise;
use std::time::SystemTime;

/// `[metrics.containers]`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Empty, the default: off.
    pub listen: Vec<Address>,
    /// Print the containers' labels as `container_label_*`. Default: no.
    pub labels: bool,
}

/// What this part needs from the composition root.
pub struct Parts {
    pub settings: Settings,
    pub docker: docker::Settings,
    pub roots: Roots,
    pub supervise: supervise::Handle,
}

/// The page of one container: what the kernel's files say of the container `id`, whose main
/// process is `pid`. None where that is in no cgroup of it.
pub fn page_of(roots: &Roots, pid: i32, id: &str) -> Option<String> {
    let mut buffer = Vec::new();
    let process = roots.proc.join(pid.to_string());
    let text = files::once(&process.join("cgroup"), &mut buffer).ok()?;
    let cgroup = Cgroup::of(&text, id, &roots.sys.join("fs/cgroup"))?;
    drop(text);
    let mut devices = devices::Devices::new(&roots.sys);
    let mut stats = match &cgroup.tree {
        Tree::V1(tree) => v1::Reader::new(tree, false).read(&mut devices, &mut buffer),
        Tree::V2(tree) => v2::Reader::new(tree, false).read(&mut devices, &mut buffer),
    };
    if let Ok(text) = files::once(&process.join("net/dev"), &mut buffer) {
        stats.interfaces = network::interfaces(&text);
    }
    let row = families::Row {
        labels: vec![("id".into(), cgroup.path)],
        stats,
        last_seen: SystemTime::now(),
        started_at: None,
        oom_events: 0,
        restarts: 0,
        runs: true,
    };
    let mut page = Page::default();
    families::write(&mut page, &[row]);
    let mut text = String::new();
    page.render(|piece| text.push_str(piece));
    Some(text)
}

/// Makes the page's side and the list's side; both have to be run.
pub fn open(parts: Parts) -> (ContainerMetrics, Lister) {
    // Of its own: this client's calls stand on this page.
    let registry = prometheus::Registry::new();
    let docker = Docker::new(parts.docker, &registry);
    let list = list::List::new();
    let lister = Lister::new(docker, list.clone(), &parts.roots.proc);
    let restarts = sampler::restarts_of(parts.supervise);
    let labels = parts.settings.labels;
    let sampler = sampler::Sampler::new(parts.roots, labels, list, restarts, registry);
    (ContainerMetrics::new(sampler), lister)
}
