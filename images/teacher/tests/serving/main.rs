//! `sera-teacher serve`, as it is started and asked over HTTP, with models so small that they are written here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod bucket;
#[path = "../rehearsal/support/http.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod http;
mod load;
mod models;
mod program;
mod protocol;
mod refusals;
