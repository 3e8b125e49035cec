//! Hosts that boot: Debian laid out like Flatcar, provisioned by the real Ignition, systemd as PID 1
//! and a Docker of their own inside. One host per group of scenarios, which are played in order.

// A helper of a test may fail like the test; scenarios say which one runs.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod broken;
mod disk;
mod docker;
mod fresh;
mod life;
mod place;
mod provision;
mod upgrade;

use place::{CONFIG, Host, Scenario, play};
use std::fs;
use tests::program::workspace;

/// What docs/boot.md lists, in its order.
const GROUPS: [(&str, &[Scenario]); 6] = [
    ("a_fresh_host", fresh::SCENARIOS),
    ("the_life_of_an_agent", life::SCENARIOS),
    ("docker_comes_and_goes", docker::SCENARIOS),
    ("a_broken_host", broken::SCENARIOS),
    ("a_full_disk", disk::SCENARIOS),
    ("upgrade_and_rollback", upgrade::SCENARIOS),
];

#[test]
fn a_fresh_host() {
    play(&Host::boot(CONFIG), fresh::SCENARIOS);
}

#[test]
fn the_life_of_an_agent() {
    play(&Host::boot_well(CONFIG), life::SCENARIOS);
}

#[test]
fn docker_comes_and_goes() {
    play(&Host::boot_well(CONFIG), docker::SCENARIOS);
}

#[test]
fn a_broken_host() {
    play(&Host::boot(broken::CONFIG), broken::SCENARIOS);
}

#[test]
fn a_full_disk() {
    play(&disk::boot(), disk::SCENARIOS);
}

#[test]
fn upgrade_and_rollback() {
    play(&upgrade::boot(), upgrade::SCENARIOS);
}

#[test]
fn each_scenario_is_on_its_page() {
    let page = fs::read_to_string(workspace().join("docs/boot.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let listed: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let played: Vec<&str> = GROUPS
        .iter()
        .flat_map(|(_, scenarios)| scenarios.iter().map(|(name, _)| *name))
        .collect();
    assert_eq!(listed, played);
    for (group, _) in GROUPS {
        assert!(page.contains(&format!("**{group}**")), "{group}");
    }
}
