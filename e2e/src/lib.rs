//! The end-to-end house: a real Kubernetes for tests (`cluster`), and what they need beside it. The tests themselves are
//! in `tests/`, the command line in `main.rs`.

pub mod ask;
pub mod chaos;
pub mod cluster;
pub mod demo;
pub mod images;
pub mod packages;
pub mod paths;
pub mod platform;
pub mod progress;
pub mod small_student;
mod unused;

pub use sera_git_server as git_server;
