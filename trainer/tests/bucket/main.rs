//! The program trains over a real S3-compatible server: to the same weights as in a folder, whatever happens to it, to the line and to the server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod faults;
#[path = "../fixture/mod.rs"]
mod fixture;
mod killed;
mod support;
mod whole;
