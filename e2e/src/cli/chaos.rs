//! `cargo e2e chaos`: which trials are made. What they are is in the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use sera_e2e::chaos::{self, Options, Trial, When};

/// What to try.
#[derive(Debug, Args)]
pub(crate) struct Chaos {
    /// The first seed; may be given several times
    #[arg(long, default_values_t = [1])]
    seed: Vec<u64>,
    /// How many seeds from there on
    #[arg(long, default_value_t = 16)]
    runs: u64,
    /// Kill the operator at this call alone; may be given several times
    #[arg(long, value_name = "NUMBER")]
    call: Vec<u64>,
    /// With --call: kill it when the call was answered, and not before
    #[arg(long, requires = "call")]
    after: bool,
    /// Kill the operator at each call that an undisturbed run makes, before and after it: a trial each
    #[arg(long)]
    every_call: bool,
    /// So many runs besides, from the first seed on, whose Jobs wait for a stand-in of Kueue, which admits them and takes them back
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    queue: u64,
    /// How many trials go on at once
    #[arg(long, default_value_t = 8, value_name = "COUNT")]
    at_once: usize,
    /// Restart the API server every so many seconds
    #[arg(long, value_name = "SECONDS")]
    restart_every: Option<u64>,
    /// Run the programs on a node with containers (root only), and not a model of them: a minute a trial, and at most 63 of them
    #[arg(long)]
    on_a_node: bool,
    /// With --on-a-node: freeze kubelet for a minute, every so many seconds
    #[arg(long, value_name = "SECONDS", requires = "on_a_node")]
    freeze_every: Option<u64>,
    /// Where the logs of trials are kept in which something was wrong
    #[arg(long, default_value = "target/chaos", value_name = "FOLDER")]
    logs: PathBuf,
}

pub(super) async fn run(chaos: Chaos) -> Result<ExitCode> {
    let when = if chaos.after { When::After } else { When::Before };
    let from_each = |count: u64| chaos.seed.iter().flat_map(move |first| *first..first.saturating_add(count));
    let seeds = from_each(chaos.runs).map(Trial::Seed).chain(from_each(chaos.queue).map(Trial::Queue));
    let options = Options {
        trials: seeds.chain(chaos.call.into_iter().map(|call| Trial::Call(call, when))).collect(),
        every_call: chaos.every_call,
        at_once: chaos.at_once.max(1),
        restart_every: chaos.restart_every.map(Duration::from_secs),
        on_a_node: chaos.on_a_node,
        freeze_every: chaos.freeze_every.map(Duration::from_secs),
        folder: chaos.logs,
    };
    let began = Instant::now();
    let report = Box::pin(chaos::run(&options)).await?;
    println!("\n{report}\n{:.0} s by the clock, {} at once", began.elapsed().as_secs_f32(), options.at_once);
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
