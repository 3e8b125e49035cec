//! The control socket: HTTP over a unix socket, for the agent's own commands.

pub mod protocol;
pub mod serve;
