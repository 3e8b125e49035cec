//! `vmstat`: paging counters and OOM kills, TYPE untyped as node_exporter has
//! them. Source: /proc/vmstat.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page, push_name};
use crate::metrics::pattern::Pattern;
use crate::metrics::source::Source;

pub struct Vmstat {
    vmstat: Source,
    shown: Pattern,
}

impl Vmstat {
    /// `fields` matches the statistics to show.
    pub fn new(roots: &Roots, fields: &str) -> Vmstat {
        Vmstat {
            vmstat: Source::of_short_lines(roots.proc.join("vmstat")),
            shown: Pattern::new(fields),
        }
    }
}

impl Collector for Vmstat {
    fn name(&self) -> &'static str {
        "vmstat"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.vmstat.read()?;
        let mut name = String::with_capacity(64);
        for line in text.as_str().lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(field) = words.next().filter(|field| self.shown.matches(field)) else {
                continue;
            };
            let value: u64 = text.number(words.next())?;
            name.clear();
            name.push_str("node_vmstat_");
            push_name(&mut name, field);
            let help = format!("/proc/vmstat information field {field}.");
            page.family(&name, Kind::Untyped, &help).bare(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Vmstat;
    use crate::metrics::pattern::VMSTAT_FIELDS;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn only_the_default_fields_are_shown_and_stay_untyped() {
        let (_dir, roots) = host(&[(
            "proc/vmstat",
            "nr_free_pages 1\npgpgin 2\npgpgout 3\npswpin 4\npswpout 5\npgfault 6\npgmajfault 7\n\
             pgfree 8\nthp_fault_alloc 9\noom_kill 10\n",
        )]);
        let pages = collect(&mut Vmstat::new(&roots, VMSTAT_FIELDS));
        assert_eq!(pages.len(), 7);
        assert!(pages.values().all(|family| family.kind == "untyped"));
        expect(&pages, "node_vmstat_pgmajfault", &[], 7.0);
        expect(&pages, "node_vmstat_oom_kill", &[], 10.0);
        assert_eq!(
            pages["node_vmstat_pgpgin"].help,
            "/proc/vmstat information field pgpgin."
        );
    }
}
