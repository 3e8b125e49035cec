//! Listening sockets: handed over by systemd by name, else bound here.

use crate::listener::{Address, Listener};
use std::io;

/// Sockets that systemd holds for us (LISTEN_FDS, LISTEN_FDNAMES), by descriptor name.
#[derive(Default)]
pub struct Inherited {}

impl Inherited {
    /// Takes them over. Call once, before any thread starts; clears the variables' effect for children.
    pub fn from_env() -> Inherited {
        todo!()
    }

    /// The listeners of that FileDescriptorName=, in order; a second call finds none.
    pub fn take(&mut self, _name: &str) -> Vec<Listener> {
        todo!()
    }
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

/// Binds; a stale unix socket file is removed first, a live one is InUse. Unix sockets get `mode` 0660.
pub fn bind(_address: &Address) -> Result<Listener, BindError> {
    todo!()
}
