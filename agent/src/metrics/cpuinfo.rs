//! `node_cpu_info`: make and model per CPU, off by default. Source:
//! /proc/cpuinfo, a block of `key : value` lines per CPU, proc(5). What an
//! architecture does not print is an empty label.

use crate::host::roots::Roots;
use crate::metrics::collector::CollectError;
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

/// node_exporter's labels and the kernel's keys.
const LABELS: [(&str, &str); 10] = [
    ("cachesize", "cache size"),
    ("core", "core id"),
    ("cpu", "processor"),
    ("family", "cpu family"),
    ("microcode", "microcode"),
    ("model", "model"),
    ("model_name", "model name"),
    ("package", "physical id"),
    ("stepping", "stepping"),
    ("vendor", "vendor_id"),
];

pub struct CpuInfo {
    cpuinfo: Source,
}

impl CpuInfo {
    pub fn new(roots: &Roots) -> CpuInfo {
        CpuInfo {
            cpuinfo: Source::new(roots.proc.join("cpuinfo")),
        }
    }

    pub fn write(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.cpuinfo.read()?;
        let help = "CPU information from /proc/cpuinfo.";
        let mut family = page.family("node_cpu_info", Kind::Gauge, help);
        for block in text.as_str().split("\n\n") {
            let mut labels = LABELS.map(|(label, _)| (label, ""));
            let mut is_cpu = false;
            for line in block.lines() {
                let Some((key, value)) = line.split_once(':') else {
                    continue;
                };
                let key = key.trim_end();
                is_cpu |= key == "processor";
                if let Some(at) = LABELS.iter().position(|(_, known)| *known == key) {
                    labels[at].1 = value.trim();
                }
            }
            if is_cpu {
                family.sample(&labels, 1u64);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::cpu::Cpu;
    use crate::metrics::options::Options;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn each_cpu_tells_its_model_when_asked() {
        let (_dir, roots) = host(&[
            ("proc/stat", "cpu0 1 1 1 1 1\ncpu1 1 1 1 1 1\n"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 142\n\
                 model name\t: A CPU @ 1.90GHz\nstepping\t: 10\nmicrocode\t: 0xb4\n\
                 cache size\t: 8192 KB\nphysical id\t: 0\ncore id\t\t: 3\npower management:\n\n\
                 processor\t: 1\n\nHardware\t: a board\n",
            ),
        ]);
        let mut options = Options::default();
        assert!(!collect(&mut Cpu::new(&roots, &options)).contains_key("node_cpu_info"));
        options.cpu_info = true;
        options.cpu_guest = false;
        let pages = collect(&mut Cpu::new(&roots, &options));
        assert!(!pages.contains_key("node_cpu_guest_seconds_total"));
        assert_eq!(pages["node_cpu_info"].series.len(), 2);
        let labels = [
            ("cachesize", "8192 KB"),
            ("core", "3"),
            ("cpu", "0"),
            ("family", "6"),
            ("microcode", "0xb4"),
            ("model", "142"),
            ("model_name", "A CPU @ 1.90GHz"),
            ("package", "0"),
            ("stepping", "10"),
            ("vendor", "GenuineIntel"),
        ];
        expect(&pages, "node_cpu_info", &labels, 1.0);
    }
}
