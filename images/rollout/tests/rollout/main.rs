//! `sera-rollout rollout` and `evaluate`, and what comes after rollouts, run as users run it: the real program, real sandboxes, the real git, and a
//! scripted teacher over HTTP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod bytes;
mod course;
mod display;
#[allow(dead_code, reason = "unit tests and the bench use the rest of it")]
#[path = "../support/endpoint.rs"]
mod endpoint;
mod evaluation;
mod faults;
mod interruption;
mod limits;
mod rehearsal;
mod stores;
mod support;
mod surroundings;
mod text;
