//! `udp_queues`: bytes that wait in UDP sockets. Source: /proc/net/udp and
//! udp6, column `tx_queue:rx_queue` in hexadecimal, summed over the sockets.
//!
//! A host without IPv6 has only the first.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::{Source, Text};

/// Position of `tx_queue:rx_queue` in a socket's line.
const QUEUES: usize = 4;

pub struct UdpQueues {
    v4: Source,
    v6: Source,
}

impl UdpQueues {
    pub fn new(roots: &Roots) -> UdpQueues {
        UdpQueues {
            v4: Source::of_short_lines(roots.proc.join("net/udp")),
            v6: Source::of_short_lines(roots.proc.join("net/udp6")),
        }
    }
}

impl Collector for UdpQueues {
    fn name(&self) -> &'static str {
        "udp_queues"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let mut family = page.family(
            "node_udp_queues",
            Kind::Gauge,
            "Number of allocated memory in the kernel for UDP datagrams in bytes.",
        );
        let mut absent = None;
        let mut any = false;
        for (ip, source) in [("v4", &mut self.v4), ("v6", &mut self.v6)] {
            let text = match source.read() {
                Ok(text) => text,
                Err(error @ CollectError::Absent { .. }) => {
                    absent = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            any = true;
            let (transmit, receive) = sum(&text)?;
            family.sample(&[("ip", ip), ("queue", "rx")], receive);
            family.sample(&[("ip", ip), ("queue", "tx")], transmit);
        }
        match absent {
            Some(error) if !any => Err(error),
            _ => Ok(()),
        }
    }
}

fn sum(text: &Text<'_>) -> Result<(u64, u64), CollectError> {
    let mut sums = (0u64, 0u64);
    for line in text.as_str().lines().skip(1) {
        let queues = line
            .split_ascii_whitespace()
            .nth(QUEUES)
            .and_then(|word| word.split_once(':'))
            .and_then(|(transmit, receive)| {
                let transmit = u64::from_str_radix(transmit, 16).ok()?;
                Some((transmit, u64::from_str_radix(receive, 16).ok()?))
            });
        let Some((transmit, receive)) = queues else {
            return Err(text.malformed("a socket without queues"));
        };
        sums.0 = sums.0.saturating_add(transmit);
        sums.1 = sums.1.saturating_add(receive);
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::UdpQueues;
    use crate::metrics::collector::{CollectError, Collector};
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{collect, expect, host};

    const HEADER: &str = "sl  local_address rem_address   st tx_queue rx_queue tr\n";

    #[test]
    fn sockets_add_up_and_a_host_without_ipv6_shows_v4() {
        let line = "0: 00000000:0016 00000000:0000 0A 00000015:0000000a 00:0 0\n";
        let (_dir, roots) = host(&[("proc/net/udp", &format!("{HEADER}{line}{line}"))]);
        let pages = collect(&mut UdpQueues::new(&roots));
        assert_eq!(pages["node_udp_queues"].series.len(), 2);
        let labels = [("ip", "v4"), ("queue", "tx")];
        expect(&pages, "node_udp_queues", &labels, 42.0);
        let labels = [("ip", "v4"), ("queue", "rx")];
        expect(&pages, "node_udp_queues", &labels, 20.0);
    }

    #[test]
    fn neither_file_is_absent_and_a_broken_line_is_an_error() {
        let (_dir, roots) = host(&[]);
        let result = UdpQueues::new(&roots).update(&mut Page::default());
        assert!(matches!(result, Err(CollectError::Absent { .. })));
        let (_dir, roots) = host(&[("proc/net/udp", &format!("{HEADER}0: x y z 12\n"))]);
        let result = UdpQueues::new(&roots).update(&mut Page::default());
        assert!(matches!(result, Err(CollectError::Parse { .. })));
    }
}
