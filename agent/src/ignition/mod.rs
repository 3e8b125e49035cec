//! What puts the agent on a new host, as text: Ignition, Butane, cloud-config.
//!
//! ```text
//! Host ── plan ─→ Plan: files, links, units ──┬─ json ─────────→ Ignition 3.3.0, the pointer to one
//!          │                                  ├─ butane ───────→ Butane, variant flatcar 1.0.0
//!        units (embedded from systemd/)       └─ cloud_config ─→ coreos-cloudinit
//! ```
//!
//! All of it is pure: who calls reads files and knows the config. Invariants:
//! equal input gives equal bytes; every form puts the same files with the same
//! bytes on the host, whether compressed or not. What a host needs and why:
//! ignition/README.md.

mod butane;
mod cloud_config;
mod gzip;
mod json;
mod plan;
mod units;
mod yaml;

#[cfg(test)]
mod tests;

pub use butane::butane;
pub use cloud_config::{CloudConfigError, cloud_config};
pub use json::{ignition, pointer};
pub use plan::{
    Contents, DropIn, File, Host, Plan, PlanError, Program, Remote, Sha512, Socket, State, Unit,
    checked_url, plan,
};

/// What EC2 takes as user-data, before base64. Unit: bytes.
/// Source: the EC2 user guide, "User data must be limited to 16 KB".
pub const USER_DATA: usize = 16_384;
