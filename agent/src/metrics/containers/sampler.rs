//! From the list of containers to a page: reads cgroups, writes families.
//!
//! Lives in one thread and samples nothing between scrapes. Descriptors of the
//! first [`KEPT`] containers stay open, so that their number stays bounded;
//! those beyond are read by opening each time.

use super::devices::Devices;
use super::families::{self, Row};
use super::files;
use super::list::{Found, List};
use super::network;
use super::stats::Stats;
use super::{v1, v2};
use crate::host::cgroup::{Cgroup, Tree};
use crate::host::roots::Roots;
use crate::metrics::exposition::{Kind, Page, push_name};
use crate::metrics::gzip::Gzip;
use crate::metrics::registry;
use crate::metrics::scraper::Body;
use crate::supervise;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Containers whose files are kept open: some 20 descriptors each.
const KEPT: usize = 16;

/// How long OOM kills of a container that ended stay on the page, so that a
/// scrape sees the kill that ended it.
const AFTER_END: Duration = Duration::from_secs(300);
/// Ended containers remembered for it.
const ENDED: usize = 64;

/// How many times the agent restarted the container of that id.
pub type Restarts = Box<dyn Fn(&str) -> u64 + Send>;

pub struct Sampler {
    roots: Roots,
    mounts: PathBuf,
    list: List,
    /// Show container labels.
    labels: bool,
    restarts: Restarts,
    registry: prometheus::Registry,
    known: HashMap<String, Known>,
    ended: VecDeque<Ended>,
    devices: Devices,
    buffer: Vec<u8>,
    page: Page,
    text: String,
    gzip: Gzip,
}

/// A run of a container whose cgroup was found.
struct Known {
    found: Found,
    kept: bool,
    cgroup: Cgroup,
    reader: Reader,
}

/// A container that ran until `at`.
struct Ended {
    at: Instant,
    found: Found,
    path: String,
}

/// Why a container has no row.
enum Missing {
    /// It runs no more.
    Gone,
    /// It runs, but its cgroup is not where we look.
    Hidden,
}

enum Reader {
    V1(v1::Reader),
    V2(v2::Reader),
}

impl Sampler {
    pub fn new(
        roots: Roots,
        labels: bool,
        list: List,
        restarts: Restarts,
        registry: prometheus::Registry,
    ) -> Sampler {
        Sampler {
            mounts: roots.sys.join("fs/cgroup"),
            devices: Devices::new(&roots.sys),
            roots,
            list,
            labels,
            restarts,
            registry,
            known: HashMap::new(),
            ended: VecDeque::new(),
            buffer: Vec::new(),
            page: Page::default(),
            text: String::new(),
            gzip: Gzip::new(),
        }
    }

    /// One page of now.
    pub fn scrape(&mut self, gzip: bool) -> Body {
        self.fill();
        self.text.clear();
        let text = &mut self.text;
        self.page.render(|piece| text.push_str(piece));
        let packed = gzip.then(|| self.gzip.compress(self.text.as_bytes()));
        match packed.flatten() {
            Some(packed) => Body {
                bytes: packed.into(),
                gzip: true,
            },
            None => Body {
                bytes: Bytes::copy_from_slice(self.text.as_bytes()),
                gzip: false,
            },
        }
    }

    fn fill(&mut self) {
        let listing = self.list.now();
        self.drop_those_not_in(&listing.found);
        let mut rows = Vec::with_capacity(listing.found.len());
        let mut failed = !listing.ok;
        for found in listing.found.iter() {
            let (path, stats) = match self.sample(found) {
                Ok(sampled) => sampled,
                Err(Missing::Gone) => {
                    self.list.want();
                    continue;
                }
                Err(Missing::Hidden) => {
                    failed = true;
                    continue;
                }
            };
            rows.push(Row {
                labels: labels(found, path, self.labels),
                last_seen: listing.seen,
                started_at: found.started_at,
                oom_events: found.ooms.total(stats.oom_kills),
                restarts: found.restarts + (self.restarts)(&found.id),
                stats,
                runs: true,
            });
        }
        self.add_ended(&mut rows);
        self.page.clear();
        families::write(&mut self.page, &rows);
        let help = "1 if there was an error while getting container metrics, 0 otherwise";
        self.page
            .family("container_scrape_error", Kind::Gauge, help)
            .bare(failed);
        registry::write(&mut self.page, &self.registry);
    }

    fn drop_those_not_in(&mut self, found: &[Found]) {
        let runs = |known: &Known| {
            let same = |f: &&Found| f.id == known.found.id && f.pid == known.found.pid;
            found.iter().any(|f| same(&f))
        };
        let over: Vec<Known> = self
            .known
            .extract_if(|_, known| !runs(known))
            .map(|(_, known)| known)
            .collect();
        over.into_iter().for_each(|known| self.end(known));
    }

    fn end(&mut self, known: Known) {
        if self.ended.len() >= ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended {
            at: Instant::now(),
            found: known.found,
            path: known.cgroup.path,
        });
    }

    /// OOM kills of containers that ended and did not start again.
    fn add_ended(&mut self, rows: &mut Vec<Row>) {
        let known = &self.known;
        self.ended
            .retain(|ended| ended.at.elapsed() < AFTER_END && !known.contains_key(&ended.found.id));
        for Ended { found, path, .. } in &self.ended {
            let oom_events = found.ooms.total(None);
            if oom_events > 0 {
                rows.push(Row {
                    labels: labels(found, path.clone(), self.labels),
                    stats: Stats::default(),
                    last_seen: SystemTime::UNIX_EPOCH,
                    started_at: None,
                    oom_events,
                    restarts: 0,
                    runs: false,
                });
            }
        }
    }

    /// The path of its cgroup, and what it holds now.
    fn sample(&mut self, found: &Found) -> Result<(String, Stats), Missing> {
        if !self
            .known
            .get(&found.id)
            .is_some_and(|known| known.cgroup.exists())
        {
            if let Some(known) = self.known.remove(&found.id) {
                self.end(known);
            }
            let Some(cgroup) = self.locate(found) else {
                return Err(Missing::Gone);
            };
            if !cgroup.exists() {
                return Err(Missing::Hidden);
            }
            let keep = self.known.values().filter(|known| known.kept).count() < KEPT;
            let known = Known {
                found: found.clone(),
                kept: keep,
                reader: Reader::new(&cgroup.tree, keep),
                cgroup,
            };
            self.known.insert(found.id.clone(), known);
        }
        let Some(known) = self.known.get_mut(&found.id) else {
            return Err(Missing::Gone);
        };
        let mut stats = match &mut known.reader {
            Reader::V1(reader) => reader.read(&mut self.devices, &mut self.buffer),
            Reader::V2(reader) => reader.read(&mut self.devices, &mut self.buffer),
        };
        let path = known.cgroup.path.clone();
        // The pid may be another's by now: whose network it has is asked each time.
        if !found.borrows_network && self.locate(found).is_some() {
            let file = self.process(found).join("net/dev");
            let text = files::once(&file, &mut self.buffer).ok();
            stats.interfaces = text.map_or_else(Vec::new, |text| network::interfaces(&text));
        }
        Ok((path, stats))
    }

    fn locate(&mut self, found: &Found) -> Option<Cgroup> {
        let file = self.process(found).join("cgroup");
        let text = files::once(&file, &mut self.buffer).ok()?;
        Cgroup::of(&text, &found.id, &self.mounts)
    }

    fn process(&self, found: &Found) -> PathBuf {
        self.roots.proc.join(found.pid.to_string())
    }
}

impl Reader {
    fn new(tree: &Tree, keep: bool) -> Reader {
        match tree {
            Tree::V1(tree) => Reader::V1(v1::Reader::new(tree, keep)),
            Tree::V2(directory) => Reader::V2(v2::Reader::new(directory, keep)),
        }
    }
}

/// Restarts by the agent, from what supervision last published.
pub fn restarts_of(supervise: supervise::Handle) -> Restarts {
    Box::new(move |id| {
        let status = supervise.status();
        let ours = |one: &&supervise::ContainerStatus| one.id.as_deref() == Some(id);
        status
            .containers
            .iter()
            .find(ours)
            .map_or(0, |one| one.restarts)
    })
}

/// As cAdvisor prints them. Of container labels that become equal the first stays.
fn labels(found: &Found, path: String, with_own: bool) -> Vec<(String, String)> {
    let mut labels = vec![
        ("id".into(), path),
        ("image".into(), found.image.clone()),
        ("name".into(), found.name.clone()),
    ];
    if with_own {
        let restarts = (found.restarts > 0).then(|| ("restartcount", found.restarts.to_string()));
        let own = found
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        for (name, value) in own.chain(restarts) {
            let mut label = String::from("container_label_");
            push_name(&mut label, name);
            let label = label.replace(':', "_");
            if labels.iter().all(|(name, _)| *name != label) {
                labels.push((label, value));
            }
        }
    }
    labels
}
