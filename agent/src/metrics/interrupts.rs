//! `interrupts` (off by default): interrupts per line and CPU. Source:
//! /proc/interrupts, proc(5). Costs a series per line and CPU.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::options::Options;
use crate::metrics::pattern::Sieve;
use crate::metrics::source::Source;

pub struct Interrupts {
    interrupts: Source,
    /// Of `TYPE;INFO;DEVICES`.
    shown: Sieve,
    shows_zeros: bool,
}

impl Interrupts {
    pub fn new(roots: &Roots, options: &Options) -> Interrupts {
        Interrupts {
            interrupts: Source::new(roots.proc.join("interrupts")),
            shown: Sieve::new(&options.interrupts),
            shows_zeros: options.interrupts_zeros,
        }
    }
}

impl Collector for Interrupts {
    fn name(&self) -> &'static str {
        "interrupts"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let text = self.interrupts.read()?;
        let mut lines = text.as_str().lines();
        let cpus = lines
            .next()
            .map_or(0, |head| head.split_ascii_whitespace().count());
        let mut family = page.family("node_interrupts_total", Kind::Counter, "Interrupt details.");
        for line in lines {
            let Some((kind, rest)) = line.split_once(':') else {
                continue;
            };
            let kind = kind.trim_start();
            let words: Vec<&str> = rest.split_ascii_whitespace().collect();
            // ERR and MIS are counted once for all CPUs and have no text.
            if words.len() <= cpus {
                continue;
            }
            let (counts, words) = words.split_at(cpus);
            let (info, devices) = match words {
                [info, devices @ ..] if kind.parse::<u64>().is_ok() => {
                    ((*info).to_owned(), devices.join(" "))
                }
                _ => (words.join(" "), String::new()),
            };
            if !self.shown.takes(&format!("{kind};{info};{devices}")) {
                continue;
            }
            for (cpu, count) in counts.iter().enumerate() {
                let count: u64 = text.number(Some(count))?;
                if count == 0 && !self.shows_zeros {
                    continue;
                }
                let labels = [
                    ("cpu", &*cpu.to_string()),
                    ("devices", &devices),
                    ("info", &info),
                    ("type", kind),
                ];
                family.sample(&labels, count);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Interrupts;
    use crate::metrics::options::{Filter, Options};
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn a_numbered_line_names_its_devices_and_others_only_what_they_are() {
        let (_dir, roots) = host(&[(
            "proc/interrupts",
            "     CPU0   CPU1\n 16:  5  6  IO-APIC-fasteoi   usb1, mmc0\n\
             NMI:  7  8   Non-maskable interrupts\nERR:  0\n",
        )]);
        let pages = collect(&mut Interrupts::new(&roots, &Options::default()));
        assert_eq!(pages["node_interrupts_total"].series.len(), 4);
        for (cpu, devices, info, kind, count) in [
            ("1", "usb1, mmc0", "IO-APIC-fasteoi", "16", 6.0),
            ("0", "", "Non-maskable interrupts", "NMI", 7.0),
        ] {
            let labels = [
                ("cpu", cpu),
                ("devices", devices),
                ("info", info),
                ("type", kind),
            ];
            expect(&pages, "node_interrupts_total", &labels, count);
        }
    }

    #[test]
    fn lines_and_zeros_can_be_left_out() {
        let (_dir, roots) = host(&[(
            "proc/interrupts",
            "     CPU0   CPU1\n 16:  5  0  IO-APIC-fasteoi   usb1\nNMI:  7  8   NMI\n",
        )]);
        let options = Options {
            interrupts: Filter {
                include: Some("^16;IO-APIC-fasteoi;usb".into()),
                exclude: None,
            },
            interrupts_zeros: false,
            ..Options::default()
        };
        let pages = collect(&mut Interrupts::new(&roots, &options));
        let series = &pages["node_interrupts_total"].series;
        assert_eq!(series.values().collect::<Vec<_>>(), [&5.0]);
    }
}
