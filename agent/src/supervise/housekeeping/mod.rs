//! Housekeeping: room on the disk that Docker keeps images and containers on.
//!
//! One task measures that disk. At the high mark it removes what nobody needs
//! until the disk is below the low mark: dead containers of ours beyond the one
//! generation that is kept, then images, those first that have been of no use for
//! longest. A pull or a launch that finds the disk full has it look at once.
//!
//! Invariants: an image stays that any container has, running or dead and
//! whoever's, that the config of containers or jobs means, by name or id, that a
//! container was last good with, that is being pulled, or that was of use within
//! `gc_min_age`; nothing is forced, so Docker itself refuses what has come into
//! use meanwhile; volumes, networks and build cache are nobody's business here;
//! where the config has neither container nor job, or the disk cannot be
//! measured, nothing is removed.
//!
//! What it does not know: how containers are started, registries.

pub mod counts;
pub mod disk;
pub mod plan;
pub mod settings;

pub use settings::Settings;

use super::audit::{Actor, Audit, Record};
use super::jobs;
use super::pull::Puller;
use crate::chain::Chain;
use crate::docker::container::Summary;
use crate::docker::storage::Stored;
use crate::docker::{self, Docker};
use crate::pulse::Beat;
use counts::Counts;
use disk::Gauge;
use plan::{Disk, Image, Keep, Occasion};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// Between two measurements.
const MEASURE: Duration = Duration::from_secs(15);
/// The longest call, a removal, and what is measured about it; five times
/// `docker.timeout` has to be added.
pub const ALLOWANCE: Duration = Duration::from_secs(180);
/// A disk that stays full is not worked on without end.
const EMERGENCY_PAUSE: Duration = Duration::from_secs(10 * 60);
/// Images that are looked at; a host has some dozens.
const MOST_IMAGES: usize = 1000;
/// Images and containers that go in one turn; the next turn goes on.
const MOST_REMOVALS: usize = 50;
/// Where the audit log names a container: no container can be called so.
const SUBJECT: &str = "(images)";

/// What the room needs from the composition root.
pub struct Parts {
    pub settings: Settings,
    pub docker: Docker,
    pub puller: Puller,
    /// Says what is wanted and what was good.
    pub supervise: super::Handle,
    pub jobs: jobs::Handle,
    pub registry: prometheus::Registry,
}

/// A cheap, cloneable end for reporters and reloads.
#[derive(Clone)]
pub struct Handle {
    settings: Arc<watch::Sender<Settings>>,
    status: watch::Receiver<Status>,
}

/// What reporters show, as of the last measurement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Docker's root; None until Docker has told it.
    pub root: Option<PathBuf>,
    /// None where it cannot be measured.
    pub disk: Option<Disk>,
}

impl Handle {
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    pub fn configure(&self, settings: Settings) {
        self.settings.send_if_modified(|held| {
            let changed = *held != settings;
            *held = settings;
            changed
        });
    }
}

/// The room's loop, made by [`new`].
pub struct Housekeeping {
    docker: Docker,
    puller: Puller,
    supervise: super::Handle,
    jobs: jobs::Handle,
    audit: Audit,
    settings: watch::Receiver<Settings>,
    status: watch::Sender<Status>,
    counts: Counts,
    full: Arc<Notify>,
    gauge: Gauge,
    /// The root, and since when the Docker answers that told it.
    root: Option<(Option<SystemTime>, PathBuf)>,
    /// By id: images of this host, as far as they have been seen.
    seen: BTreeMap<String, Seen>,
    /// It has been said that the disk cannot be measured.
    complained: bool,
    /// It has been said that the low mark is out of reach.
    stuck: bool,
}

/// What is known of an image's use.
#[derive(Debug, Clone, Copy)]
struct Seen {
    first: SystemTime,
    used: Option<SystemTime>,
}

enum Heard {
    Full,
    Settings,
    Measure,
    Turn,
}

/// Makes the room; nothing runs until [`Housekeeping::run`].
pub fn new(parts: Parts) -> (Handle, Housekeeping) {
    let (settings, held) = watch::channel(parts.settings);
    let (status, shown) = watch::channel(Status::default());
    let handle = Handle {
        settings: Arc::new(settings),
        status: shown,
    };
    let room = Housekeeping {
        audit: parts.supervise.audit.clone(),
        full: parts.puller.disk_full(),
        docker: parts.docker,
        puller: parts.puller,
        supervise: parts.supervise,
        jobs: parts.jobs,
        settings: held,
        status,
        counts: Counts::new(&parts.registry),
        gauge: Gauge::default(),
        root: None,
        seen: BTreeMap::new(),
        complained: false,
        stuck: false,
    };
    (handle, room)
}

impl Housekeeping {
    /// Keeps house until `stop`; a removal under way then is Docker's to end.
    pub async fn run(mut self, beat: Beat, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.keep_house(&beat)).await;
    }

    async fn keep_house(&mut self, beat: &Beat) {
        let mut measures = interval(MEASURE);
        measures.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let full = self.full.clone();
        let mut turn = Instant::now() + self.settings.borrow().interval;
        let mut emergency: Option<Instant> = None;
        loop {
            beat.beat();
            let heard = tokio::select! {
                () = full.notified() => Heard::Full,
                Ok(()) = self.settings.changed() => Heard::Settings,
                _ = measures.tick() => Heard::Measure,
                () = sleep_until(turn) => Heard::Turn,
            };
            let occasion = match heard {
                Heard::Settings => {
                    turn = Instant::now() + self.settings.borrow_and_update().interval;
                    continue;
                }
                Heard::Measure => {
                    self.measure().await;
                    continue;
                }
                Heard::Full if emergency.is_some_and(|at| at.elapsed() < EMERGENCY_PAUSE) => {
                    tracing::debug!("docker's disk is full again, images were removed just now");
                    continue;
                }
                Heard::Full => {
                    emergency = Some(Instant::now());
                    Occasion::Emergency
                }
                Heard::Turn => {
                    turn = Instant::now() + self.settings.borrow().interval;
                    Occasion::Turn
                }
            };
            if let Err(error) = self.turn(occasion, beat).await {
                tracing::warn!(error = %Chain(&error), "housekeeping of images is put off");
            }
        }
    }

    /// The disk as it is now, shown; None where nobody can say.
    async fn measure(&mut self) -> Option<Disk> {
        let disk = self.find_disk().await;
        self.counts.show(disk.map(Disk::ratio));
        let root = self.root.as_ref().map(|(_, root)| root.clone());
        let status = Status { root, disk };
        self.status
            .send_if_modified(|held| std::mem::replace(held, status.clone()) != status);
        disk
    }

    async fn find_disk(&mut self) -> Option<Disk> {
        let docker = self.supervise.status().docker.clone();
        if docker.reachable != Some(true) {
            return None;
        }
        let known = self.root.as_ref();
        let known = known.filter(|(since, _)| *since == docker.since);
        let root = match known {
            Some((_, root)) => root.clone(),
            None => match self.docker.root().await {
                Ok(root) => {
                    self.root = Some((docker.since, root.clone()));
                    root
                }
                Err(error) => {
                    self.complain(&Chain(&error).to_string());
                    return None;
                }
            },
        };
        match self.gauge.measure(&root).await {
            Ok(disk) => {
                self.complained = false;
                Some(disk)
            }
            Err(error) => {
                self.complain(&Chain(&error).to_string());
                None
            }
        }
    }

    fn complain(&mut self, error: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(
                error,
                "docker's disk cannot be measured, no images are removed"
            );
        }
    }

    /// Looks at what is there, and makes room where there is too little.
    async fn turn(&mut self, occasion: Occasion, beat: &Beat) -> Result<(), docker::Error> {
        let Some(before) = self.measure().await else {
            return Ok(());
        };
        let settings = self.settings.borrow().clone();
        if !settings.on || !self.is_in_charge() {
            return Ok(());
        }
        // Also below the mark: this is how it is known when an image was of use.
        let mut stored = self.docker.images().await?;
        // Docker lists the youngest first.
        stored.drain(..stored.len().saturating_sub(MOST_IMAGES));
        let containers = self.docker.list(&[]).await?;
        beat.beat();
        let now = SystemTime::now();
        self.note(&stored, &containers, now);
        if occasion == Occasion::Turn && !before.is_at(settings.high) {
            self.stuck = false;
            return Ok(());
        }
        tracing::info!(
            used_percent = before.percent(),
            full = occasion == Occasion::Emergency,
            "docker's disk is full, images that nobody needs are removed"
        );
        let mut left = MOST_REMOVALS;
        let names = self.supervise.status();
        let names = names.containers.iter().map(|one| one.name.clone());
        let names: BTreeSet<String> = names.collect();
        for one in plan::surplus(&containers, &names, settings.min_age, now) {
            if left == 0 || !self.is_wanting(occasion, &settings).await {
                break;
            }
            left -= 1;
            self.remove_container(one).await;
            beat.beat();
        }
        let containers = self.docker.list(&[]).await?;
        let keep = self.keep(beat).await?;
        let images = self.images(stored, &containers, &keep, beat).await?;
        let disk = self.measure().await.unwrap_or_default();
        let order = plan::plan(
            &images,
            &containers,
            &keep,
            disk,
            &settings,
            occasion,
            SystemTime::now(),
        );
        let order = order
            .iter()
            .filter_map(|id| images.iter().find(|image| image.id == *id));
        for image in order {
            if left == 0 || !self.is_wanting(occasion, &settings).await {
                break;
            }
            // What a reload or a pull wants since then, and what runs since then.
            let containers = self.docker.list(&[]).await?;
            let mut keep = keep.clone();
            keep.references = self.references();
            keep.ids.extend(self.supervise.status().last_good.clone());
            if plan::is_free(image, &containers, &keep) {
                left -= 1;
                self.remove_image(image, disk, &settings, beat).await;
            }
        }
        self.conclude(before, &settings).await;
        Ok(())
    }

    /// Somebody else's Docker is left as it is.
    fn is_in_charge(&self) -> bool {
        let containers = !self.supervise.status().containers.is_empty();
        containers || !self.jobs.status().jobs.is_empty()
    }

    /// An emergency ends when all has gone that may: what Docker tried to write
    /// and could not has been taken back by now, so the disk says little.
    async fn is_wanting(&mut self, occasion: Occasion, settings: &Settings) -> bool {
        let disk = self.measure().await;
        disk.is_some_and(|disk| disk.is_at(settings.low) || occasion == Occasion::Emergency)
    }

    async fn conclude(&mut self, before: Disk, settings: &Settings) {
        let Some(after) = self.measure().await else {
            return;
        };
        tracing::info!(
            used_percent_before = before.percent(),
            used_percent = after.percent(),
            "housekeeping of images is done"
        );
        let stuck = after.is_at(settings.high);
        if stuck && !std::mem::replace(&mut self.stuck, stuck) {
            tracing::warn!(
                used_percent = after.percent(),
                "docker's disk stays full, and nothing more may be removed"
            );
        }
        self.stuck = stuck;
    }

    fn note(&mut self, stored: &[Stored], containers: &[Summary], now: SystemTime) {
        let here: BTreeSet<&str> = stored.iter().map(|one| one.id.as_str()).collect();
        self.seen.retain(|id, _| here.contains(id.as_str()));
        for id in here {
            let seen = self.seen.entry(id.to_owned()).or_insert(Seen {
                first: now,
                used: None,
            });
            if containers.iter().any(|one| one.image_id == id) {
                seen.used = Some(now);
            }
        }
    }

    /// What the config and pulls under way name by now.
    fn references(&self) -> BTreeSet<String> {
        let (containers, jobs) = (self.supervise.status(), self.jobs.status());
        let containers = containers.containers.iter().map(|one| one.image.clone());
        let jobs = jobs.jobs.iter().map(|job| job.image.clone());
        let pulls = self.puller.underway();
        containers.chain(jobs).chain(pulls).collect()
    }

    async fn keep(&self, beat: &Beat) -> Result<Keep, docker::Error> {
        let references = self.references();
        let mut ids = self.supervise.status().last_good.clone();
        for reference in &references {
            match self.docker.find_image(reference).await {
                Ok(found) => ids.extend(found.map(|found| found.id)),
                // No reference at all means no image.
                Err(error) if error.is_refused() => {}
                Err(error) => return Err(error),
            }
            beat.beat();
        }
        Ok(Keep { references, ids })
    }

    /// What is listed, with the time of its last use.
    async fn images(
        &self,
        stored: Vec<Stored>,
        containers: &[Summary],
        keep: &Keep,
        beat: &Beat,
    ) -> Result<Vec<Image>, docker::Error> {
        let mut images = Vec::with_capacity(stored.len());
        for one in stored {
            let Some(seen) = self.seen.get(&one.id).copied() else {
                continue;
            };
            let mut image = Image {
                id: one.id,
                tags: one.tags,
                digests: one.digests,
                size: one.size,
                used: seen.used.unwrap_or(seen.first),
            };
            if plan::is_free(&image, containers, keep) {
                let tagged = self.docker.image_tagged_at(&image.id).await?;
                beat.beat();
                image.used = match (seen.used, tagged) {
                    (Some(used), tagged) => tagged.map_or(used, |tagged| tagged.max(used)),
                    (None, Some(tagged)) => tagged,
                    (None, None) => seen.first,
                };
                images.push(image);
            }
        }
        Ok(images)
    }

    async fn remove_image(&mut self, image: &Image, full: Disk, settings: &Settings, beat: &Beat) {
        let before = self.measure().await.unwrap_or_default();
        // By its names where it has any; a digest alone is one, too.
        let names = image.tags.iter().chain(&image.digests);
        let mut gone = false;
        for name in names.chain([&image.id]) {
            match self.docker.remove_image(name).await {
                Ok(deleted) => gone |= deleted,
                // Digests go with the last tag of their name.
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    tracing::info!(error = %Chain(&error), "an image that nobody needs stays");
                    break;
                }
            }
            beat.beat();
            if gone {
                break;
            }
        }
        if !gone {
            return;
        }
        let after = self.measure().await.unwrap_or(before);
        let freed = before.used.saturating_sub(after.used).min(image.size);
        self.counts.removed.inc();
        self.counts.freed.inc_by(freed);
        self.seen.remove(&image.id);
        let name = image.tags.first().or(image.digests.first());
        let name = name.map_or("without a name", String::as_str);
        let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
        let unused = SystemTime::now().duration_since(image.used);
        self.audit.record(Record {
            container: SUBJECT.into(),
            from: "unused",
            to: "removed",
            reason: format!(
                "image {name} ({}) of {} bytes, unused for {} s: {freed} bytes freed; docker's disk was at {} %, marks {} % and {} %",
                id.get(..12).unwrap_or(id),
                image.size,
                unused.unwrap_or_default().as_secs(),
                full.percent(),
                settings.high,
                settings.low,
            ),
            actor: Actor::Agent,
        });
    }

    async fn remove_container(&mut self, one: &Summary) {
        let before = self.measure().await.unwrap_or_default();
        match self.docker.remove_dead(&one.id).await {
            Ok(()) => {}
            Err(error) => {
                tracing::info!(error = %Chain(&error), "a dead container stays");
                return;
            }
        }
        let after = self.measure().await.unwrap_or(before);
        let freed = before.used.saturating_sub(after.used);
        let of = one.labels.get(super::body::LABEL_CONTAINER);
        self.audit.record(Record {
            container: of.unwrap_or(&one.name).clone(),
            from: "dead",
            to: "removed",
            reason: format!(
                "dead container {} ({}): {freed} bytes freed; docker's disk was at {} %",
                one.name,
                one.id.get(..12).unwrap_or(&one.id),
                before.percent(),
            ),
            actor: Actor::Agent,
        });
    }
}
