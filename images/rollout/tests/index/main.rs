//! The function index as `sera-rollout functions` shows it: of real files in every language, and of repositories with everything that is to be left
//! out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod ambiguity;
mod golden;
mod selection;
mod support;
