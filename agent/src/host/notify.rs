//! sd_notify(3): what systemd hears of us. Silent where NOTIFY_SOCKET is unset.
//!
//! One datagram per state, to the socket that the service manager named at
//! start. A datagram that cannot be sent within [`PATIENCE`] is given up with
//! a warning: a service manager that is stuck must not stop the agent.

use rustix::time::{ClockId, clock_gettime};
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;
use tracing::warn;

/// The longest that one notification may block. The queue holds some hundred
/// datagrams, so it blocks only when the service manager does not read at all.
const PATIENCE: Duration = Duration::from_secs(1);

/// The notify socket of this process.
#[derive(Debug)]
pub struct Notify {
    target: Option<Target>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Target {
    socket: UnixDatagram,
    address: SocketAddr,
}

/// The variables that a service manager sets, as they were found.
#[derive(Debug, Default)]
struct Variables {
    notify_socket: Option<OsString>,
    watchdog_usec: Option<String>,
    watchdog_pid: Option<String>,
}

impl Notify {
    /// Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID once. A value that
    /// cannot be used is warned of and ignored.
    pub fn from_env() -> Notify {
        let variables = Variables {
            notify_socket: env::var_os("NOTIFY_SOCKET"),
            watchdog_usec: env::var("WATCHDOG_USEC").ok(),
            watchdog_pid: env::var("WATCHDOG_PID").ok(),
        };
        Notify::from_variables(variables, process::id())
    }

    fn from_variables(variables: Variables, own_pid: u32) -> Notify {
        let target = variables
            .notify_socket
            .filter(|name| !name.is_empty())
            .and_then(|name| match Target::open(&name) {
                Ok(target) => Some(target),
                Err(error) => {
                    warn!(socket = %name.display(), %error, "cannot use NOTIFY_SOCKET");
                    None
                }
            });
        let for_us = match &variables.watchdog_pid {
            None => true,
            Some(pid) => pid.parse() == Ok(own_pid),
        };
        let watchdog = variables
            .watchdog_usec
            .filter(|_| for_us)
            .and_then(|usec| usec.parse().ok())
            .filter(|usec| *usec > 0)
            .map(Duration::from_micros);
        Notify { target, watchdog }
    }

    /// The service is up: every listener accepts.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// RELOADING=1 with MONOTONIC_USEC, as Type=notify-reload wants it; followed by `ready`.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The service begins to stop.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for `systemctl status`. Line breaks become spaces: a new line
    /// would start another field.
    pub fn status(&self, text: &str) {
        let line = text.replace(['\n', '\r'], " ");
        self.send(&format!("STATUS={line}"));
    }

    /// Feeds the watchdog, if there is one for us.
    pub fn watchdog(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// Asks systemd to kill and restart us at once (WATCHDOG=trigger).
    pub fn watchdog_trigger(&self) {
        self.send("WATCHDOG=trigger");
    }

    /// How often to feed the watchdog (a third of WATCHDOG_USEC), none when it
    /// is off or meant for another pid.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|period| period / 3)
    }

    fn send(&self, state: &str) {
        let Some(target) = &self.target else { return };
        if let Err(error) = target.send(state) {
            let state = state.lines().next().unwrap_or_default();
            warn!(state, %error, "cannot notify the service manager");
        }
    }
}

impl Target {
    fn open(name: &OsStr) -> io::Result<Target> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "neither an absolute path nor an abstract name (@)",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Target { socket, address })
    }

    fn send(&self, state: &str) -> io::Result<()> {
        self.socket.send_to_addr(state.as_bytes(), &self.address)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Notify, Variables};
    use rustix::time::{ClockId, clock_gettime};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::Duration;
    use tempfile::TempDir;

    fn told(manager: &UnixDatagram) -> String {
        manager
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut packet = [0; 4096];
        let n = manager.recv(&mut packet).unwrap();
        String::from_utf8(packet[..n].to_vec()).unwrap()
    }

    fn notify(socket: &str) -> Notify {
        let variables = Variables {
            notify_socket: Some(socket.into()),
            watchdog_usec: Some("30000000".into()),
            ..Variables::default()
        };
        Notify::from_variables(variables, 1)
    }

    #[test]
    fn each_state_is_one_datagram_in_systemds_words() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = notify(path.to_str().unwrap());
        notify.ready();
        assert_eq!(told(&manager), "READY=1");
        notify.stopping();
        assert_eq!(told(&manager), "STOPPING=1");
        notify.watchdog();
        assert_eq!(told(&manager), "WATCHDOG=1");
        notify.watchdog_trigger();
        assert_eq!(told(&manager), "WATCHDOG=trigger");
        notify.status("3 containers\nREADY=1");
        assert_eq!(told(&manager), "STATUS=3 containers READY=1");
    }

    #[test]
    fn reloading_carries_the_monotonic_clock() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let before = clock_gettime(ClockId::Monotonic).tv_sec * 1_000_000;
        notify(path.to_str().unwrap()).reloading();
        let told = told(&manager);
        let usec = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let usec: i64 = usec.parse().unwrap();
        assert!((before..before + 60_000_000).contains(&usec), "{usec}");
    }

    #[test]
    fn an_abstract_socket_is_reached() {
        let name = format!("agent-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        notify(&format!("@{name}")).ready();
        assert_eq!(told(&manager), "READY=1");
    }

    #[test]
    fn without_a_usable_socket_nothing_happens() {
        for variables in [
            Variables::default(),
            Variables {
                notify_socket: Some("relative".into()),
                ..Variables::default()
            },
            Variables {
                notify_socket: Some("/nonexistent/notify".into()),
                ..Variables::default()
            },
        ] {
            let notify = Notify::from_variables(variables, 1);
            notify.ready();
            notify.watchdog();
            assert_eq!(notify.watchdog_interval(), None);
        }
    }

    #[test]
    fn the_watchdog_is_fed_three_times_a_period_if_it_is_ours() {
        for (usec, pid, expected) in [
            (Some("30000000"), None, Some(10)),
            (Some("30000000"), Some("7"), Some(10)),
            (Some("30000000"), Some("8"), None),
            (Some("30000000"), Some("x"), None),
            (Some("0"), Some("7"), None),
            (Some("soon"), None, None),
            (None, Some("7"), None),
        ] {
            let variables = Variables {
                watchdog_usec: usec.map(Into::into),
                watchdog_pid: pid.map(Into::into),
                ..Variables::default()
            };
            let interval = Notify::from_variables(variables, 7).watchdog_interval();
            let expected = expected.map(Duration::from_secs);
            assert_eq!(interval, expected, "{usec:?} {pid:?}");
        }
    }
}
