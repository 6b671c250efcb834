//! `sera-trainer merge`: a model with an adapter added to its weights.

use std::path::PathBuf;

use candle_core::DType;
use clap::Args;
use sera_chat::Chat;
use sera_program::address::Address;

use super::context::Context;
use super::failure::Failure;
use super::places::PlaceArgs;
use super::weights::{OutArgs, WeightType, report};
use crate::files::{self, Adapter, ModelDir};

pub(super) const EXAMPLES: &str = "Examples:
  The model that an adapter was trained on, and the adapter, as one:
    sera-trainer merge --model ./Qwen3-8B --adapter ./adapter --out ./Qwen3-8B-billing

The adapter is one of PEFT's: adapter_config.json and adapter_model.safetensors. Products are computed in 32 bits and rounded once.";

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The directory of the model, as Hugging Face lays it out, here or in a bucket (s3://, gs://, az://)
    #[arg(long, value_name = "DIR")]
    model: Address,
    #[command(flatten)]
    places: PlaceArgs,
    /// The directory of the adapter
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The type of all weights [default: as they are]
    #[arg(long, value_enum)]
    dtype: Option<WeightType>,
    #[command(flatten)]
    out: OutArgs,
}

/// Runs the command.
pub(super) fn run(arguments: &MergeArgs, context: &Context) -> Result<(), Failure> {
    let MergeArgs { model, places, adapter, dtype, out } = arguments;
    out.check()?;
    let (model, adapter) = (ModelDir::open(&places.model(model, context)?)?, Adapter::read(adapter)?);
    let dtype = dtype.map_or(model.dtype(), DType::from);
    // Weights are merged of a model without a tokenizer, too.
    let end = Chat::load(model.folder()).ok().and_then(|chat| chat.turn_end());
    report(&out.out, &files::merge(&model, &adapter, end, &out.out, dtype, out.max_shard)?)
}
