//! x

pub mod git_server;
