//! `sockstat`: sockets in use by protocol. Sources: /proc/net/sockstat and
//! sockstat6 (absent where IPv6 is off). `mem` counts pages and is shown in
//! bytes as well.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page, push_name};
use crate::metrics::source::Source;

pub struct Sockstat {
    ipv4: Source,
    ipv6: Source,
    /// Bytes.
    page_size: u64,
}

impl Sockstat {
    pub fn new(roots: &Roots) -> Sockstat {
        Sockstat {
            ipv4: Source::of_one_piece(roots.proc.join("net/sockstat")),
            ipv6: Source::of_one_piece(roots.proc.join("net/sockstat6")),
            page_size: page_size(),
        }
    }
}

impl Collector for Sockstat {
    fn name(&self) -> &'static str {
        "sockstat"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        write(page, &mut self.ipv4, self.page_size)?;
        match write(page, &mut self.ipv6, self.page_size) {
            Err(CollectError::Absent { .. }) => Ok(()),
            result => result,
        }
    }
}

/// Lines are `TCP: inuse 4 orphan 0 …`; the first is `sockets: used 229`.
fn write(page: &mut Page, source: &mut Source, page_size: u64) -> Result<(), CollectError> {
    let text = source.read()?;
    for line in text.as_str().lines() {
        let Some((protocol, rest)) = line.split_once(':') else {
            return Err(text.malformed(format!("{line:?} has no colon")));
        };
        let mut words = rest.split_ascii_whitespace();
        while let Some(field) = words.next() {
            let value: u64 = text.number(words.next())?;
            if protocol == "sockets" {
                page.family(
                    "node_sockstat_sockets_used",
                    Kind::Gauge,
                    "Number of IPv4 sockets in use.",
                )
                .bare(value);
                continue;
            }
            write_one(page, protocol, field, value);
            if field == "mem" {
                write_one(page, protocol, "mem_bytes", value.saturating_mul(page_size));
            }
        }
    }
    Ok(())
}

fn write_one(page: &mut Page, protocol: &str, field: &str, value: u64) {
    let mut name = "node_sockstat_".to_owned();
    push_name(&mut name, protocol);
    name.push('_');
    push_name(&mut name, field);
    let help = format!("Number of {protocol} sockets in state {field}.");
    page.family(&name, Kind::Gauge, &help).bare(value);
}

/// AT_PAGESZ of the auxiliary vector, getauxval(3): pairs of words, type and value.
fn page_size() -> u64 {
    const AT_PAGESZ: usize = 6;
    const WORD: usize = size_of::<usize>();
    let auxv = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let words: Vec<usize> = auxv
        .as_chunks::<WORD>()
        .0
        .iter()
        .map(|bytes| usize::from_ne_bytes(*bytes))
        .collect();
    words
        .as_chunks::<2>()
        .0
        .iter()
        .find(|[kind, _]| *kind == AT_PAGESZ)
        .map_or(4096, |[_, value]| *value as u64)
}

#[cfg(test)]
mod tests {
    use super::{Sockstat, page_size};
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn memory_is_shown_in_pages_and_bytes_and_ipv6_may_be_off() {
        let (_dir, roots) = host(&[(
            "proc/net/sockstat",
            "sockets: used 229\nTCP: inuse 4 orphan 0 tw 4 alloc 17 mem 3\nFRAG: inuse 0 memory 5\n",
        )]);
        let pages = collect(&mut Sockstat::new(&roots));
        assert_eq!(pages.len(), 9);
        expect(&pages, "node_sockstat_sockets_used", &[], 229.0);
        expect(&pages, "node_sockstat_TCP_mem", &[], 3.0);
        let bytes = (3 * page_size()) as f64;
        expect(&pages, "node_sockstat_TCP_mem_bytes", &[], bytes);
        expect(&pages, "node_sockstat_FRAG_memory", &[], 5.0);
    }

    #[test]
    fn the_page_size_is_one_that_linux_has() {
        assert!([4096, 16_384, 65_536].contains(&page_size()));
    }
}
