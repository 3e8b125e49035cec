//! `cgroups` (off by default): control groups per controller. Source:
//! /proc/cgroups, cgroups(7).

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

pub struct Cgroups {
    cgroups: Source,
}

impl Cgroups {
    pub fn new(roots: &Roots) -> Cgroups {
        Cgroups {
            cgroups: Source::new(roots.proc.join("cgroups")),
        }
    }
}

impl Collector for Cgroups {
    fn name(&self) -> &'static str {
        "cgroups"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.cgroups.read()?;
        for line in text.as_str().lines().filter(|line| !line.starts_with('#')) {
            // Controller, hierarchy, groups, enabled.
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [name, _, groups, enabled] = *words else {
                return Err(text.malformed(format!("{line:?} has not four columns")));
            };
            let labels = [("subsys_name", name)];
            let help = "Current cgroup number of the subsystem.";
            let (groups, enabled): (u64, u64) =
                (text.number(Some(groups))?, text.number(Some(enabled))?);
            page.family("node_cgroups_cgroups", Kind::Gauge, help)
                .sample(&labels, groups);
            page.family("node_cgroups_enabled", Kind::Gauge, help)
                .sample(&labels, enabled);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Cgroups;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn groups_and_the_switch_are_shown_per_controller() {
        let (_dir, roots) = host(&[(
            "proc/cgroups",
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t172\t1\n",
        )]);
        let pages = collect(&mut Cgroups::new(&roots));
        let labels = [("subsys_name", "cpu")];
        expect(&pages, "node_cgroups_cgroups", &labels, 172.0);
        expect(&pages, "node_cgroups_enabled", &labels, 1.0);
    }
}
