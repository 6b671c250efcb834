//! `sera-trainer inspect`: the tensors of a model or of a file, or what a checkpoint is and whether it is whole.

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use sera_crds::contract::FileDigest;
use sera_program::address::Address;
use serde_json::json;

use super::context::Context;
use super::failure::{Failure, print};
use super::places::PlaceArgs;
use crate::checkpoint::{Checkpoint, CheckpointError, Manifest};
use crate::files::{Inventory, TensorLine};

pub(super) const EXAMPLES: &str = "Examples:
  A model, checked against its configuration; no weights are read:
    sera-trainer inspect ./Qwen3-8B

  An adapter's tensors, for a program:
    sera-trainer inspect --json ./adapter/adapter_model.safetensors

  A training's checkpoint: how far it is, what it belongs to, and whether its files are whole:
    sera-trainer inspect ./run/checkpoints/a1/step-000123";

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The directory of a model, here or in a bucket (s3://, gs://, az://), all of which is fetched; a safetensors file; or the folder of a checkpoint
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
    if let Address::Folder(folder) = &arguments.path
        && is_checkpoint(folder)
    {
        return checkpoint(folder, arguments.json);
    }
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

/// Whether a folder has a manifest and is no model, which may have one too.
fn is_checkpoint(folder: &Path) -> bool {
    folder.join("manifest.json").is_file() && !folder.join("config.json").exists()
}

/// A file of a checkpoint, and what is wrong with it, if anything is.
type File<'a> = (&'a FileDigest, Option<CheckpointError>);

/// Tells of a checkpoint; one that is not whole is told of too, and then refused.
fn checkpoint(folder: &Path, as_json: bool) -> Result<(), Failure> {
    let refused = |error: CheckpointError| Failure::given(error.to_string());
    let checkpoint = Checkpoint::open(folder).map_err(refused)?;
    let losses = checkpoint.losses().unwrap_or_default();
    let losses = String::from_utf8_lossy(&losses);
    let (last, files) = (losses.lines().last(), checkpoint.files().collect::<Vec<File<'_>>>());
    let text = if as_json {
        in_json(&checkpoint.manifest, last, &files)
    } else {
        in_lines(&checkpoint.manifest, last, &files)
    };
    print(&text)?;
    match files.into_iter().find_map(|(_, problem)| problem) {
        Some(problem) => Err(refused(problem)),
        None => Ok(()),
    }
}

fn in_lines(manifest: &Manifest, last: Option<&str>, files: &[File<'_>]) -> String {
    let Manifest { step, total_steps, world, origin, units, .. } = manifest;
    let mut text = format!("step     {step} of {total_steps}, by {world} ranks\n");
    for (what, digest) in [("plan", &origin.plan), ("model", &origin.model), ("dataset", &origin.dataset)] {
        let _ = writeln!(text, "{what:<8} {digest}");
    }
    let _ = writeln!(text, "losses   {}", last.unwrap_or("none"));
    for (unit, values) in units {
        let _ = writeln!(text, "{unit:<56} {values:>13}");
    }
    for file in files {
        let _ = writeln!(text, "{:<56} {:>13}  {}", file.0.name, file.0.bytes, state(file));
    }
    let _ = writeln!(text, "{} units, {} values", units.len(), units.values().sum::<usize>());
    text
}

fn in_json(manifest: &Manifest, last: Option<&str>, files: &[File<'_>]) -> String {
    let Manifest { step, total_steps, world, origin, units, .. } = manifest;
    let last: Option<serde_json::Value> = last.and_then(|line| serde_json::from_str(line).ok());
    let file = |file: &File<'_>| json!({"name": file.0.name, "bytes": file.0.bytes, "state": state(file)});
    let files: Vec<serde_json::Value> = files.iter().map(file).collect();
    let told = json!({"step": step, "totalSteps": total_steps, "world": world, "origin": origin, "units": units,
        "lastLoss": last, "files": files});
    format!("{told}\n")
}

fn state((_, problem): &File<'_>) -> String {
    problem.as_ref().map_or("whole".to_owned(), ToString::to_string)
}
