//! `sera-trainer export`: a model with its weights in one type.

use clap::Args;
use sera_program::address::Address;

use super::context::Context;
use super::failure::Failure;
use super::places::PlaceArgs;
use super::weights::{OutArgs, WeightType, report};
use crate::files::{self, ModelDir};

pub(super) const EXAMPLES: &str = "Examples:
  A model for serving, in 16 bits, from one that was trained in 32:
    sera-trainer export --model ./trained --dtype bf16 --out ./served

  The same weights in other files:
    sera-trainer export --model ./Qwen3-8B --dtype bf16 --max-shard 2GB --out ./Qwen3-8B-small-files";

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The directory of the model, as Hugging Face lays it out, here or in a bucket (s3://, gs://, az://)
    #[arg(long, value_name = "DIR")]
    model: Address,
    #[command(flatten)]
    places: PlaceArgs,
    /// The type of all weights
    #[arg(long, value_enum)]
    dtype: WeightType,
    #[command(flatten)]
    out: OutArgs,
}

/// Runs the command.
pub(super) fn run(arguments: &ExportArgs, context: &Context) -> Result<(), Failure> {
    let ExportArgs { model, places, dtype, out } = arguments;
    out.check()?;
    let model = ModelDir::open(&places.model(model, context)?)?;
    report(&out.out, &files::export(&model, &out.out, (*dtype).into(), out.max_shard)?)
}
