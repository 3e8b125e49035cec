//! One resolver for every client; libc's getaddrinfo is never called.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Resolves names by DNS and /etc/hosts. Cloning shares it.
#[derive(Clone)]
pub struct Resolver {}

impl Resolver {
    /// Never fails: a missing resolv.conf is looked for again at each lookup.
    pub fn new(_resolv_conf: PathBuf) -> Resolver {
        todo!()
    }

    /// All addresses of `name`, IP literals included. Deadline 5 s.
    pub async fn lookup(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
        todo!()
    }
}
