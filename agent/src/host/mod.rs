//! The host around us: systemd's notify socket and handed-over listeners, roots of /proc and /sys.

pub mod boot;
mod holder;
pub mod notify;
pub mod roots;
pub mod sockets;
