//! Who goes first: starts wait for dependencies, stops wait for dependents.

use super::{Condition, Container, ContainerStatus, Phase};
use std::collections::BTreeSet;

/// The first dependency that does not hold yet, in words; None when it may start.
pub fn unmet<'a>(
    container: &Container,
    status_of: impl Fn(&str) -> Option<&'a ContainerStatus>,
) -> Option<String> {
    container.depends_on.iter().find_map(|dependency| {
        let wanted = match dependency.condition {
            Condition::Started => "started",
            Condition::Ready => "ready",
            Condition::Completed => "completed",
        };
        let held =
            status_of(&dependency.name).is_some_and(|status| holds(dependency.condition, status));
        (!held).then(|| format!("waits for {} to be {wanted}", dependency.name))
    })
}

fn holds(condition: Condition, status: &ContainerStatus) -> bool {
    match (condition, status.phase) {
        (_, Phase::Completed) => true,
        (Condition::Started, Phase::Running) => true,
        (Condition::Ready, Phase::Running) => status.ready != Some(false),
        _ => false,
    }
}

/// Those for whose completion someone waits.
pub fn awaited<'a>(all: impl IntoIterator<Item = &'a Container>) -> BTreeSet<&'a str> {
    all.into_iter()
        .flat_map(|one| &one.depends_on)
        .filter(|dependency| dependency.condition == Condition::Completed)
        .map(|dependency| dependency.name.as_str())
        .collect()
}

/// Whether a container depends directly on `name`.
pub fn depends_on(container: &Container, name: &str) -> bool {
    container.depends_on.iter().any(|d| d.name == name)
}
