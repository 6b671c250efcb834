//! What can be measured: a variant here, a file beside this one. Benchmarks print tables and are never tests.

mod active;
mod again;
mod boots;
mod drain;
mod drivers;
mod idle;
mod images;
mod metrics;
mod operator;
mod peers;
mod process;
mod said;
mod settled;

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
    /// The operator without a run, and beside many that are through: start, memory, and what a pass costs that has nothing to do
    ///
    /// Boots a control plane, and runs the operator that cargo has built as a process on this machine.
    Operator(operator::Operator),
    /// The operator beside many runs at work: from a run to its first Job, what it costs to look after all of them, and how many statuses it writes
    ///
    /// Boots a control plane. What a node would say of pods is said for it, as kwok does: snapshots are taken at once, drivers of rollouts run, do not
    /// end, and have news whenever they are asked. The operator finds them by names of its own: root, or namespaces that users may have.
    Active(active::Active),
    /// How many samples a second the operator gets through, when rollouts take no time
    ///
    /// Boots a control plane; pods and their programs are played, as `cargo e2e chaos` does it, and the operator is the real one.
    Drain(drain::Drain),
    /// The operator and Kubeflow Trainer's controller, each beside as many objects that are held: memory, processor, requests
    ///
    /// Boots a control plane. Trainer's controller is built from its Go module the first time, which takes minutes.
    Peers(peers::Peers),
    /// How large each image is, and how long a pod takes from its creation to its program's first word
    ///
    /// Boots a cluster with a node. The images are made of the programs that cargo has built.
    Images(images::Images),
}

pub(super) async fn run(bench: Bench) -> Result<ExitCode> {
    match bench {
        Bench::Boots(boots) => boots::run(boots).await,
        Bench::Operator(operator) => operator::run(operator).await,
        Bench::Active(active) => active::run(active).await,
        Bench::Drain(drain) => drain::run(drain).await,
        Bench::Peers(peers) => peers::run(peers).await,
        Bench::Images(images) => images::run(images).await,
    }
}
