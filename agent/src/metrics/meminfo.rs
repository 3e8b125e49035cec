//! `meminfo`: every line of /proc/meminfo, proc(5), whatever the kernel prints.
//!
//! Naming by the rule of node_exporter up to 1.5: `Active(anon)` is
//! `Active_anon`; a line in kB gets `_bytes` and is multiplied by 1024, a line
//! without a unit keeps its name and number. Later versions print a fixed
//! list, which is a subset of this.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page, push_name};
use crate::metrics::source::Source;

pub struct Meminfo {
    meminfo: Source,
}

impl Meminfo {
    pub fn new(roots: &Roots) -> Meminfo {
        Meminfo {
            meminfo: Source::of_one_piece(roots.proc.join("meminfo")),
        }
    }
}

impl Collector for Meminfo {
    fn name(&self) -> &'static str {
        "meminfo"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        const PREFIX: &str = "node_memory_";
        let text = self.meminfo.read()?;
        let mut name = String::with_capacity(64);
        let mut help = String::with_capacity(96);
        for line in text.as_str().lines() {
            let Some((key, rest)) = line.split_once(':') else {
                return Err(text.malformed(format!("{line:?} has no colon")));
            };
            let mut words = rest.split_ascii_whitespace();
            let mut value: u64 = text.number(words.next())?;
            name.clear();
            name.push_str(PREFIX);
            match key.strip_suffix(')').and_then(|key| key.split_once('(')) {
                Some((outer, inner)) => {
                    push_name(&mut name, outer);
                    name.push('_');
                    push_name(&mut name, inner);
                }
                None => push_name(&mut name, key),
            }
            if words.next().is_some() {
                value = value.saturating_mul(1024);
                name.push_str("_bytes");
            }
            help.clear();
            help.push_str("Memory information field ");
            help.push_str(&name[PREFIX.len()..]);
            help.push('.');
            page.family(&name, Kind::Gauge, &help).bare(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Meminfo;
    use crate::metrics::collector::Collector;
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn every_line_becomes_a_family_by_the_old_rule() {
        let (_dir, roots) = host(&[(
            "proc/meminfo",
            "MemTotal:        3742148 kB\nActive(anon):    2020004 kB\nHugePages_Total:       3\n\
             NewInSomeKernel:  1 kB\n",
        )]);
        let pages = collect(&mut Meminfo::new(&roots));
        assert_eq!(pages.len(), 4);
        expect(&pages, "node_memory_MemTotal_bytes", &[], 3_831_959_552.0);
        expect(
            &pages,
            "node_memory_Active_anon_bytes",
            &[],
            2_068_484_096.0,
        );
        expect(&pages, "node_memory_HugePages_Total", &[], 3.0);
        let new = &pages["node_memory_NewInSomeKernel_bytes"];
        assert_eq!(new.kind, "gauge");
        assert_eq!(new.help, "Memory information field NewInSomeKernel_bytes.");
    }

    #[test]
    fn a_broken_line_fails_and_keeps_what_came_before() {
        let (_dir, roots) = host(&[("proc/meminfo", "MemTotal: 1 kB\ngarbage\n")]);
        let mut page = Page::default();
        assert!(Meminfo::new(&roots).update(&mut page).is_err());
        expect(
            &crate::metrics::tests::parse(&page),
            "node_memory_MemTotal_bytes",
            &[],
            1024.0,
        );
    }
}
