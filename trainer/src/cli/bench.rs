//! `sera-trainer bench`: how fast a training is here, and how much memory it takes, as a table.

use std::process::Command;

use clap::{Args, ValueEnum};
use sera_crds::values::Sharding;

use super::failure::{Failure, print};
use super::request::{place, ranks};
use crate::bench::kernels::{Compared, Shapes, compare};
use crate::bench::{BenchError, How, Subject};
use crate::device::{self, Choice, DeviceError};
use crate::engine::Residence;
use crate::ops::AttentionBy;
use crate::ops::kernels::{Kernels, KernelsError};
use crate::training::peak_memory;

pub(super) const EXAMPLES: &str = "Examples:
  All rows of the table, two threads:
    RAYON_NUM_THREADS=2 sera-trainer bench

  One of them:
    sera-trainer bench --row small-kept --steps 20

  The longest line, for the memory that it takes; minutes:
    sera-trainer bench --row long-again --steps 1

  Two ranks between which everything is divided, with and without gathering ahead:
    sera-trainer launch --nproc-per-node 2 -- bench --row small-again --sharding zero3
    sera-trainer launch --nproc-per-node 2 -- bench --row small-again --sharding zero3 --late

  On a GPU: kernels of ours beside the operations that they stand in for, in the shapes of Qwen3-8B at 512, 4,096 and 32,768 tokens:
    sera-trainer bench --kernels
    sera-trainer bench --kernels rms-norm,adamw

  A row on a GPU, with and without FlashAttention-2 (docs/gpu.md; no GPU has run it yet):
    sera-trainer bench --row small-again --device cuda
    sera-trainer bench --row small-again --device cuda --attention flash

Drawn weights, in f32 on processors and bf16 on a GPU: `small` is full training of a Qwen3 of 5.25M parameters at 4 lines of 512 tokens a step, `smol` of a model of
SmolLM2-135M's shape at one line of 2,048; `long`, measured by its name alone, trains adapters of two layers of Qwen3-0.6B with its
vocabulary of 151,936, at one line of 32,768. `kept` keeps what each block computes for the backward pass; `again` computes it again
from the block's input. Each row is measured in a process of its own; its peak is the most that was resident, and what was before the
model is given beside it, both of the host's memory alone. trainer/examples/bench.py prints the same rows for PyTorch, but for `long`.";

/// The head of the table.
const HEAD: &str = "| | tokens/s | GFLOP/s | peak, MiB | before, MiB |\n|---|---|---|---|---|\n";

/// The head of that of kernels.
const COMPARED: &str = "| kernel | operation | largest difference, of the largest value | composed, µs | ours, µs | ours, GB/s |\n\
                        |---|---|---|---|---|---|\n";

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// Measure this row only
    #[arg(long, value_enum)]
    row: Option<Row>,
    /// How many steps, beside one to warm up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    steps: u32,
    /// What is divided between ranks; each has lines of its own, and tokens are counted over all
    #[arg(long, value_enum, default_value_t = Divided::None, requires = "row")]
    sharding: Divided,
    /// Compare kernels of ours with the composed operations instead, on a GPU: names with commas between, or all
    #[arg(long, value_name = "LIST", num_args = 0..=1, default_missing_value = "all", conflicts_with_all = ["row", "steps"])]
    kernels: Option<Kernels>,
    /// Gather units that are divided when they are needed, not while others are computed with
    #[arg(long, requires = "row")]
    late: bool,
    /// Where master weights, moments and gradients live
    #[arg(long, value_enum, default_value_t = Residence::Host, requires = "row")]
    residence: Residence,
    /// What is computed on; not taken from the environment, so that the table is what its name says
    #[arg(long, value_enum, default_value_t = Choice::Cpu, requires = "row")]
    device: Choice,
    /// How attention is computed on a GPU
    #[arg(long, value_enum, default_value_t, requires = "row")]
    attention: AttentionBy,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Divided {
    None,
    Zero1,
    Zero2,
    Zero3,
}

impl From<Divided> for Sharding {
    fn from(divided: Divided) -> Self {
        match divided {
            Divided::None => Self::None,
            Divided::Zero1 => Self::Zero1,
            Divided::Zero2 => Self::Zero2,
            Divided::Zero3 => Self::Zero3,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Row {
    SmallKept,
    SmallAgain,
    SmolKept,
    SmolAgain,
    LongAgain,
}

impl Row {
    /// The rows of the table: what takes no more than minutes.
    const TABLE: [Self; 4] = [Self::SmallKept, Self::SmallAgain, Self::SmolKept, Self::SmolAgain];
}

/// Runs the command.
pub(super) fn run(arguments: &BenchArgs) -> Result<(), Failure> {
    match (arguments.kernels, arguments.row) {
        (Some(kernels), _) => compared(kernels),
        (None, Some(row)) => line(row, arguments),
        (None, None) => all(arguments.steps),
    }
}

/// Kernels of ours beside the composed operations, a row an operation.
fn compared(kernels: Kernels) -> Result<(), Failure> {
    let device = device::open(Choice::Cuda, 0).map_err(|error| match error {
        DeviceError::NotBuilt => KernelsError::NotBuilt(kernels).into(),
        error => Failure::from(error),
    })?;
    print(COMPARED)?;
    let mut printed = Ok(());
    let row = |kernel, row: Compared| {
        let Compared { what, difference, composed, ours, rate } = row;
        let line = format!("| {kernel} | {what} | {difference:.1e} | {composed:.0} | {ours:.0} | {rate:.0} |\n");
        printed = std::mem::replace(&mut printed, Ok(())).and_then(|()| print(&line));
    };
    compare(kernels, &Shapes::QWEN3_8B, &Shapes::LENGTHS, &device, row)
        .map_err(|error| Failure::internal(error.to_string()))?;
    printed
}

/// Every row, each by a process of its own: what one has taken from the system is not another's peak.
fn all(steps: u32) -> Result<(), Failure> {
    print(HEAD)?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::internal(format!("this program does not know where it is: {error}")))?;
    for row in Row::TABLE {
        let name = row.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let ended = Command::new(&program).args(["bench", "--row", &name, "--steps", &steps.to_string()]).status();
        if !ended.as_ref().is_ok_and(std::process::ExitStatus::success) {
            return Err(Failure::internal(format!("row {name} was not measured: {ended:?}")));
        }
    }
    Ok(())
}

/// Measures a row, and prints it where this is the first rank.
fn line(row: Row, arguments: &BenchArgs) -> Result<(), Failure> {
    let failed = |error: BenchError| Failure::internal(error.to_string());
    let (subject, keeps) = match row {
        Row::SmallKept => (Subject::Small, true),
        Row::SmallAgain => (Subject::Small, false),
        Row::SmolKept => (Subject::Smol, true),
        Row::SmolAgain => (Subject::Smol, false),
        Row::LongAgain => (Subject::Long, false),
    };
    let layers = subject.config().map_err(|error| failed(error.into()))?.layers;
    let before = mebibytes(peak_memory());
    let device = device::open(arguments.device, place()?.local_rank).map_err(Failure::from)?;
    arguments.attention.check_device(&device).map_err(Failure::from)?;
    let (place, ranks) = ranks(&device)?;
    let how = How {
        blocks: if keeps { layers } else { 0 },
        sharding: arguments.sharding.into(),
        ahead: !arguments.late,
        residence: arguments.residence,
        attention: arguments.attention,
    };
    let measured = subject.measure(arguments.steps, how, &device, ranks).map_err(failed)?;
    if place.rank != 0 {
        return Ok(());
    }
    let name = match subject {
        Subject::Small => "5.25M, 4 × 512 tokens",
        Subject::Smol => "135M, 1 × 2,048 tokens",
        Subject::Long => "187M, 1 × 32,768 tokens",
    };
    let how = if keeps { "activations kept" } else { "activations computed again" };
    let (speed, flops, peak) = (measured.tokens_per_second, measured.flops_per_second / 1e9, mebibytes(peak_memory()));
    print(&format!("| {name}, {how} | {speed:.0} | {flops:.1} | {peak} | {before} |\n"))
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or("?".to_owned(), |bytes| (bytes >> 20).to_string())
}
