//! The program, as a driver uses it: real commands on a real kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod bare;
mod commands;
mod editor;
mod escapes;
mod files;
mod git;
mod installs;
mod neighbours;
mod program;
mod session;
mod support;
