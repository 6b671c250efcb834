//! `sera-trainer import`: a GGUF file to a model directory.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::weights::{OutArgs, WeightType, report};
use crate::files;

pub(super) const EXAMPLES: &str = "Examples:
  SmolLM2 as it is packaged for llama.cpp, without loss:
    sera-trainer import --gguf SmolLM2-135M-Instruct.Q4_1.gguf --out ./SmolLM2-135M

  Rounded to 16 bits, in files of at most 500 MB:
    sera-trainer import --gguf model.gguf --dtype bf16 --max-shard 500MB --out ./model

What is taken: architectures llama, qwen2 and qwen3 without rope scaling; byte-level tokenizers that cut texts as smollm or qwen2.
Everything else is refused by name.";

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The GGUF file
    #[arg(long, value_name = "FILE")]
    gguf: PathBuf,
    /// The type that weights are written in; f32 loses nothing of what the file says
    #[arg(long, value_enum, default_value = "f32")]
    dtype: WeightType,
    #[command(flatten)]
    out: OutArgs,
}

/// Runs the command.
pub(super) fn run(arguments: &ImportArgs) -> Result<(), Failure> {
    let ImportArgs { gguf, dtype, out } = arguments;
    out.check()?;
    report(&out.out, &files::import(gguf, &out.out, (*dtype).into(), out.max_shard)?)
}
