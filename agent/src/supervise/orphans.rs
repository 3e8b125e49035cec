//! What a list shows: hints for the tasks, and containers of former configs.

use super::body::LABEL_CONTAINER;
use super::mind::{Goal, Hint};
use super::spec::Spec;
use super::supervisor::Supervisor;
use super::{Condition, Container, Dependency, Drain, Probes, PullPolicy, Takeover, Update};
use crate::docker::container::Summary;
use std::collections::BTreeMap;
use std::time::Duration;

/// Grace of a container that the config no longer describes.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);

impl Supervisor {
    pub(super) fn listed(&mut self, all: Vec<Summary>) {
        let mut by_name: BTreeMap<String, Vec<Summary>> = BTreeMap::new();
        for one in all {
            if let Some(name) = one.labels.get(LABEL_CONTAINER).cloned() {
                by_name.entry(name).or_default().push(one);
            }
        }
        if !self.adopted {
            self.adopted = true;
            self.enter_orphans(&by_name);
        }
        let names: Vec<String> = self.members.keys().cloned().collect();
        for name in names {
            let found = by_name.remove(&name).unwrap_or_default();
            self.hint(&name, Hint::Listed(found));
        }
    }

    /// Containers of a former config: stopped and removed, the youngest first. One
    /// that the memory does not know may be another agent's and is left alone.
    fn enter_orphans(&mut self, by_name: &BTreeMap<String, Vec<Summary>>) {
        let mut orphans: Vec<(i64, &String)> = by_name
            .iter()
            .filter(|(name, _)| !self.members.contains_key(*name))
            .map(|(name, all)| (all.iter().map(|one| one.created).max().unwrap_or(0), name))
            .collect();
        orphans.retain(|(_, name)| {
            let known = self.remembered.contains_key(*name);
            if !known {
                tracing::warn!(
                    container = %name,
                    "neither in the config nor in the memory, another agent's perhaps: left alone, remove it by hand if nobody wants it"
                );
            }
            known
        });
        orphans.sort();
        let mut older: Vec<Dependency> = Vec::new();
        for (_, name) in orphans {
            tracing::info!(container = %name, "not in the config any more, will be removed");
            let container = Container {
                name: name.clone(),
                spec: Spec::default(),
                depends_on: older.clone(),
                stop_grace_period: ORPHAN_GRACE,
                pull_policy: PullPolicy::Never,
                probes: Probes::default(),
                drain: Drain::default(),
                update: Update::default(),
                takeover: Takeover::default(),
                essential: false,
            };
            self.enter(container, Goal::Remove);
            older.push(Dependency {
                name: name.clone(),
                condition: Condition::Started,
            });
        }
    }
}
