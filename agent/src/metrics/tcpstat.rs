//! `tcpstat` (off by default): TCP connections by state, and bytes that wait in
//! their queues. Sources: /proc/net/tcp and tcp6, proc(5) (absent where IPv6 is
//! off). The kernel prints a line per connection: on a host with many it is slow.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::source::{Source, Text};

/// States in the kernel's order, from 1.
const STATES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];

pub struct Tcpstat {
    ipv4: Source,
    ipv6: Source,
}

#[derive(Default)]
struct Sums {
    states: [u64; STATES.len()],
    /// Bytes.
    received: u64,
    /// Bytes.
    to_send: u64,
}

impl Tcpstat {
    pub fn new(roots: &Roots) -> Tcpstat {
        Tcpstat {
            ipv4: Source::new(roots.proc.join("net/tcp")),
            ipv6: Source::new(roots.proc.join("net/tcp6")),
        }
    }
}

impl Collector for Tcpstat {
    fn name(&self) -> &'static str {
        "tcpstat"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let mut sums = Sums::default();
        add(&mut sums, &self.ipv4.read()?)?;
        match self.ipv6.read() {
            Err(CollectError::Absent { .. }) => {}
            text => add(&mut sums, &text?)?,
        }
        let mut family = page.family(
            "node_tcp_connection_states",
            Kind::Gauge,
            "Number of connection states.",
        );
        for (state, count) in STATES.iter().zip(sums.states) {
            if count > 0 {
                family.sample(&[("state", state)], count);
            }
        }
        family.sample(&[("state", "rx_queued_bytes")], sums.received);
        family.sample(&[("state", "tx_queued_bytes")], sums.to_send);
        Ok(())
    }
}

/// Lines are `sl local remote st tx_queue:rx_queue …`, numbers hexadecimal.
fn add(sums: &mut Sums, text: &Text<'_>) -> Result<(), CollectError> {
    for line in text.as_str().lines().skip(1) {
        let mut words = line.split_ascii_whitespace().skip(3);
        let state = words.next().and_then(hexadecimal);
        let queues = words.next().and_then(|queues| queues.split_once(':'));
        let parsed = queues.and_then(|(tx, rx)| Some((state?, hexadecimal(tx)?, hexadecimal(rx)?)));
        let Some((state, to_send, received)) = parsed else {
            return Err(text.malformed(format!("{line:?} is no connection")));
        };
        sums.to_send = sums.to_send.saturating_add(to_send);
        sums.received = sums.received.saturating_add(received);
        // 12 (NEW_SYN_RECV) is a connection that is not there yet.
        let index = usize::try_from(state).ok().and_then(|n| n.checked_sub(1));
        if let Some(count) = index.and_then(|index| sums.states.get_mut(index)) {
            *count += 1;
        }
    }
    Ok(())
}

fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::Tcpstat;
    use crate::metrics::tests::{collect, expect, host};

    #[test]
    fn both_versions_are_summed_by_state() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let (_dir, roots) = host(&[
            (
                "proc/net/tcp",
                &format!(
                    "{head}   0: 0100007F:0016 00000000:0000 0A 00000000:00000001 00:0 0\n   \
                     1: 0100007F:0016 0100007F:D431 01 00000015:00000000 00:0 0\n"
                ),
            ),
            (
                "proc/net/tcp6",
                &format!("{head}   0: 0:0016 0:0 0A 00000000:00000010 00:0 0\n"),
            ),
        ]);
        let pages = collect(&mut Tcpstat::new(&roots));
        for (state, value) in [
            ("listen", 2.0),
            ("established", 1.0),
            ("rx_queued_bytes", 17.0),
            ("tx_queued_bytes", 21.0),
        ] {
            let labels = [("state", state)];
            expect(&pages, "node_tcp_connection_states", &labels, value);
        }
        assert_eq!(pages["node_tcp_connection_states"].series.len(), 4);
    }
}
