//! `sera-rollout verify`: its numbers beside Python's, the holes of each measure, what must hold for every pair, and the program as its users run it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod holes;
mod oracle;
mod program;
mod properties;
#[path = "../support/rollouts.rs"]
mod rollouts;
mod store;
mod support;
