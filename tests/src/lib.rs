pub mod foreign_root;
pub mod name_server;
pub mod program;
