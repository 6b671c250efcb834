//! `cargo e2e bench drain`: how many samples a second get through. The work is in the library.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use sera_e2e::chaos;

use super::process::{build_kind, unlike_the_chart};

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// About how many samples
    #[arg(long, default_value_t = 10_000)]
    samples: u32,
}

pub(super) async fn run(Drain { samples }: Drain) -> Result<ExitCode> {
    let folder = tempfile::tempdir()?;
    let drained = Box::pin(chaos::drain(samples, folder.path().to_owned())).await?;
    let (count, seconds) = (drained.samples, drained.took.as_secs_f64());
    let exact = u32::try_from(count).map_or(f64::NAN, f64::from);
    println!("samples with verdicts                      {count}; {} build", build_kind());
    println!("flags (what the chart sets)                {}", unlike_the_chart(&chaos::FLAGS));
    println!("from the run to the end of its generation  {seconds:.1} s");
    println!("samples a second                           {:.0}", exact / seconds);
    println!("calls that passes made                     {}", drained.calls);
    Ok(ExitCode::SUCCESS)
}
