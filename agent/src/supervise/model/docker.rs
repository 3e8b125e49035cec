//! A Docker of the imagination: containers by name and id, each call one step
//! that happens or does not.

use crate::docker::container::{Container, Summary};
use crate::docker::error::Cause;
use crate::docker::{Error, events};
use crate::supervise::act::{Found, LaunchError, double_name};
use crate::supervise::body::{LABEL_CONTAINER, LABEL_MANAGED_BY, LABEL_SPEC, MANAGER};
use crate::supervise::mind::{FetchError, Launch, Outcome, Repair, Work};
use crate::supervise::settings::Container as Wanted;
use crate::supervise::state::Failure;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Life {
    Created,
    Runs,
    Paused,
    Dead { code: i64, oom: bool },
}

#[derive(Clone, Debug)]
pub struct Sim {
    pub id: String,
    pub name: String,
    pub ours: bool,
    pub hash: String,
    pub life: Life,
    pub restarts_by_itself: bool,
    started: u64,
    started_wall: SystemTime,
    finished_wall: Option<SystemTime>,
    created: i64,
}

impl Sim {
    pub fn lives(&self) -> bool {
        matches!(self.life, Life::Runs | Life::Paused)
    }
}

/// The daemon's side of the world.
pub struct Daemon {
    pub up: bool,
    pub registry: bool,
    pub image: bool,
    /// New starts exit at once with this code.
    pub sick: Option<i64>,
    pub all: Vec<Sim>,
    pub told: Vec<events::Event>,
    pub n_mutations: u64,
    pub wall: SystemTime,
    serial: u64,
    /// What the launch under way has made.
    made: Option<String>,
}

pub const NAME: &str = "app";

impl Daemon {
    pub fn new(wall: SystemTime) -> Daemon {
        Daemon {
            up: true,
            registry: true,
            image: true,
            sick: None,
            all: Vec::new(),
            told: Vec::new(),
            n_mutations: 0,
            wall,
            serial: 0,
            made: None,
        }
    }

    pub fn by_name(&mut self, name: &str) -> Option<&mut Sim> {
        self.all.iter_mut().find(|one| one.name == name)
    }

    fn by_id(&mut self, id: &str) -> Option<&mut Sim> {
        self.all.iter_mut().find(|one| one.id == id)
    }

    pub fn running(&mut self) -> Option<&mut Sim> {
        self.all.iter_mut().find(|one| one.ours && one.lives())
    }

    pub fn list(&self) -> Vec<Summary> {
        let ours = self.all.iter().filter(|one| one.ours);
        ours.map(|one| Summary {
            id: one.id.clone(),
            name: one.name.clone(),
            labels: labels(one),
            running: one.lives(),
            paused: one.life == Life::Paused,
            created_only: one.life == Life::Created,
            created: one.created,
            image_id: String::new(),
        })
        .collect()
    }

    pub fn tell(&mut self, id: &str, what: events::What) {
        let event = events::Event {
            id: id.to_owned(),
            what,
            at: Some(self.wall),
            attributes: HashMap::new(),
        };
        self.told.push(event);
    }

    pub fn end(&mut self, id: &str, code: i64, oom: bool) {
        let wall = self.wall;
        let Some(one) = self.by_id(id) else { return };
        if !one.lives() {
            return;
        }
        one.life = Life::Dead { code, oom };
        one.finished_wall = Some(wall);
        if oom {
            self.tell(id, events::What::Oom);
        }
        self.tell(id, events::What::Died(code));
    }

    pub fn kill(&mut self, id: &str, code: i64) {
        self.tell(id, events::What::Killed);
        self.end(id, code, false);
    }

    pub fn destroy(&mut self, id: &str) {
        self.end(id, 137, false);
        self.all.retain(|one| one.id != id);
        self.tell(id, events::What::Destroyed);
    }

    pub fn create(&mut self, name: &str, ours: bool, hash: &str) -> Option<String> {
        if self.by_name(name).is_some() {
            return None;
        }
        self.serial += 1;
        let id = format!("{:012x}", self.serial);
        self.all.push(Sim {
            id: id.clone(),
            name: name.to_owned(),
            ours,
            hash: hash.to_owned(),
            life: Life::Created,
            restarts_by_itself: false,
            started: 0,
            started_wall: self.wall,
            finished_wall: None,
            created: i64::try_from(self.serial).unwrap(),
        });
        Some(id)
    }

    pub fn start(&mut self, id: &str) -> bool {
        self.serial += 1;
        let (serial, wall, sick) = (self.serial, self.wall, self.sick);
        let Some(one) = self.by_id(id) else {
            return false;
        };
        if one.lives() {
            return true;
        }
        one.life = Life::Runs;
        one.started = serial;
        one.started_wall = wall;
        self.tell(id, events::What::Started);
        if let Some(code) = sick {
            self.end(id, code, false);
        }
        true
    }

    pub fn inspect(&mut self, id: &str) -> Option<Container> {
        let one = self.by_id(id)?;
        let (exit_code, oom_killed) = match one.life {
            Life::Dead { code, oom } => (code, oom),
            _ => (0, false),
        };
        Some(Container {
            id: one.id.clone(),
            name: one.name.clone(),
            labels: labels(one),
            running: one.lives(),
            paused: one.life == Life::Paused,
            created_only: one.life == Life::Created,
            restarts_by_itself: one.restarts_by_itself,
            pid: one.lives().then_some(1),
            started_at: Some(one.started_wall),
            started_at_text: one.started.to_string(),
            finished_at: one.finished_wall,
            exit_code,
            oom_killed,
            image_id: "sha256:1".into(),
            ..Container::default()
        })
    }

    fn mutate(&mut self, id: &str, allowed: bool) {
        self.n_mutations += 1;
        let ours = self.by_id(id).is_none_or(|one| one.ours);
        assert!(ours || allowed, "a stranger's container was touched");
    }

    /// One call of a launch, promotion or removal after the other; None when
    /// there is one more to come.
    pub fn step(&mut self, work: &Work, n: usize) -> Option<Outcome> {
        match work {
            Work::Look { container, .. } => {
                Some(Outcome::Looked(Ok(Box::new(self.look(container)))))
            }
            Work::Fetch { .. } if self.image || self.registry => {
                self.image = true;
                Some(Outcome::Fetched(Ok(())))
            }
            Work::Fetch { .. } => Some(Outcome::Fetched(Err(FetchError {
                text: "no registry".into(),
                again_in: Duration::from_secs(10),
            }))),
            Work::Launch(order) => self.launch(order, NAME, n).map(Outcome::Launched),
            Work::Double(order) => self
                .launch(order, &double_name(NAME), n)
                .map(Outcome::Doubled),
            Work::Promote { old, new, .. } => self.promote(old.as_deref(), new, n),
            Work::Clear { .. } => {
                let next = double_name(NAME);
                let id = self.by_name(&next).map(|one| one.id.clone());
                if let Some(id) = id {
                    self.mutate(&id, false);
                    self.destroy(&id);
                }
                Some(Outcome::Cleared(Ok(())))
            }
            Work::Signal { id, signal } => {
                self.mutate(id, false);
                let lives = self.by_id(id).is_some_and(|one| one.lives());
                if !lives {
                    return Some(Outcome::Signalled(Err(answer(409))));
                }
                self.tell(id, events::What::Killed);
                let deaf = signal != "SIGKILL" && self.serial.is_multiple_of(3);
                if !deaf {
                    self.end(id, 143, false);
                }
                Some(Outcome::Signalled(Ok(())))
            }
            Work::Remove { .. } => {
                let ids: Vec<String> = self.list().into_iter().map(|one| one.id).collect();
                for id in ids {
                    self.mutate(&id, false);
                    self.destroy(&id);
                }
                Some(Outcome::Removed(Ok(())))
            }
            Work::Repair { id, name, what, .. } => {
                Some(Outcome::Repaired(self.repair(id, name, what)))
            }
        }
    }

    fn look(&mut self, wanted: &Wanted) -> Found {
        let name = wanted.name.as_str();
        let hash = shape(wanted);
        let next = double_name(name);
        let all = self.list();
        let double = all.iter().find(|one| one.name == next && one.running);
        let double = double.map(|one| one.id.clone());
        let rest: Vec<&Summary> = all.iter().filter(|one| one.name != next).collect();
        let named = rest.iter().find(|one| one.name == name);
        let running = rest.iter().find(|one| one.running);
        let best = match (named, running) {
            (Some(named), Some(running)) if !named.running => Some(running),
            (Some(named), _) => Some(named),
            (None, running) => running,
        };
        let best = best.map(|one| (one.id.clone(), one.running));
        let others = rest.len().saturating_sub(1);
        match (best, double) {
            (Some((_, false)) | None, Some(double)) => Found {
                current: self.inspect(&double),
                double: None,
                others,
                hash,
            },
            (best, double) => Found {
                current: best.and_then(|(id, _)| self.inspect(&id)),
                double: double.and_then(|id| self.inspect(&id)),
                others,
                hash,
            },
        }
    }

    fn launch(
        &mut self,
        order: &Launch,
        name: &str,
        n: usize,
    ) -> Option<Result<Container, LaunchError>> {
        let hash = match &order.label {
            Some(label) => label.to_string(),
            None => shape(&order.container),
        };
        let failed = |failure| {
            Some(Err(LaunchError {
                failure,
                text: format!("{failure:?}"),
                holder: None,
            }))
        };
        match n {
            0 if name == NAME => {
                if let Some(id) = &order.held {
                    self.mutate(id, false);
                    self.aside(&id.clone());
                }
                None
            }
            0 => {
                let id = self.by_name(name).map(|one| one.id.clone());
                if let Some(id) = id {
                    self.mutate(&id, false);
                    self.destroy(&id);
                }
                None
            }
            1 if !self.image => failed(Failure::ImageMissing),
            1 => {
                self.n_mutations += 1;
                self.made = self.create(name, true, &hash);
                if self.made.is_some() {
                    return None;
                }
                let holder = self.by_name(name).unwrap().clone();
                if !holder.ours {
                    return failed(Failure::Foreign);
                }
                if holder.lives() {
                    return match holder.hash == hash {
                        true => Some(Ok(self.inspect(&holder.id).unwrap())),
                        false => failed(Failure::Unsure),
                    };
                }
                self.aside(&holder.id);
                self.made = self.create(name, true, &hash);
                None
            }
            2 => {
                self.n_mutations += 1;
                match self.made.clone() {
                    Some(id) if self.start(&id) => None,
                    _ => failed(Failure::Failed),
                }
            }
            _ => match self.made.clone().and_then(|id| self.inspect(&id)) {
                Some(container) => Some(Ok(container)),
                None => failed(Failure::Failed),
            },
        }
    }

    fn promote(&mut self, old: Option<&str>, new: &str, n: usize) -> Option<Outcome> {
        match n {
            0 => {
                if let Some(old) = old {
                    self.mutate(old, false);
                    self.aside(old);
                }
                None
            }
            _ => {
                self.mutate(new, false);
                let taken = self.by_name(NAME).is_some_and(|one| one.id != new);
                if taken {
                    return Some(Outcome::Promoted(Err(answer(409))));
                }
                if let Some(one) = self.by_id(new) {
                    one.name = NAME.into();
                }
                let found = self.inspect(new).ok_or_else(|| answer(404));
                Some(Outcome::Promoted(found))
            }
        }
    }

    fn repair(&mut self, id: &str, name: &str, what: &[Repair]) -> Result<(), Error> {
        for one in what {
            self.mutate(id, false);
            if *one == Repair::Name {
                let holder = self.by_name(name).filter(|one| one.id != id).cloned();
                match holder {
                    Some(holder) if holder.ours && !holder.lives() => self.aside(&holder.id),
                    Some(_) => return Err(answer(409)),
                    None => {}
                }
            }
            let sim = self.by_id(id).ok_or_else(|| answer(404))?;
            match one {
                Repair::Name => sim.name = name.to_owned(),
                Repair::Paused if sim.life == Life::Paused => sim.life = Life::Runs,
                Repair::Paused => {}
                Repair::RestartPolicy => sim.restarts_by_itself = false,
                Repair::Limits => {}
            }
        }
        Ok(())
    }

    fn aside(&mut self, id: &str) {
        let spare = format!("{NAME}.prev.{id}");
        if let Some(one) = self.by_id(id) {
            one.name = spare;
        }
    }

    /// What tidying does: dead ones of ours go, but for the one that is held.
    pub fn tidy(&mut self, held: &str) -> bool {
        let held_runs = self.by_id(held).is_some_and(|one| one.lives());
        let ids: Vec<String> = self
            .all
            .iter()
            .filter(|one| one.ours && one.id != held && (held_runs || !one.lives()))
            .map(|one| one.id.clone())
            .collect();
        for id in &ids {
            self.n_mutations += 1;
            self.destroy(id);
        }
        false
    }
}

/// The hash of a spec: its image's tag.
pub fn shape(container: &Wanted) -> String {
    let image = &container.spec.image;
    format!("v1:{}", image.rsplit(':').next().unwrap_or_default())
}

fn labels(one: &Sim) -> HashMap<String, String> {
    if !one.ours {
        return HashMap::new();
    }
    HashMap::from([
        (LABEL_MANAGED_BY.to_owned(), MANAGER.to_owned()),
        (LABEL_CONTAINER.to_owned(), NAME.to_owned()),
        (LABEL_SPEC.to_owned(), one.hash.clone()),
    ])
}

fn answer(status: u16) -> Error {
    let message = "no".to_owned();
    Error::new("do it", NAME, Cause::Answer { status, message })
}

/// The daemon went away in the middle of a call.
pub fn lost(work: &Work) -> Outcome {
    let error = || Error::new("do it", NAME, Cause::Lost("gone".into()));
    let unsure = || LaunchError {
        failure: Failure::Unsure,
        text: "gone".into(),
        holder: None,
    };
    match work {
        Work::Look { .. } => Outcome::Looked(Err(error())),
        Work::Fetch { .. } => Outcome::Fetched(Err(FetchError {
            text: "gone".into(),
            again_in: Duration::from_secs(5),
        })),
        Work::Launch(_) => Outcome::Launched(Err(unsure())),
        Work::Double(_) => Outcome::Doubled(Err(unsure())),
        Work::Promote { .. } => Outcome::Promoted(Err(error())),
        Work::Clear { .. } => Outcome::Cleared(Err(error())),
        Work::Signal { .. } => Outcome::Signalled(Err(error())),
        Work::Remove { .. } => Outcome::Removed(Err(error())),
        Work::Repair { .. } => Outcome::Repaired(Err(error())),
    }
}
