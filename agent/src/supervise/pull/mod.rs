//! Images brought here: who asks which registry, when, and as whom.
//!
//! A [`Puller`] is a cheap handle that all container tasks share. It looks on
//! the host first, pulls each image once for all who wait for it, two at once
//! on the host, the essential ones first. A failure comes back with the time
//! after which asking again makes sense; asking before that costs the registry
//! nothing.
//!
//! Invariants: with the policy `missing` nothing is asked of a registry while
//! the image is here; a registry that asked for patience is left alone until it
//! is over, by all pulls; nothing runs when nobody waits for it (dropping the
//! last waiter ends the request); a password is in no text that leaves here;
//! every wait has an end ([`Settings::stall_timeout`], [`Settings::pull_timeout`]).
//!
//! What it does not know: containers, their restarts and their ladder.

pub mod counts;
pub mod credentials;
pub mod ladder;
pub mod slots;
pub mod verdict;

pub use credentials::{Credentials, Dynamic};
pub use slots::Priority;
pub use verdict::Kind;

use super::{PullPolicy, PullStatus};
use crate::chain::Chain;
use crate::docker::image::{Local, Reference};
use crate::docker::image_pull::{self, Login};
use crate::docker::{self, Docker};
use crate::secret;
use counts::{Counts, Underway};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use ladder::{Gate, Ladder, left};
use slots::{Slots, Ticket};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Pulls at once on this host.
const AT_ONCE: usize = 2;

/// `[images]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Longest time without a byte from the registry. Default 60 s.
    pub stall_timeout: Duration,
    /// Longest time of a pull, its wait for a turn not included. Default 30 min.
    pub pull_timeout: Duration,
    /// What `docker login` writes; need not be there.
    pub docker_config: PathBuf,
    /// By registry: `host` or `host:port`.
    pub credentials: BTreeMap<String, Named>,
}

/// `[images.credentials."registry.example"]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub username: String,
    pub password: secret::Source,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            stall_timeout: Duration::from_secs(60),
            pull_timeout: Duration::from_secs(30 * 60),
            docker_config: "/root/.docker/config.json".into(),
            credentials: BTreeMap::new(),
        }
    }
}

/// How far a fetch is; what changes is told a hundred times at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// Nothing is known yet.
    #[default]
    Asking,
    /// Other pulls go first.
    Queued,
    Pulling(image_pull::Progress),
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub image_id: String,
    /// `sha256:…` of its manifest, as the registry knows it; None for an image made here.
    pub digest: Option<String>,
    /// It is what was here before: the registry could not be asked, and why.
    pub stale: Option<String>,
}

/// Why an image is not here, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct PullError {
    pub kind: Kind,
    pub text: String,
    /// Until then the answer will be the same.
    pub again_in: Duration,
}

/// What goes wrong in one try, before anyone has thought about the next.
#[derive(Debug)]
struct Failed {
    kind: Kind,
    text: String,
    /// The registry's own word.
    patience: Option<Duration>,
}

type Work = Shared<BoxFuture<'static, Result<Fetched, PullError>>>;

/// Shared by all who fetch images. Cloning shares.
#[derive(Clone)]
pub struct Puller {
    inner: Arc<Inner>,
}

struct Inner {
    docker: Docker,
    credentials: Credentials,
    slots: Slots,
    counts: Counts,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    settings: Arc<Settings>,
    /// By image: its failures in a row, and the last one's words.
    failures: BTreeMap<String, (Ladder, PullError)>,
    /// By registry.
    gates: BTreeMap<String, Gate>,
    /// By image: pulls that somebody waits for.
    flights: BTreeMap<String, Flight>,
}

struct Flight {
    work: WeakShared<BoxFuture<'static, Result<Fetched, PullError>>>,
    ticket: Arc<Ticket>,
    progress: watch::Receiver<Progress>,
}

impl Puller {
    pub fn new(
        docker: Docker,
        settings: Settings,
        credentials: Credentials,
        registry: &prometheus::Registry,
    ) -> Puller {
        let known = Known {
            settings: Arc::new(settings),
            ..Known::default()
        };
        Puller {
            inner: Arc::new(Inner {
                docker,
                credentials,
                slots: Slots::new(AT_ONCE),
                counts: Counts::new(registry),
                known: Mutex::new(known),
            }),
        }
    }

    /// Takes new settings over, for pulls that begin from now on; they may mend
    /// what failed, so nothing waits for its ladder any more.
    pub fn configure(&self, settings: Settings) {
        let mut known = self.lock();
        if *known.settings != settings {
            known.settings = Arc::new(settings);
            known.failures.clear();
        }
    }

    /// An operator wants it tried now. A registry's wish for patience stands.
    pub fn forgive(&self, image: &str) {
        self.lock().failures.remove(image);
    }

    /// Brings the image here where the policy asks for it. Cancel-safe: dropped,
    /// it ends the pull unless others wait for the same.
    pub async fn fetch(
        &self,
        image: &str,
        policy: PullPolicy,
        priority: Priority,
        progress: &watch::Sender<Progress>,
    ) -> Result<Fetched, PullError> {
        if policy != PullPolicy::Always {
            let here = self.inner.docker.find_image(image).await;
            match here.map_err(|error| away(&error))? {
                Some(local) => return Ok(Fetched::of(image, &local, None)),
                None if policy == PullPolicy::Never => return Err(forbidden(image)),
                None => {}
            }
        }
        let failure = match self.pull(image, priority, progress).await {
            Ok(fetched) => return Ok(fetched),
            Err(failure) => failure,
        };
        if policy == PullPolicy::Always
            && let Ok(Some(local)) = self.inner.docker.find_image(image).await
        {
            tracing::warn!(
                image,
                error = failure.text,
                "the registry gives no image, the one that is here is used"
            );
            return Ok(Fetched::of(image, &local, Some(failure.text)));
        }
        Err(failure)
    }

    async fn pull(
        &self,
        image: &str,
        priority: Priority,
        progress: &watch::Sender<Progress>,
    ) -> Result<Fetched, PullError> {
        let (work, mut told) = self.join(image, priority)?;
        tokio::pin!(work);
        loop {
            let now = *told.borrow_and_update();
            progress.send_if_modified(|shown| std::mem::replace(shown, now) != now);
            tokio::select! {
                outcome = &mut work => return outcome,
                Ok(()) = told.changed() => {}
            }
        }
    }

    /// The pull of this image that is under way, or a new one. Errors: not yet.
    fn join(
        &self,
        image: &str,
        priority: Priority,
    ) -> Result<(Work, watch::Receiver<Progress>), PullError> {
        let mut known = self.lock();
        if let Some(flight) = known.flights.get(image)
            && let Some(work) = flight.work.upgrade()
        {
            flight.ticket.hurry(priority);
            return Ok((work, flight.progress.clone()));
        }
        known.not_yet(image, Instant::now())?;
        let (tell, progress) = watch::channel(Progress::Asking);
        let ticket = Arc::new(self.inner.slots.queue(priority));
        let puller = self.clone();
        let (name, turn) = (image.to_owned(), ticket.clone());
        let work = async move { puller.work(&name, &turn, &tell).await };
        let work = work.boxed().shared();
        if let Some(weak) = work.downgrade() {
            let flight = Flight {
                work: weak,
                ticket,
                progress: progress.clone(),
            };
            known
                .flights
                .retain(|_, flight| flight.work.upgrade().is_some());
            known.flights.insert(image.to_owned(), flight);
        }
        Ok((work, progress))
    }

    async fn work(
        &self,
        image: &str,
        turn: &Ticket,
        tell: &watch::Sender<Progress>,
    ) -> Result<Fetched, PullError> {
        tell.send_replace(Progress::Queued);
        let _slot = turn.slot().await;
        tell.send_replace(Progress::Asking);
        let settings = {
            let known = self.lock();
            // The registry may have asked for patience meanwhile.
            known.not_yet(image, Instant::now())?;
            known.settings.clone()
        };
        tracing::info!(image, "image pull begins");
        let underway = self.inner.counts.begin();
        let tries = self.tries(image, &settings, &underway, tell);
        let outcome = match timeout(settings.pull_timeout, tries).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failed {
                kind: Kind::Late,
                text: format!(
                    "cannot pull image {image}: not done within {:?}",
                    settings.pull_timeout
                ),
                patience: None,
            }),
        };
        underway.ended(outcome.as_ref().map_err(|failed| failed.kind).err());
        self.learn(image, outcome)
    }

    /// One try, and where the registry refuses the login, one more with what it
    /// is by now.
    async fn tries(
        &self,
        image: &str,
        settings: &Settings,
        underway: &Underway,
        tell: &watch::Sender<Progress>,
    ) -> Result<Fetched, Failed> {
        let reference = Reference::of(image);
        let registry = reference.registry();
        let mut refused = false;
        loop {
            let found = self
                .inner
                .credentials
                .find(settings, registry, refused)
                .await;
            let login = found.login.as_ref();
            let answer = self.once(image, login, settings.stall_timeout, |pulled, n| {
                underway.received(n);
                let now = Progress::Pulling(pulled);
                tell.send_if_modified(|shown| {
                    let changed = shown.is_another_picture(now);
                    if changed {
                        *shown = now;
                    }
                    changed
                });
            });
            let mut failed = match answer.await {
                Ok(local) => return verified(image, &local),
                Err(error) => Failed::of(&error, login),
            };
            if failed.kind != Kind::Denied {
                return Err(failed);
            }
            if refused {
                failed
                    .text
                    .push_str(&format!(" (credentials: {})", found.told));
                return Err(failed);
            }
            tracing::info!(
                image,
                registry,
                "login refused, read anew and tried once more"
            );
            refused = true;
        }
    }

    async fn once(
        &self,
        image: &str,
        login: Option<&Login>,
        stall: Duration,
        mut told: impl FnMut(image_pull::Progress, u64),
    ) -> Result<Option<Local>, docker::Error> {
        let mut pull = self.inner.docker.pull(image, login, stall).await?;
        let mut before = 0;
        while let Some(progress) = pull.next().await? {
            let received = pull.received();
            told(progress, received.saturating_sub(before));
            before = received;
        }
        self.inner.docker.find_image(image).await
    }

    /// Takes down what an outcome says about the next try.
    fn learn(&self, image: &str, outcome: Result<Fetched, Failed>) -> Result<Fetched, PullError> {
        let registry = Reference::of(image).registry();
        let now = Instant::now();
        let mut known = self.lock();
        known.flights.remove(image);
        known
            .failures
            .retain(|_, (ladder, _)| !ladder.is_forgotten(now));
        known.gates.retain(|_, gate| !gate.is_forgotten(now));
        let failed = match outcome {
            Ok(fetched) => {
                known.failures.remove(image);
                // One that has asked for patience meanwhile is believed.
                known
                    .gates
                    .retain(|name, gate| name != registry || gate.opens > now);
                tracing::info!(image, id = fetched.image_id, "image pulled");
                return Ok(fetched);
            }
            Err(failed) => failed,
        };
        let spread = fastrand::f64();
        if failed.kind == Kind::Limited {
            let before = known.gates.get(registry).copied();
            let gate = Gate::closed(before, failed.patience, now, spread);
            known.gates.insert(registry.to_owned(), gate);
        }
        let before = known.failures.get(image).map(|(ladder, _)| *ladder);
        let ladder = Ladder::climbed(before, failed.kind, now, spread);
        let gate = known.gates.get(registry).map_or(now, |gate| gate.opens);
        let failure = PullError {
            kind: failed.kind,
            text: failed.text,
            again_in: ladder.not_before.max(gate).saturating_duration_since(now),
        };
        let entry = (ladder, failure.clone());
        known.failures.insert(image.to_owned(), entry);
        Err(failure)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.inner
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What was said last is said again as long as asking would be no use.
    fn not_yet(&self, image: &str, now: Instant) -> Result<(), PullError> {
        let registry = Reference::of(image).registry();
        let gate = self
            .gates
            .get(registry)
            .and_then(|gate| left(gate.opens, now));
        let failure = self.failures.get(image);
        let ladder = failure.and_then(|(ladder, _)| left(ladder.not_before, now));
        let Some(again_in) = gate.max(ladder) else {
            return Ok(());
        };
        match failure {
            Some((_, failure)) => Err(PullError {
                again_in,
                ..failure.clone()
            }),
            None => Err(PullError {
                kind: Kind::Limited,
                text: format!(
                    "cannot pull image {image}: {registry} asked for patience (too many requests)"
                ),
                again_in,
            }),
        }
    }
}

impl Progress {
    /// A line of a status, or None as long as there is nothing to tell.
    pub fn text(&self) -> Option<String> {
        const MIB: u64 = 1 << 20;
        match self {
            Progress::Asking => None,
            Progress::Queued => Some("image waits for other pulls".into()),
            Progress::Pulling(now) if now.unpacking => Some("image is being unpacked".into()),
            Progress::Pulling(now) => now.percent.map(|percent| {
                let (done, total) = (now.done / MIB, now.total.div_ceil(MIB));
                format!("image pulled to {percent} % ({done} of {total} MiB)")
            }),
        }
    }

    /// Numbers for who draws it.
    pub fn status(&self) -> Option<PullStatus> {
        let Progress::Pulling(now) = self else {
            return None;
        };
        now.percent.map(|percent| PullStatus {
            done: now.done,
            total: now.total,
            percent,
        })
    }

    fn is_another_picture(&self, other: Progress) -> bool {
        match (*self, other) {
            (Progress::Pulling(a), Progress::Pulling(b)) => {
                (a.percent, a.unpacking) != (b.percent, b.unpacking)
            }
            (a, b) => a != b,
        }
    }
}

impl Fetched {
    fn of(image: &str, local: &Local, stale: Option<String>) -> Fetched {
        let reference = Reference::of(image);
        let digest = reference.digest.or_else(|| local.digest_of(reference.name));
        Fetched {
            image_id: local.id.clone(),
            digest: digest.map(str::to_owned),
            stale,
        }
    }
}

impl Failed {
    fn of(error: &docker::Error, login: Option<&Login>) -> Failed {
        let mut text = Chain(error).to_string();
        // Docker quotes requests; a password should not be in one, and is in no text.
        if let Some(login) = login {
            let token = login.identity_token.as_ref();
            for secret in [Some(&login.password), token].into_iter().flatten() {
                if !secret.expose().is_empty() {
                    text = text.replace(secret.expose(), "***");
                }
            }
        }
        Failed {
            kind: Kind::of(error.cause()),
            patience: verdict::retry_after(&text),
            text,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// After a pull that Docker calls done: it is here, and is what was asked for.
fn verified(image: &str, local: &Option<Local>) -> Result<Fetched, Failed> {
    let corrupt = |text: String| Failed {
        kind: Kind::Corrupt,
        text: format!("cannot pull image {image}: {text}"),
        patience: None,
    };
    let Some(local) = local else {
        return Err(corrupt(
            "docker says it is pulled, and it is not here".into(),
        ));
    };
    match Reference::of(image).digest {
        Some(digest) if !local.has_digest(digest) => Err(corrupt(format!(
            "what is here after the pull does not have the digest {digest}"
        ))),
        _ => Ok(Fetched::of(image, local, None)),
    }
}

fn away(error: &docker::Error) -> PullError {
    PullError {
        kind: Kind::Docker,
        text: Chain(error).to_string(),
        again_in: Duration::from_secs(2),
    }
}

fn forbidden(image: &str) -> PullError {
    PullError {
        kind: Kind::Never,
        text: format!("cannot use image {image}: it is not here, and pull_policy is \"never\""),
        again_in: Duration::from_secs(60),
    }
}

#[cfg(test)]
mod tests;
