//! `sera-rollout snapshot`, run as its users run it: the real program, the real git, real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod contents;
mod failures;
mod interruption;
mod stores;
mod style;
mod submodules;
mod support;
mod transports;
