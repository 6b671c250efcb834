//! What can be measured: a variant here, a file beside this one. Benchmarks print tables and are never tests.

mod boots;
mod operator;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Boot and take down clusters in a row; fails if anything is left on the machine
    ///
    /// Other clusters of ours are told apart; what other programs mount or start in namespaces meanwhile counts as left.
    Boots(boots::Boots),
    /// The operator beside many runs: start, memory, and what a pass costs that has nothing to do
    ///
    /// Boots a control plane, and runs the operator that cargo has built as a process on this machine.
    Operator(operator::Operator),
}

pub(super) async fn run(bench: Bench) -> Result<ExitCode> {
    match bench {
        Bench::Boots(boots) => boots::run(boots).await,
        Bench::Operator(operator) => operator::run(operator).await,
    }
}
