//! What the cross-process tests share: the real agent in a place of its own, and its peers.

pub mod agent;
pub mod daemon;
pub mod file_server;
pub mod foreign_root;
pub mod forward;
pub mod http;
pub mod ignition;
pub mod metadata;
pub mod name_server;
pub mod namespace;
pub mod own;
pub mod program;
pub mod proxy;
pub mod receiver;
pub mod systemd_host;
pub mod wait;
pub mod yaml;
