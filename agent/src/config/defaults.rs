//! What holds where the configuration says nothing. docs/config.md shows the
//! same values; a test compares them.

use crate::listener::Address;
use crate::supervise::Check;
use std::time::Duration;

/// Name of the forward input that is there without being configured.
pub const INPUT: &str = "docker";
/// Name of the output that is there as long as none is configured.
pub const OUTPUT: &str = "stdout";

pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

pub const STOP_GRACE_PERIOD: Duration = Duration::from_secs(30);
/// What a probe has where it says nothing of it.
pub struct ProbeDefault {
    period: Duration,
    pub timeout: Duration,
    failures: Failures,
}

enum Failures {
    InARow(u32),
    /// As many as fill this time.
    Filling(Duration),
}

pub const STARTUP: ProbeDefault = ProbeDefault {
    period: Duration::from_secs(2),
    timeout: Duration::from_secs(2),
    failures: Failures::Filling(Duration::from_secs(120)),
};
pub const READINESS: ProbeDefault = ProbeDefault {
    period: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    failures: Failures::InARow(3),
};
pub const LIVENESS: ProbeDefault = ProbeDefault {
    period: Duration::from_secs(10),
    timeout: Duration::from_secs(5),
    failures: Failures::InARow(3),
};
/// Each costs Docker some 40 ms of CPU.
const EXEC_PERIOD: Duration = Duration::from_secs(30);
pub const TIME_ZONE: &str = "UTC";
pub const CATCH_UP_WITHIN: Duration = Duration::from_secs(3600);
pub const JOB_HISTORY: usize = 10;

pub const PROBE_SUCCESSES: u32 = 1;

impl ProbeDefault {
    pub fn period(&self, check: &Check) -> Duration {
        match check {
            Check::Exec { .. } => self.period.max(EXEC_PERIOD),
            Check::Http { .. } | Check::Tcp { .. } | Check::Docker => self.period,
        }
    }

    pub fn failures(&self, check: &Check, period: Duration) -> u32 {
        match (&self.failures, check) {
            (Failures::Filling(time), _) => {
                let n = time.as_millis().div_ceil(period.as_millis().max(1));
                u32::try_from(n).unwrap_or(u32::MAX)
            }
            // Docker has counted already.
            (Failures::InARow(_), Check::Docker) => 1,
            (Failures::InARow(n), _) => *n,
        }
    }
}

/// bytes
pub const MAX_FRAME: u64 = 16 << 20;
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(60);
/// bytes
pub const CHUNK_SIZE: u64 = 16 << 20;
pub const MAX_CHUNKS: u32 = 64;
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(5);
pub const SYNC_INTERVAL: Duration = Duration::from_millis(100);
pub const ACK_TIMEOUT: Duration = Duration::from_secs(30);
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// All IPv4 addresses, as node_exporter's port is known.
pub fn metrics_listen() -> Vec<Address> {
    vec![Address::Tcp(([0, 0, 0, 0], 9100).into())]
}

/// Loopback only: a load balancer is a reason to say otherwise.
pub fn heartbeat_listen() -> Vec<Address> {
    vec![Address::Tcp(([127, 0, 0, 1], 8081).into())]
}
