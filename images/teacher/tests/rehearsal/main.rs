//! The program, as it is started and asked over HTTP by clients that are written here and that carry out its commands for real.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod faults;
mod load;
mod peers;
mod protocol;
mod rollouts;
mod support;
mod wordings;
