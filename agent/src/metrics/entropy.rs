//! `entropy`: the kernel's random pool. Source: /proc/sys/kernel/random, random(4).

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::Source;

pub struct Entropy {
    available: Source,
    pool_size: Source,
}

impl Entropy {
    pub fn new(roots: &Roots) -> Entropy {
        let random = roots.proc.join("sys/kernel/random");
        Entropy {
            available: Source::of_one_piece(random.join("entropy_avail")),
            pool_size: Source::of_one_piece(random.join("poolsize")),
        }
    }
}

impl Collector for Entropy {
    fn name(&self) -> &'static str {
        "entropy"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        for (source, name, help) in [
            (
                &mut self.available,
                "node_entropy_available_bits",
                "Bits of available entropy.",
            ),
            (
                &mut self.pool_size,
                "node_entropy_pool_size_bits",
                "Bits of entropy pool.",
            ),
        ] {
            let text = source.read()?;
            let bits: u64 = text.number(text.as_str().split_ascii_whitespace().next())?;
            page.family(name, Kind::Gauge, help).bare(bits);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Entropy;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn available_and_pool_size_are_shown_in_bits() {
        let (_dir, roots) = host(&[
            ("proc/sys/kernel/random/entropy_avail", "255\n"),
            ("proc/sys/kernel/random/poolsize", "256\n"),
        ]);
        let pages = collect(&mut Entropy::new(&roots));
        expect(&pages, "node_entropy_available_bits", &[], 255.0);
        expect(&pages, "node_entropy_pool_size_bits", &[], 256.0);
    }
}
