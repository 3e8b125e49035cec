//! Open connections to a container's ports, as its network namespace shows them.

use super::mind::Held;
use super::settings::{Check, Container};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Between two counts.
const PERIOD: Duration = Duration::from_millis(500);
/// Counts without a connection that end the wait: 3 s.
const QUIET: u32 = 6;

/// One count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub open: u64,
    /// Nothing has been open for long enough.
    pub quiet: bool,
}

/// Counts the connections of one run.
pub struct Watch {
    pid: Option<i64>,
    ports: BTreeSet<u16>,
    slots: Interval,
    n_quiet: u32,
}

impl Watch {
    pub fn new(pid: Option<i64>, ports: BTreeSet<u16>) -> Watch {
        let mut slots = interval(PERIOD);
        slots.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Watch {
            pid,
            ports,
            slots,
            n_quiet: 0,
        }
    }

    /// The next count. Cancel-safe.
    pub async fn next(&mut self) -> Count {
        self.slots.tick().await;
        // A process that has gone has no connections.
        let open = self.pid.map_or(0, |pid| established(pid, &self.ports));
        self.n_quiet = if open == 0 { self.n_quiet + 1 } else { 0 };
        Count {
            open,
            quiet: self.n_quiet > QUIET,
        }
    }
}

/// The ports on which it serves: published ones as the container sees them,
/// and those that its probes ask.
pub fn ports_of(container: &Container, held: &Held) -> BTreeSet<u16> {
    let shown = held.ports.iter();
    let bound = shown.filter_map(|(port, _)| port.strip_suffix("/tcp")?.parse().ok());
    let mut ports: BTreeSet<u16> = bound.collect();
    let is_own = |host: &str| !matches!(host, "" | "localhost" | "127.0.0.1" | "::1" | "[::1]");
    let shares_host = container.spec.network_mode.as_deref() == Some("host");
    let probes = &container.probes;
    for probe in [&probes.startup, &probes.readiness, &probes.liveness]
        .into_iter()
        .flatten()
    {
        if let Check::Http { host, port, .. } | Check::Tcp { host, port } = &probe.check
            && (shares_host || is_own(host))
        {
            ports.insert(*port);
        }
    }
    ports
}

/// Source: /proc/PID/net/tcp and tcp6 (state 01), local ports only.
fn established(pid: i64, ports: &BTreeSet<u16>) -> u64 {
    ["tcp", "tcp6"]
        .into_iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok())
        .map(|text| count(&text, ports))
        .sum()
}

fn count(table: &str, ports: &BTreeSet<u16>) -> u64 {
    let open = table.lines().skip(1).filter(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let port = words
            .next()
            .and_then(|local| local.rsplit_once(':'))
            .and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        let state = words.nth(1);
        state == Some("01") && port.is_some_and(|port| ports.contains(&port))
    });
    u64::try_from(open.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::count;
    use std::collections::BTreeSet;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0100007F:D431 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 3
   3: 0100007F:1F90 0100007F:D433 06 00000000:00000000 00:00000000 00000000     0        0 4
   4: 00000000000000000000000001000000:1F90 0:0 01 0:0 0:0 0 0 0 5
";

    #[test]
    fn established_connections_to_its_own_ports_count_and_nothing_else() {
        assert_eq!(count(TABLE, &BTreeSet::from([8080])), 2);
        assert_eq!(count(TABLE, &BTreeSet::from([54321])), 1);
        assert_eq!(count(TABLE, &BTreeSet::new()), 0);
        assert_eq!(count("", &BTreeSet::from([8080])), 0);
        assert_eq!(count("garbage\n : : 01\n", &BTreeSet::from([8080])), 0);
    }
}
