//! The tests that need a node, on one cluster that they share: the one in KUBECONFIG, else one that is booted when the
//! first test runs. A test is an async function in a module here, and a line in that module's list.
//!
//! `cargo test -p sera-e2e --test node` runs all of them, with a part of a name those that have it, with `--list` none.

mod cluster;
mod company;
mod crash;
mod faults;
#[path = "../support/home.rs"]
mod home;
mod house;
mod operator;

use std::process::ExitCode;

use house::House;

fn main() -> ExitCode {
    House::open([cluster::TESTS, faults::TESTS, crash::TESTS, &operator::tests()].concat())
}
