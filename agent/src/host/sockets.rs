//! Listening sockets: handed over by systemd by name, else bound here.
//!
//! What is handed over is checked before it is used: a descriptor that is
//! closed, not a socket, or does not listen for streams is an error with the
//! unit setting to look at. A unix socket file is removed only when it is a
//! socket and nobody listens on it.

use super::holder;
use crate::listener::{Address, Listener};
use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, listen, socket_with,
};
use std::env;
use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process;

/// sd_listen_fds(3): the first descriptor handed over.
const FIRST_FD: RawFd = 3;
/// What systemd calls a descriptor without FileDescriptorName=.
const NAMELESS: &str = "unknown";
/// Connections that the kernel holds before they are accepted.
const BACKLOG: i32 = 1024;
/// Of unix sockets: the agent and its group.
const MODE: u32 = 0o660;
/// Of a directory made for a unix socket.
const PARENT_MODE: u32 = 0o755;

/// Sockets that systemd holds for us (LISTEN_FDS, LISTEN_FDNAMES), by descriptor name.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, Handed)>,
}

#[derive(Debug)]
enum Handed {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    #[error("cannot read {variable}: {value:?} is not a number")]
    Variable {
        variable: &'static str,
        value: String,
    },
    #[error("descriptor {fd} ({name}), handed over by the service manager, is not open")]
    Closed { fd: RawFd, name: String },
    #[error(
        "descriptor {fd} ({name}), handed over by the service manager, is not a listening TCP or unix stream socket: check ListenStream= and Accept=no of the socket unit"
    )]
    Kind { fd: RawFd, name: String },
    #[error("cannot take over descriptor {fd} ({name})")]
    Take {
        fd: RawFd,
        name: String,
        source: io::Error,
    },
    #[error("cannot listen on the socket {name} handed over by the service manager")]
    Listen { name: String, source: io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// `holder` is what /proc told: "node_exporter, pid 812".
    #[error("cannot listen on {address}: in use{}", holder.as_ref().map(|h| format!(" by {h}")).unwrap_or_default())]
    InUse {
        address: String,
        holder: Option<String>,
    },
    #[error("cannot listen on {address}")]
    Bind { address: String, source: io::Error },
}

/// The variables of sd_listen_fds(3), as they were found.
#[derive(Debug, Default)]
struct Variables {
    pid: Option<String>,
    fds: Option<String>,
    names: Option<String>,
}

impl Inherited {
    /// Takes them over, none when LISTEN_PID is another process. Call once and
    /// first thing in the process: the descriptors 3 and up are then systemd's.
    /// They are close-on-exec from here on, so no child gets them.
    pub fn from_env() -> Result<Inherited, InheritError> {
        let variables = Variables {
            pid: env::var("LISTEN_PID").ok(),
            fds: env::var("LISTEN_FDS").ok(),
            names: env::var("LISTEN_FDNAMES").ok(),
        };
        let mut inherited = Inherited::default();
        for (fd, name) in announced(&variables, process::id())? {
            let owned = own(fd, &name)?;
            let socket = Handed::check(owned).map_err(|error| error.about(fd, &name))?;
            inherited.sockets.push((name, socket));
        }
        Ok(inherited)
    }

    /// The listeners of that FileDescriptorName=, in order; a second call finds
    /// none. Needs the runtime.
    pub fn take(&mut self, name: &str) -> Result<Vec<Listener>, InheritError> {
        let (taken, left) = std::mem::take(&mut self.sockets)
            .into_iter()
            .partition(|(given, _)| given == name);
        self.sockets = left;
        let taken: Vec<(String, Handed)> = taken;
        taken
            .into_iter()
            .map(|(name, socket)| {
                socket
                    .listener()
                    .map_err(|source| InheritError::Listen { name, source })
            })
            .collect()
    }

    /// Names of what nobody took: a unit that hands over what no setting uses.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        self.sockets.iter().map(|(name, _)| name.as_str())
    }
}

/// Descriptors and their names that are meant for `own_pid`.
fn announced(variables: &Variables, own_pid: u32) -> Result<Vec<(RawFd, String)>, InheritError> {
    let (Some(pid), Some(fds)) = (&variables.pid, &variables.fds) else {
        return Ok(Vec::new());
    };
    let number = |variable, value: &String| {
        value.parse().map_err(|_| InheritError::Variable {
            variable,
            value: value.clone(),
        })
    };
    let pid: u32 = number("LISTEN_PID", pid)?;
    let n_fds: u32 = number("LISTEN_FDS", fds)?;
    if pid != own_pid {
        return Ok(Vec::new());
    }
    let mut names = variables.names.as_deref().unwrap_or_default().split(':');
    // No process has more descriptors than this (fs.nr_open); beyond it the first closed one is the error.
    let last = FIRST_FD.saturating_add(RawFd::try_from(n_fds).unwrap_or(RawFd::MAX));
    let announced = (FIRST_FD..last.min(1 << 20)).map(|fd| {
        let name = names.next().filter(|name| !name.is_empty());
        (fd, name.unwrap_or(NAMELESS).to_owned())
    });
    Ok(announced.collect())
}

/// Makes a number that the environment announced ours, close-on-exec.
fn own(fd: RawFd, name: &str) -> Result<OwnedFd, InheritError> {
    #![allow(unsafe_code)]
    let name = || name.to_owned();
    // SAFETY: the borrow only asks the kernel whether the number is open, and ends here.
    let flags = match fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) }) {
        Ok(flags) => flags,
        Err(_) => return Err(InheritError::Closed { fd, name: name() }),
    };
    // SAFETY: open (just asked), and by sd_listen_fds(3) this process is its
    // owner: nothing else in it knows the number, as `from_env` runs first and once.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&owned, flags | FdFlags::CLOEXEC).map_err(|errno| InheritError::Take {
        fd,
        name: name(),
        source: errno.into(),
    })?;
    Ok(owned)
}

/// Why a descriptor is not taken.
#[derive(Debug)]
enum Refusal {
    Kind,
    Io(io::Error),
}

impl Refusal {
    fn about(self, fd: RawFd, name: &str) -> InheritError {
        let name = name.to_owned();
        match self {
            Refusal::Kind => InheritError::Kind { fd, name },
            Refusal::Io(source) => InheritError::Take { fd, name, source },
        }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        match errno {
            Errno::NOTSOCK => Refusal::Kind,
            errno => Refusal::Io(errno.into()),
        }
    }
}

impl Handed {
    /// A listening stream socket of a family that we serve, made non-blocking.
    fn check(fd: OwnedFd) -> Result<Handed, Refusal> {
        if socket_type(&fd)? != SocketType::STREAM || !socket_acceptconn(&fd)? {
            return Err(Refusal::Kind);
        }
        let family = socket_domain(&fd)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        match family {
            AddressFamily::INET | AddressFamily::INET6 => Ok(Handed::Tcp(fd.into())),
            AddressFamily::UNIX => Ok(Handed::Unix(fd.into())),
            _ => Err(Refusal::Kind),
        }
    }

    fn listener(self) -> io::Result<Listener> {
        Ok(match self {
            Handed::Tcp(socket) => Listener::Tcp(tokio::net::TcpListener::from_std(socket)?),
            Handed::Unix(socket) => Listener::Unix(tokio::net::UnixListener::from_std(socket)?),
        })
    }
}

/// Binds, needs the runtime. TCP may take over the port of a predecessor whose
/// connections still fade (SO_REUSEADDR). A stale unix socket file is removed
/// first, a live one is `InUse`; its missing directories are made with mode
/// 0755, and the socket gets 0660 whatever the umask.
pub fn bind(address: &Address) -> Result<Listener, BindError> {
    let bound = match address {
        Address::Tcp(tcp) => bind_tcp(*tcp),
        Address::Unix(path) => bind_unix(path),
    };
    let source = match bound {
        Ok(listener) => return Ok(listener),
        Err(source) => source,
    };
    let text = address.to_string();
    Err(match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse {
            address: text,
            holder: holder::of(address, Path::new("/proc")),
        },
        _ => BindError::Bind {
            address: text,
            source,
        },
    })
}

fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Handed::Tcp(socket.into()).listener()
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    remove_stale(path)?;
    let socket = unix_socket()?;
    // The file takes the mode of the socket, less the umask: it is never wider
    // than MODE, not even before the second call.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(MODE))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    listen(&socket, BACKLOG)?;
    Handed::Unix(socket.into()).listener()
}

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// Makes `path` and its parents as far as missing. The umask does not count:
/// with UMask=0077 nobody else could reach the socket.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(PARENT_MODE))
}

/// Removes a socket file on which nobody listens. Errors: `AddrInUse` when
/// somebody does, `AlreadyExists` when it is no socket.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in the way",
        ));
    }
    // Non-blocking: a live socket with a full backlog says AGAIN, not nothing.
    match connect(&unix_socket()?, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(Errno::NOENT) => Ok(()),
        Ok(()) | Err(Errno::AGAIN) => Err(io::ErrorKind::AddrInUse.into()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests;
