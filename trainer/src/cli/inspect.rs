//! `sera-trainer inspect`: the tensors of a model or of a file.

use std::path::PathBuf;

use clap::Args;

use super::failure::{Failure, print};
use crate::files::{Inventory, TensorLine};

pub(super) const EXAMPLES: &str = "Examples:
  A model, checked against its configuration; no weights are read:
    sera-trainer inspect ./Qwen3-8B

  An adapter's tensors, for a program:
    sera-trainer inspect --json ./adapter/adapter_model.safetensors";

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The directory of a model, or a safetensors file
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &InspectArgs) -> Result<(), Failure> {
    let inventory = Inventory::of(&arguments.path)?;
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
