//! `tcpstat` (off by default): TCP connections by state, and bytes that wait in
//! their queues. Source: a dump of sock_diag(7) per address family; IPv6 where
//! /proc/net/tcp6 is there.
//!
//! Of a listening socket the kernel tells connections that wait to be accepted
//! as received, and how many may wait as to be sent; as node_exporter does, they
//! are added to the bytes.

use crate::host::roots::Roots;
use crate::metrics::collector::{CollectError, Collector};
use crate::metrics::exposition::{Kind, Page};
use crate::metrics::netlink::{Netlink, u32_at};
use std::io;
use std::path::PathBuf;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// struct inet_diag_req_v2.
const REQUEST: usize = 56;
/// Of it: the states that are asked for, those below one bit each.
const STATES_AT: usize = 4;
const ALL_STATES: u32 = 0xfff;
/// Where struct inet_diag_msg has the state and the queues.
const STATE_AT: usize = 1;
const RECEIVED_AT: usize = 56;
const TO_SEND_AT: usize = 60;

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
    netlink: Netlink,
    tcp6: PathBuf,
}

#[derive(Debug, Default, PartialEq)]
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
            netlink: Netlink::sockets(),
            tcp6: roots.proc.join("net/tcp6"),
        }
    }

    fn ask(&mut self, family: libc::c_int) -> Result<Sums, CollectError> {
        let mut question = [0; REQUEST];
        question[0] = family as u8;
        question[1] = libc::IPPROTO_TCP as u8;
        question[STATES_AT..STATES_AT + 4].copy_from_slice(&ALL_STATES.to_ne_bytes());
        let dumped = self.netlink.dump(SOCK_DIAG_BY_FAMILY, &question, add);
        dumped.map_err(|source| CollectError::Call {
            call: "sock_diag dump of TCP sockets",
            source,
        })
    }
}

impl Collector for Tcpstat {
    fn name(&self) -> &'static str {
        "tcpstat"
    }

    fn update(&mut self, page: &mut Page) -> Result<(), CollectError> {
        let mut families = vec![self.ask(libc::AF_INET)?];
        if self.tcp6.exists() {
            families.push(self.ask(libc::AF_INET6)?);
        }
        let mut family = page.family(
            "node_tcp_connection_states",
            Kind::Gauge,
            "Number of connection states.",
        );
        let sum = |of: &dyn Fn(&Sums) -> u64| families.iter().map(of).sum::<u64>();
        for (at, state) in STATES.iter().enumerate() {
            let count = sum(&|sums| sums.states[at]);
            if count > 0 {
                family.sample(&[("state", state)], count);
            }
        }
        let (received, to_send) = (sum(&|sums| sums.received), sum(&|sums| sums.to_send));
        family.sample(&[("state", "rx_queued_bytes")], received);
        family.sample(&[("state", "tx_queued_bytes")], to_send);
        Ok(())
    }
}

/// Adds one socket.
fn add(sums: &mut Sums, kind: u16, body: &[u8]) -> io::Result<()> {
    if kind != SOCK_DIAG_BY_FAMILY {
        return Ok(());
    }
    sums.received += u64::from(u32_at(body, RECEIVED_AT)?);
    sums.to_send += u64::from(u32_at(body, TO_SEND_AT)?);
    let index = usize::from(body[STATE_AT]).checked_sub(1);
    if let Some(count) = index.and_then(|index| sums.states.get_mut(index)) {
        *count += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{SOCK_DIAG_BY_FAMILY, Sums, Tcpstat, add};
    use crate::host::roots::Roots;
    use crate::metrics::collector::Collector;
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{Pages, collect, parse};
    use proptest::prelude::{any, proptest};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    fn states(pages: &Pages) -> impl Fn(&str) -> f64 + use<> {
        let family = &pages["node_tcp_connection_states"];
        assert_eq!(family.kind, "gauge");
        let states: Vec<(String, f64)> = family
            .series
            .iter()
            .map(|(labels, value)| (labels["state"].clone(), *value))
            .collect();
        move |state| {
            states
                .iter()
                .filter(|(s, _)| s == state)
                .map(|(_, n)| n)
                .sum()
        }
    }

    #[test]
    fn sockets_of_this_process_and_bytes_that_nobody_read_are_counted() {
        const SENT: usize = 70_001;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, _) = listener.accept().unwrap();
        client.write_all(&[1; SENT]).unwrap();
        let state = states(&collect(&mut Tcpstat::new(&Roots::default())));
        assert!(state("listen") >= 1.0 && state("established") >= 2.0);
        // In one of the two queues, as long as nobody reads.
        let queued = state("rx_queued_bytes") + state("tx_queued_bytes");
        assert!(queued >= SENT as f64, "{queued}");
    }

    #[test]
    fn a_host_without_ipv6_shows_ipv4() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let roots = Roots {
            proc: "/nowhere".into(),
            ..Roots::default()
        };
        let mut page = Page::default();
        Tcpstat::new(&roots).update(&mut page).unwrap();
        assert!(states(&parse(&page))("listen") >= 1.0);
    }

    #[test]
    fn a_socket_is_added_to_its_state_and_to_the_queues() {
        let mut body = [0; 72];
        body[1] = 10;
        body[56..60].copy_from_slice(&3u32.to_ne_bytes());
        body[60..64].copy_from_slice(&128u32.to_ne_bytes());
        let mut sums = Sums::default();
        add(&mut sums, SOCK_DIAG_BY_FAMILY, &body).unwrap();
        body[1] = 99; // a state that we do not know
        add(&mut sums, SOCK_DIAG_BY_FAMILY, &body).unwrap();
        assert_eq!((sums.received, sums.to_send), (6, 256));
        assert_eq!(sums.states, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_sums_or_an_error(body in any::<Vec<u8>>()) {
            let _ = add(&mut Sums::default(), SOCK_DIAG_BY_FAMILY, &body);
        }
    }
}
