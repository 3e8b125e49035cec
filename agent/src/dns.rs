//! One resolver for every client; libc's getaddrinfo is never called.
//!
//! Answers come, in this order, from the name itself (an IP literal,
//! `localhost`), from the hosts file, from the name servers of resolv.conf.
//! Both files may be missing, appear late or change at any time: they are
//! looked at again at most once a second while all is well and at every lookup
//! while there is no name server, and the answers cached so far go with the old
//! version. It knows no ports and no services.
//!
//! Invariants: a lookup ends within [`DEADLINE`]; memory is bounded by
//! hickory's cache; no lock is held across an await.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, Resolver as Hickory};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// The longest a lookup takes, whatever resolv.conf says.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Cap on one question to one server, so that a second attempt fits into [`DEADLINE`].
const ATTEMPT: Duration = Duration::from_secs(2);
/// How often the two files are looked at while there is a name server.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Lookups in a row without an answer after which the connections to the servers are made anew.
const FAILURES: u32 = 3;
/// RFC 1035; resolv.conf has no place for another.
const PORT: u16 = 53;

/// Resolves names by DNS and the hosts file. Cloning shares it, cache included.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    files: Files,
    state: Mutex<State>,
}

/// Where the system says how to resolve.
struct Files {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    port: u16,
}

#[derive(Default)]
struct State {
    view: Option<Arc<View>>,
    /// The files as they were just before `view` was read.
    seen: [Option<Stamp>; 2],
    checked: Option<Instant>,
    failures: u32,
}

/// Both files, read and ready to answer.
struct View {
    hosts: Hosts,
    /// None when resolv.conf is missing or names no server; then says which.
    dns: Result<TokioResolver, Cause>,
}

/// What tells one version of a file from the next, links followed.
#[derive(PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    size: u64,
    target: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot resolve {name}")]
struct LookupError {
    name: String,
    source: Cause,
}

#[derive(Debug, Clone, thiserror::Error)]
enum Cause {
    #[error("not a host name: {0}")]
    Name(String),
    #[error("no such name, or it has no address")]
    Absent,
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("no name server: {0}")]
    NoServer(String),
    #[error("{0}")]
    Dns(String),
}

impl Resolver {
    /// Never fails: a missing resolv.conf is looked for again at each lookup.
    /// Names of this host come from /etc/hosts.
    pub fn new(resolv_conf: PathBuf) -> Resolver {
        Resolver::with_files(resolv_conf, "/etc/hosts".into())
    }

    /// As [`Resolver::new`], with another hosts file.
    pub fn with_files(resolv_conf: PathBuf, hosts: PathBuf) -> Resolver {
        Resolver::over(Files {
            resolv_conf,
            hosts,
            port: PORT,
        })
    }

    fn over(files: Files) -> Resolver {
        Resolver {
            shared: Arc::new(Shared {
                files,
                state: Mutex::default(),
            }),
        }
    }

    /// All addresses of `name`, IPv4 before IPv6. IP literals (IPv6 also in
    /// brackets) and `localhost` need no server.
    ///
    /// Errors name the name; their kind is `InvalidInput` (not a name),
    /// `NotFound` (the name does not exist or has no address), `TimedOut`
    /// ([`DEADLINE`] is over) or `Other` (no server, or it refused).
    pub async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if let Some(addresses) = known(name) {
            return Ok(addresses);
        }
        let answer = match tokio::time::timeout(DEADLINE, self.ask(name)).await {
            Ok(answer) => answer,
            Err(_) => Err(Cause::Deadline),
        };
        self.shared.account(&answer);
        answer.map_err(|source| {
            let kind = source.kind();
            let name = name.to_owned();
            io::Error::new(kind, LookupError { name, source })
        })
    }

    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, Cause> {
        let fqdn = Name::from_utf8(name).map_err(|error| Cause::Name(error.to_string()))?;
        if fqdn.iter().next().is_none() {
            return Err(Cause::Name("it is empty".into()));
        }
        let view = self.shared.view();
        let listed = view.listed(&fqdn);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let dns = view.dns.as_ref().map_err(Clone::clone)?;
        let found: Vec<IpAddr> = dns
            .lookup_ip(fqdn)
            .await
            .map_err(Cause::from)?
            .iter()
            .collect();
        if found.is_empty() {
            return Err(Cause::Absent);
        }
        Ok(found)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("resolv_conf", &self.shared.files.resolv_conf)
            .finish_non_exhaustive()
    }
}

/// What needs neither file: IP literals and localhost (RFC 6761, section 6.3).
fn known(name: &str) -> Option<Vec<IpAddr>> {
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    if let Ok(address) = bare.parse() {
        return Some(vec![address]);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next()?;
    last.eq_ignore_ascii_case("localhost")
        .then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

impl Shared {
    /// The current view, read anew where a file changed. Blocks for two stat
    /// calls, and two small reads after a change.
    fn view(&self) -> Arc<View> {
        let mut state = self.lock();
        let fresh = state.checked.is_some_and(|at| at.elapsed() < CHECK_EVERY);
        if let Some(view) = &state.view
            && view.dns.is_ok()
            && fresh
            && state.failures < FAILURES
        {
            return view.clone();
        }
        // Stamps first: a change between them and the reading is found next time.
        let seen = self.files.stamps();
        state.checked = Some(Instant::now());
        if let Some(view) = &state.view
            && state.seen == seen
            && state.failures < FAILURES
        {
            return view.clone();
        }
        let view = Arc::new(self.files.read());
        if state.view.is_some() {
            let path = self.files.resolv_conf.display();
            match &view.dns {
                Ok(_) => {
                    info!(%path, failures = state.failures, "resolver configuration read again")
                }
                Err(cause) => warn!(%path, error = %cause, "resolver has no name server"),
            }
        }
        state.view = Some(view.clone());
        state.seen = seen;
        state.failures = 0;
        view
    }

    /// Counts what speaks against the servers; a negative answer is an answer.
    fn account(&self, answer: &Result<Vec<IpAddr>, Cause>) {
        let mut state = self.lock();
        match answer {
            Err(Cause::Deadline | Cause::Dns(_)) => {
                state.failures = state.failures.saturating_add(1)
            }
            Ok(_) | Err(Cause::Absent) => state.failures = 0,
            Err(Cause::Name(_) | Cause::NoServer(_)) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn stamps(&self) -> [Option<Stamp>; 2] {
        [Stamp::of(&self.resolv_conf), Stamp::of(&self.hosts)]
    }

    fn read(&self) -> View {
        View {
            hosts: read_hosts(&self.hosts),
            dns: self.servers(),
        }
    }

    fn servers(&self) -> Result<TokioResolver, Cause> {
        let path = self.resolv_conf.display();
        let text = fs::read(&self.resolv_conf)
            .map_err(|error| Cause::NoServer(format!("cannot read {path}: {error}")))?;
        let (mut config, mut options) = parse_resolv_conf(text)
            .map_err(|error| Cause::NoServer(format!("{path} names none: {error}")))?;
        for connection in config
            .name_servers
            .iter_mut()
            .flat_map(|server| &mut server.connections)
        {
            connection.port = self.port;
        }
        options.timeout = options.timeout.clamp(Duration::from_millis(100), ATTEMPT);
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Asked by `View::listed`: hickory would still wait for DNS to give the other address family.
        options.use_hosts_file = ResolveHosts::Never;
        Hickory::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| Cause::NoServer(format!("cannot use {path}: {error}")))
    }
}

fn read_hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    let read = File::open(path).and_then(|file| hosts.read_hosts_conf(file));
    match read {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "cannot read hosts file");
        }
        Err(_) => debug!(path = %path.display(), "no hosts file"),
        Ok(()) => {}
    }
    hosts
}

impl View {
    /// What the hosts file says of exactly this name.
    fn listed(&self, name: &Name) -> Vec<IpAddr> {
        [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| {
                // The hosts file is read in lower case.
                let query = Query::query(name.to_lowercase(), kind);
                self.hosts.lookup_static_host(&query)
            })
            .flat_map(|lookup| {
                let addresses: Vec<IpAddr> = lookup
                    .answers()
                    .iter()
                    .filter_map(|record| record.data.ip_addr())
                    .collect();
                addresses
            })
            .collect()
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let file = fs::metadata(path).ok()?;
        Some(Stamp {
            device: file.dev(),
            inode: file.ino(),
            modified: (file.mtime(), file.mtime_nsec()),
            size: file.len(),
            target: fs::read_link(path).ok(),
        })
    }
}

impl Cause {
    fn kind(&self) -> io::ErrorKind {
        match self {
            Cause::Name(_) => io::ErrorKind::InvalidInput,
            Cause::Absent => io::ErrorKind::NotFound,
            Cause::Deadline => io::ErrorKind::TimedOut,
            Cause::NoServer(_) | Cause::Dns(_) => io::ErrorKind::Other,
        }
    }
}

impl From<NetError> for Cause {
    fn from(error: NetError) -> Cause {
        if error.is_no_records_found() {
            Cause::Absent
        } else {
            Cause::Dns(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
