//! `sera-trainer inspect`: the tensors of a model or of a file.

use clap::Args;
use sera_program::address::Address;

use super::context::Context;
use super::failure::{Failure, print};
use super::places::PlaceArgs;
use crate::files::{Inventory, TensorLine};

pub(super) const EXAMPLES: &str = "Examples:
  A model, checked against its configuration; no weights are read:
    sera-trainer inspect ./Qwen3-8B

  An adapter's tensors, for a program:
    sera-trainer inspect --json ./adapter/adapter_model.safetensors";

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The directory of a model, here or in a bucket (s3://, gs://, az://), or a safetensors file; of a bucket all of it is fetched
    #[arg(value_name = "PATH")]
    path: Address,
    #[command(flatten)]
    places: PlaceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &InspectArgs, context: &Context) -> Result<(), Failure> {
    let inventory = Inventory::of(&arguments.places.model(&arguments.path, context)?)?;
    if arguments.json {
        let json = serde_json::to_string(&inventory).map_err(|error| Failure::given(error.to_string()))?;
        return print(&format!("{json}\n"));
    }
    let line = |tensor: &TensorLine| {
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        let shape = format!("({})", shape.join(", "));
        format!("{:<56} {:<5} {shape:<18} {:>13}  {}\n", tensor.name, tensor.dtype, tensor.bytes, tensor.file)
    };
    let text: String = inventory.tensors.iter().map(line).collect();
    let Inventory { tensors, parameters, bytes } = &inventory;
    print(&format!("{text}{} tensors, {parameters} parameters, {bytes} bytes\n", tensors.len()))
}
