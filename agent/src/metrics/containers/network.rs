//! A container's interfaces, from its main process's /proc/PID/net/dev.

use super::stats::{Interface, Traffic};

/// Not shown, as cAdvisor: loopback, and on host networks the ends of other containers' pairs.
const LEFT_OUT: [&str; 3] = ["lo", "veth", "docker"];

/// Reads /proc/PID/net/dev; proc_pid_net(5), "dev". A line that is not
/// understood is left out.
pub fn interfaces(text: &str) -> Vec<Interface> {
    text.lines().skip(2).filter_map(interface).collect()
}

fn interface(line: &str) -> Option<Interface> {
    // A name may hold a colon (an alias), the counters do not.
    let (name, counters) = line.rsplit_once(':')?;
    let name = name.trim();
    if LEFT_OUT.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let mut counters = counters.split_ascii_whitespace().map(str::parse);
    let mut traffic = || -> Option<Traffic> {
        let mut next = || counters.next()?.ok();
        let traffic = Traffic {
            bytes: next()?,
            packets: next()?,
            errors: next()?,
            dropped: next()?,
        };
        // fifo, frame or colls, compressed or carrier, multicast or compressed
        for _ in 0..4 {
            next()?;
        }
        Some(traffic)
    };
    Some(Interface {
        name: name.into(),
        received: traffic()?,
        sent: traffic()?,
    })
}

#[cfg(test)]
mod tests {
    use super::interfaces;

    #[test]
    fn only_the_containers_own_interfaces_are_shown() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame \
                    compressed multicast|bytes packets errs drop fifo colls carrier compressed\n\
                    \x20   lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n\
                    \x20 eth0:1316 16 1 2 3 4 5 6 465 7 8 9 10 11 12 13\n\
                    vethab12: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n\
                    short: 1 2 3\nnonsense\n";
        let found = interfaces(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].name, "eth0");
        let received = found[0].received;
        assert_eq!(
            [
                received.bytes,
                received.packets,
                received.errors,
                received.dropped
            ],
            [1316, 16, 1, 2]
        );
        let sent = found[0].sent;
        assert_eq!(
            [sent.bytes, sent.packets, sent.errors, sent.dropped],
            [465, 7, 8, 9]
        );
    }
}
