//! The ring of ranks: its arithmetic with threads as ranks, over real sockets, and its end with processes as ranks, killed and stopped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod arithmetic;
mod lost;
mod meeting;
mod training;
mod world;
