//! `filefd`: open file handles of the host. Source: /proc/sys/fs/file-nr, proc_sys_fs(5).

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

pub struct Filefd {
    file_nr: Source,
}

impl Filefd {
    pub fn new(roots: &Roots) -> Filefd {
        Filefd {
            file_nr: Source::of_one_piece(roots.proc.join("sys/fs/file-nr")),
        }
    }
}

impl Collector for Filefd {
    fn name(&self) -> &'static str {
        "filefd"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.file_nr.read()?;
        // allocated, free (always 0 since 2.6), maximum
        let mut words = text.as_str().split_ascii_whitespace();
        let allocated: u64 = text.number(words.next())?;
        let maximum: u64 = text.number(words.nth(1))?;
        page.family(
            "node_filefd_allocated",
            Kind::Gauge,
            "File descriptor statistics: allocated.",
        )
        .bare(allocated);
        page.family(
            "node_filefd_maximum",
            Kind::Gauge,
            "File descriptor statistics: maximum.",
        )
        .bare(maximum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Filefd;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn allocated_and_maximum_come_from_file_nr() {
        let (_dir, roots) = host(&[("proc/sys/fs/file-nr", "1024\t0\t9223372036854775807\n")]);
        let pages = collect(&mut Filefd::new(&roots));
        expect(&pages, "node_filefd_allocated", &[], 1024.0);
        expect(&pages, "node_filefd_maximum", &[], i64::MAX as f64);
    }
}
