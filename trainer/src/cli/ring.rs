//! `sera-trainer ring`: ranks sum numbers together, to see whether they reach each other, and how fast.

use std::time::{Duration, Instant};

use clap::Args;
use sera_crds::contract::ExitCode;

use super::failure::{Failure, print};
use crate::ranks::{Collective, JoinError, Options, Place, RankError, join};

pub(super) const EXAMPLES: &str = "Examples:
  Four ranks on this machine:
    sera-trainer launch --nproc-per-node 4 -- ring

  One rank of two, until it is ended:
    RANK=1 WORLD_SIZE=2 MASTER_ADDR=first.example.org MASTER_PORT=29500 sera-trainer ring --times 0";

#[derive(Debug, Args)]
pub(super) struct RingArgs {
    /// How much is summed at once
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    mebibytes: u16,
    /// How many times; 0: until this process is ended
    #[arg(long, value_name = "N", default_value_t = 10)]
    times: u64,
    /// How long to wait for the other ranks
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    deadline: u32,
    /// After how long a silence a rank is lost
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    silence: u32,
}

/// Runs the command.
pub(super) fn run(arguments: &RingArgs) -> Result<(), Failure> {
    let lookup = |name: &str| std::env::var(name).ok();
    let unavailable = |message: String| Failure { code: ExitCode::Unavailable, message };
    let place = Place::from_env(lookup, None).map_err(|error| Failure::given(error.to_string()))?;
    if place.world == 1 {
        let message = "there is one rank only: start several with `sera-trainer launch --nproc-per-node 2 -- ring`";
        return Err(Failure::given(message.to_owned()));
    }
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let (deadline, silence) = (seconds(arguments.deadline), seconds(arguments.silence));
    let options = Options { deadline, silence, ..Options::from_env(lookup) };
    let mut ranks = join(&place, &options).map_err(JoinError::from)?;
    let fastest = fastest_sum(&mut *ranks, arguments).map_err(|error| unavailable(error.to_string()))?;
    if ranks.rank() > 0 {
        return Ok(());
    }
    let (mebibytes, world, times) = (arguments.mebibytes, ranks.world(), arguments.times);
    let seconds = fastest.as_secs_f64();
    let speed = f64::from(mebibytes) * 1.048_576 / seconds;
    let ms = seconds * 1e3;
    print(&format!(
        "all_reduce of {mebibytes} MiB over {world} ranks: {ms:.1} ms, {speed:.0} MB/s (the fastest of {times})\n"
    ))
}

/// How long the fastest sum took.
fn fastest_sum(ranks: &mut dyn Collective, arguments: &RingArgs) -> Result<Duration, RankError> {
    let mut values = vec![1.0f32; usize::from(arguments.mebibytes) * (1 << 18)];
    let mut fastest = Duration::MAX;
    let mut done = 0;
    while arguments.times == 0 || done < arguments.times {
        ranks.barrier()?;
        let start = Instant::now();
        ranks.all_reduce(&mut values)?;
        fastest = fastest.min(start.elapsed());
        done += 1;
    }
    Ok(fastest)
}
