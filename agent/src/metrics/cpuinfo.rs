//! `node_cpu_info`: make and model per CPU, off by default; with it frequencies,
//! and flags and bugs of the first CPU that an expression asks for. Source:
//! /proc/cpuinfo, a block of `key : value` lines per CPU, proc(5). What an
//! architecture does not print is an empty label.

use crate::host::roots::Roots;
use crate::metrics::collector::CollectError;
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::options::Options;
use crate::metrics::pattern::Pattern;
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

/// Key, family, label, help; where the value is a list of words.
const WORDS: [(&str, &str, &str, &str); 2] = [
    (
        "flags",
        "node_cpu_flag_info",
        "flag",
        "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.",
    ),
    (
        "bugs",
        "node_cpu_bug_info",
        "bug",
        "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core.",
    ),
];

pub struct CpuInfo {
    cpuinfo: Source,
    shows_frequency: bool,
    /// In the order of [`WORDS`].
    shown: [Option<Pattern>; 2],
}

/// What is wanted of one block.
struct Block<'a> {
    labels: [(&'static str, &'a str); LABELS.len()],
    megahertz: Option<f64>,
    /// In the order of [`WORDS`].
    words: [&'a str; 2],
}

impl<'a> Block<'a> {
    /// `None` where it is not about a CPU.
    fn read(text: &'a str) -> Option<Block<'a>> {
        let mut block = Block {
            labels: LABELS.map(|(label, _)| (label, "")),
            megahertz: None,
            words: [""; 2],
        };
        let mut is_cpu = false;
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let (key, value) = (key.trim_end(), value.trim());
            is_cpu |= key == "processor";
            if let Some(at) = LABELS.iter().position(|(_, known)| *known == key) {
                block.labels[at].1 = value;
            }
            if let Some(at) = WORDS.iter().position(|(known, ..)| *known == key) {
                block.words[at] = value;
            }
            if key == "cpu MHz" {
                block.megahertz = value.parse().ok();
            }
        }
        is_cpu.then_some(block)
    }
}

impl CpuInfo {
    pub fn new(roots: &Roots, options: &Options, shows_frequency: bool) -> CpuInfo {
        let expressions = [&options.cpu_flags, &options.cpu_bugs];
        CpuInfo {
            cpuinfo: Source::new(roots.proc.join("cpuinfo")),
            shows_frequency,
            shown: expressions.map(|text| text.as_deref().map(Pattern::new)),
        }
    }

    pub fn write(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.cpuinfo.read()?;
        let help = "CPU information from /proc/cpuinfo.";
        let mut family = page.family("node_cpu_info", Kind::Gauge, help);
        let blocks = text.as_str().split("\n\n").filter_map(Block::read);
        let blocks: Vec<Block<'_>> = blocks.collect();
        for block in &blocks {
            family.sample(&block.labels, 1u64);
        }
        if self.shows_frequency {
            let help = "CPU frequency in hertz from /proc/cpuinfo.";
            let mut family = page.family("node_cpu_frequency_hertz", Kind::Gauge, help);
            for block in &blocks {
                let wanted = |(label, _): &(&str, &str)| ["core", "cpu", "package"].contains(label);
                let labels: Vec<(&str, &str)> =
                    block.labels.iter().copied().filter(wanted).collect();
                if let Some(megahertz) = block.megahertz {
                    family.sample(&labels, megahertz * 1e6);
                }
            }
        }
        let first = blocks.first().map_or([""; 2], |block| block.words);
        for ((words, shown), (_, family, label, help)) in
            first.iter().zip(&mut self.shown).zip(WORDS)
        {
            let mut family = page.family(family, Kind::Gauge, help);
            for word in words.split_ascii_whitespace() {
                if shown.as_mut().is_some_and(|shown| shown.matches(word)) {
                    family.sample(&[(label, word)], 1u64);
                }
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
                 cache size\t: 8192 KB\nphysical id\t: 0\ncore id\t\t: 3\ncpu MHz\t\t: 799.998\n\
                 flags\t\t: fpu aes avx\nbugs\t\t: mds itlb\npower management:\n\n\
                 processor\t: 1\n\nHardware\t: a board\n",
            ),
        ]);
        let mut options = Options::default();
        assert!(!collect(&mut Cpu::new(&roots, &options, true)).contains_key("node_cpu_info"));
        options.cpu_info = true;
        options.cpu_guest = false;
        options.cpu_flags = Some("^a".into());
        let pages = collect(&mut Cpu::new(&roots, &options, true));
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
        let labels = [("core", "3"), ("cpu", "0"), ("package", "0")];
        expect(&pages, "node_cpu_frequency_hertz", &labels, 799_998_000.0);
        assert_eq!(pages["node_cpu_frequency_hertz"].series.len(), 1);
        for flag in ["aes", "avx"] {
            expect(&pages, "node_cpu_flag_info", &[("flag", flag)], 1.0);
        }
        assert_eq!(pages["node_cpu_flag_info"].series.len(), 2);
        assert!(!pages.contains_key("node_cpu_bug_info"));
    }
}
