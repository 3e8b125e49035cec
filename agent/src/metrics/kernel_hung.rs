//! `kernel_hung`: tasks that the kernel found hung. Source:
//! /proc/sys/kernel/hung_task_detect_count (Linux 6.13 with DETECT_HUNG_TASK).

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

pub struct KernelHung {
    source: Source,
}

impl KernelHung {
    pub fn new(roots: &Roots) -> KernelHung {
        KernelHung {
            source: Source::of_one_piece(roots.proc.join("sys/kernel/hung_task_detect_count")),
        }
    }
}

impl Collector for KernelHung {
    fn name(&self) -> &'static str {
        "kernel_hung"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.source.read()?;
        let count: u64 = text.number(text.as_str().split_ascii_whitespace().next())?;
        page.family(
            "node_kernel_hung_tasks_total",
            Kind::Counter,
            "Total number of tasks that have been detected as hung since the system booted.",
        )
        .bare(count);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::KernelHung;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn the_kernels_count_is_shown() {
        let (_dir, roots) = host(&[("proc/sys/kernel/hung_task_detect_count", "42\n")]);
        let pages = collect(&mut KernelHung::new(&roots));
        expect(&pages, "node_kernel_hung_tasks_total", &[], 42.0);
    }
}
