//! `mdadm`: software RAID. Sources: /proc/mdstat, and /sys/block/mdN/md
//! (the kernel's admin-guide/md) for the disks of an array and how many it lacks.
//! Blocks are 1 KiB.

use crate::host::roots::Roots;
use crate::metrics::attributes::{names_if_any, number};
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::{Source, Text};
use std::path::PathBuf;

/// States as node_exporter names them, one series each.
const STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];

pub struct Mdadm {
    mdstat: Source,
    block: PathBuf,
}

#[derive(Debug, PartialEq)]
struct Array<'a> {
    name: &'a str,
    state: &'a str,
    active: u64,
    required: u64,
    failed: u64,
    spare: u64,
    blocks: u64,
    synced: u64,
}

impl Mdadm {
    pub fn new(roots: &Roots) -> Mdadm {
        Mdadm {
            mdstat: Source::new(roots.proc.join("mdstat")),
            block: roots.sys.join("block"),
        }
    }
}

impl Collector for Mdadm {
    fn name(&self) -> &'static str {
        "mdadm"
    }

    fn shows_what_few_have(&self) -> bool {
        true
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.mdstat.read()?;
        for array in arrays(&text)? {
            write(page, &array);
        }
        for name in names_if_any(&self.block, "md")? {
            let md = self.block.join(&name).join("md");
            let Some(disks) = number(&md.join("raid_disks")) else {
                continue;
            };
            let labels = [("device", &*name)];
            page.family(
                "node_md_raid_disks",
                Kind::Gauge,
                "Number of raid disks on device.",
            )
            .sample(&labels, disks);
            // RAID 0 cannot be degraded and has no such file.
            let degraded = number(&md.join("degraded")).unwrap_or(0.0);
            page.family(
                "node_md_degraded",
                Kind::Gauge,
                "Number of degraded disks on device.",
            )
            .sample(&labels, degraded);
        }
        Ok(())
    }
}

fn write(page: &mut Page, array: &Array<'_>) {
    let device = ("device", array.name);
    let mut family = page.family(
        "node_md_state",
        Kind::Gauge,
        "Indicates the state of md-device.",
    );
    for state in STATES {
        family.sample(&[device, ("state", state)], state == array.state);
    }
    let mut family = page.family(
        "node_md_disks",
        Kind::Gauge,
        "Number of active/failed/spare disks of device.",
    );
    for (state, disks) in [
        ("active", array.active),
        ("failed", array.failed),
        ("spare", array.spare),
    ] {
        family.sample(&[device, ("state", state)], disks);
    }
    for (family, value, help) in [
        (
            "node_md_disks_required",
            array.required,
            "Total number of disks of device.",
        ),
        (
            "node_md_blocks",
            array.blocks,
            "Total number of blocks on device.",
        ),
        (
            "node_md_blocks_synced",
            array.synced,
            "Number of blocks synced on device.",
        ),
    ] {
        page.family(family, Kind::Gauge, help)
            .sample(&[device], value);
    }
}

/// An array begins at the start of a line; its details are the indented lines behind it.
fn arrays<'a>(text: &'a Text<'_>) -> Result<Vec<Array<'a>>, CollectError> {
    let mut arrays = Vec::new();
    let mut lines = text.as_str().lines().peekable();
    while let Some(head) = lines.next() {
        let other = ["Personalities", "unused", " ", "\t"];
        if head.is_empty() || other.iter().any(|start| head.starts_with(start)) {
            continue;
        }
        let mut details = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with([' ', '\t'])) {
            details.push(line);
        }
        arrays.push(array(text, head, &details)?);
    }
    Ok(arrays)
}

fn array<'a>(
    text: &Text<'_>,
    head: &'a str,
    details: &[&'a str],
) -> Result<Array<'a>, CollectError> {
    let words: Vec<&str> = head.split_ascii_whitespace().collect();
    let ([name, _, state, ..], Some(status)) = (&*words, details.first()) else {
        return Err(text.malformed(format!("{head:?} is no whole array")));
    };
    let blocks: u64 = text.number(status.split_ascii_whitespace().next())?;
    let (required, active) = if words.contains(&"raid0") || words.contains(&"linear") {
        // Such an array lives only while all of its disks do.
        let disks = head.matches('[').count() as u64;
        (disks, disks)
    } else if *state == "inactive" {
        (0, 0)
    } else {
        let counts = status
            .split(['[', ']'])
            .find_map(|part| part.split_once('/'))
            .ok_or_else(|| text.malformed(format!("{status:?} does not count its disks")))?;
        (text.number(Some(counts.0))?, text.number(Some(counts.1))?)
    };
    let mut array = Array {
        name,
        state,
        active,
        required,
        failed: head.matches("(F)").count() as u64,
        spare: head.matches("(S)").count() as u64,
        blocks,
        synced: blocks,
    };
    for line in &details[1..] {
        let Some((_, shown)) = [
            ("recovery", "recovering"),
            ("resync", "resync"),
            ("check", "check"),
            ("reshape", "reshaping"),
        ]
        .into_iter()
        .find(|(word, _)| line.contains(word)) else {
            continue;
        };
        array.state = shown;
        array.synced = match line
            .split_once('(')
            .and_then(|(_, rest)| rest.split_once('/'))
        {
            Some((synced, _)) => text.number(Some(synced))?,
            // DELAYED or PENDING.
            None => 0,
        };
    }
    Ok(array)
}

#[cfg(test)]
mod tests {
    use super::Mdadm;
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn a_recovery_shows_its_state_and_what_is_synced() {
        let (_dir, roots) = host(&[(
            "proc/mdstat",
            "Personalities : [raid1]\nmd6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]\n      \
             195310144 blocks [2/1] [U_]\n      [=>...]  recovery =  8.5% (16775552/195310144) \
             finish=17.0min speed=259783K/sec\n\nmd0 : active raid0 sda1[0] sdb1[1]\n      \
             314159265 blocks 64k chunks\n\nunused devices: <none>\n",
        )]);
        let pages = collect(&mut Mdadm::new(&roots));
        let device = ("device", "md6");
        expect(&pages, "node_md_blocks_synced", &[device], 16_775_552.0);
        for (state, value) in [("recovering", 1.0), ("active", 0.0)] {
            expect(&pages, "node_md_state", &[device, ("state", state)], value);
        }
        for state in ["active", "failed", "spare"] {
            expect(&pages, "node_md_disks", &[device, ("state", state)], 1.0);
        }
        expect(&pages, "node_md_disks_required", &[("device", "md0")], 2.0);
    }

    #[test]
    fn an_array_without_details_is_an_error() {
        let (_dir, roots) = host(&[("proc/mdstat", "md0 : active raid1\n")]);
        let result = Mdadm::new(&roots).update(&mut Page::default());
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
