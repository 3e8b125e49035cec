//! The lines of /proc/net/rpc/nfs and nfsd: a keyword and numbers
//! (nfsstat(8), the kernel's net/sunrpc/stats.c).

use crate::metrics::collector::CollectError;
use crate::metrics::source::Text;
use std::collections::HashMap;

/// Numbers by keyword.
#[derive(Default)]
pub struct Lines<'a>(HashMap<&'a str, Vec<u64>>);

impl<'a> Lines<'a> {
    pub fn of(text: &'a Text<'_>) -> Result<Lines<'a>, CollectError> {
        let mut lines = HashMap::new();
        for line in text.as_str().lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else {
                continue;
            };
            // `th` goes on with seconds that are zero since Linux 2.6.30.
            let words = words.take_while(|word| !word.contains('.'));
            let numbers = words.map(|word| text.number(Some(word)));
            lines.insert(keyword, numbers.collect::<Result<Vec<u64>, _>>()?);
        }
        Ok(Lines(lines))
    }

    /// A number by keyword and column; 0 where the kernel does not print it, as node_exporter shows it.
    pub fn number(&self, keyword: &str, column: usize) -> u64 {
        let numbers = self.0.get(keyword);
        *numbers.and_then(|n| n.get(column)).unwrap_or(&0)
    }
}
