//! The host around us: the system bus, systemd's notify socket and handed-over listeners, roots of
//! /proc and /sys.

pub mod boot;
pub mod bus;
pub mod cgroup;
mod holder;
pub mod notify;
pub mod roots;
pub mod sockets;
pub mod units;
pub mod witness;
