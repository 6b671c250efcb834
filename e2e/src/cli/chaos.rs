//! `cargo e2e chaos`: which trials are made. What they are is in the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use sera_e2e::chaos::{self, FOUND, Named, Options, Trial, When};

/// How many seeds are tried where nothing else is asked for.
const RUNS: u64 = 16;

/// What to try.
#[derive(Debug, Args)]
pub(crate) struct Chaos {
    #[command(flatten)]
    seeds: Seeds,
    /// Kill the operator at this call alone; may be given several times
    #[arg(long, value_name = "NUMBER")]
    call: Vec<u64>,
    /// With --call: kill it when the call was answered, and not before
    #[arg(long, requires = "call")]
    after: bool,
    /// Kill the operator at each call that an undisturbed run makes, before and after it: a trial each
    #[arg(long)]
    every_call: bool,
    /// How many trials go on at once
    #[arg(long, default_value_t = 8, value_name = "COUNT")]
    at_once: usize,
    /// Restart the API server every so many seconds, beside the seeds that have it restarted
    #[arg(long, value_name = "SECONDS")]
    restart_every: Option<u64>,
    /// Run the programs on a node with containers (root only), and not a model of them: some minutes a trial
    #[arg(long)]
    on_a_node: bool,
    /// With --on-a-node: freeze kubelet for a minute, every so many seconds
    #[arg(long, value_name = "SECONDS", requires = "on_a_node")]
    freeze_every: Option<u64>,
    /// Where the logs of trials are kept in which something was wrong
    #[arg(long, default_value = "target/chaos", value_name = "FOLDER")]
    logs: PathBuf,
}

/// Which seeds.
#[derive(Debug, Args)]
struct Seeds {
    /// The first seed; may be given several times
    #[arg(long, default_values_t = [1])]
    seed: Vec<u64>,
    /// How many seeds from there on [default: 16; with --found: none]
    #[arg(long, value_name = "COUNT")]
    runs: Option<u64>,
    /// Those that have once found something, again: some eight minutes, since two of them wait for long
    #[arg(long)]
    found: bool,
    /// So many runs besides, from the first seed on, whose Jobs wait for a stand-in of Kueue, which admits them and takes them back
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    queue: u64,
}

impl Seeds {
    /// Those of them that have a name.
    fn named(&self) -> &'static [Named] {
        if self.found { &FOUND } else { &[] }
    }

    fn trials(&self) -> impl Iterator<Item = Trial> {
        let runs = self.runs.unwrap_or(if self.found { 0 } else { RUNS });
        let named = self.named().iter().map(|named| named.trial());
        named.chain(self.numbers_of(runs).map(Trial::Seed)).chain(self.numbers_of(self.queue).map(Trial::Queue))
    }

    /// So many seeds from each first one on.
    fn numbers_of(&self, count: u64) -> impl Iterator<Item = u64> {
        self.seed.iter().flat_map(move |first| *first..first.saturating_add(count))
    }
}

pub(super) async fn run(chaos: Chaos) -> Result<ExitCode> {
    let when = if chaos.after { When::After } else { When::Before };
    for Named { seed, found } in chaos.seeds.named() {
        println!("seed-{seed:<13} {found}");
    }
    let calls = chaos.call.into_iter().map(|call| Trial::Call(call, when));
    let mut trials: Vec<Trial> = chaos.seeds.trials().chain(calls).collect();
    // Those go last, and beside each other: all others would wait for the API server, too, which takes more time than all that befalls them.
    trials.sort_by_key(|trial| trial.restarts_the_server());
    let options = Options {
        trials,
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
