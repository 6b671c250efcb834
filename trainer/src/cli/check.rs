//! `sera-trainer check`: whether a training would work, before any hour of a GPU is spent on it.

use std::io::IsTerminal;

use clap::Args;

use super::context::Context;
use super::failure::{Failure, print};
use super::request::{TrainingArgs, ranks};
use crate::device;
use crate::ops::AttentionBy;
use crate::ops::kernels::{Kernels, are_on};
use crate::training::{Bytes, Report, Request, check, readable};

pub(super) const EXAMPLES: &str = "Examples:
  Before the training itself, with the same flags:
    sera-trainer check --student ./Qwen3-8B --dataset ./run/dataset --out ./run --plan training.yaml

It reads the model, the tokenizer, the template and every line of the data, adds up the memory that a rank needs, takes two
steps on the shortest line, and prints the first line with what is trained in colour, or in ⟦ ⟧ where nobody looks. Nothing is
trained and, but for the cache of tokens, nothing is written.
No GPU has run it yet: what it says of one is unverified (docs/gpu.md).";

/// Around what is trained, on a terminal: bold green.
const COLOUR: [&str; 2] = ["\u{1b}[1;32m", "\u{1b}[0m"];
/// The same where there are no colours.
const BRACKETS: [&str; 2] = ["⟦", "⟧"];

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    training: TrainingArgs,
}

/// Runs the command.
pub(super) fn run(arguments: &CheckArgs, context: &Context) -> Result<(), Failure> {
    context.display();
    let request = arguments.training.request(context)?;
    let (place, ranks) = ranks(&request.device)?;
    let failed =
        |error: crate::training::TrainingError| Failure { code: error.exit_code(), message: error.to_string() };
    let report = check(&request.sources, &request.plan, &request.device, request.attention, ranks, request.memory)
        .map_err(failed)?;
    if place.rank != 0 {
        return Ok(());
    }
    let marks = if std::io::stdout().is_terminal() { COLOUR } else { BRACKETS };
    let sample: String = report.sample().map_err(failed)?.iter().map(|piece| marked(piece, marks)).collect();
    print(&format!("{}\n{sample}\n", summary(&report, &computes(&request), place.world)))
}

fn marked((text, trained): &(String, bool), [before, after]: [&str; 2]) -> String {
    if *trained { format!("{before}{text}{after}") } else { text.clone() }
}

/// What a rank computes on, and by what in the place of the usual.
fn computes(request: &Request) -> String {
    let name = device::name(&request.device);
    match request.attention {
        AttentionBy::Chunked => name,
        AttentionBy::Flash => format!("{name}, attention by FlashAttention-2"),
    }
}

fn summary(report: &Report, device: &str, world: usize) -> String {
    let Bytes { weights, gradients, optimizer, activations, logits, checkpoint } = report.bytes;
    let parts = [
        ("weights", weights),
        ("gradients", gradients),
        ("optimizer", optimizer),
        ("activations", activations),
        ("logits", logits),
    ];
    let mut parts: Vec<String> = parts.map(|(name, bytes)| format!("{name} {}", readable(bytes))).to_vec();
    if report.bytes.total() > report.bytes.in_step() {
        let copy = readable(checkpoint);
        parts.push(format!("at a checkpoint weights, optimizer and a unit's copy of {copy} instead"));
    }
    let available =
        report.available.map_or("nobody knows what there is".to_owned(), |bytes| format!("{} there", readable(bytes)));
    let inputs = &report.inputs;
    let eval = inputs.eval.as_ref().map_or(0, |eval| eval.lines.len());
    let (before, after) = report.losses;
    let (tensors, values) = report.trained;
    let kernels = match are_on() {
        Kernels::NONE => String::new(),
        some => format!("\nkernels    {some} of ours; none of them has run on a GPU yet"),
    };
    format!(
        "data       {} lines to train on, {eval} to watch, {} left out as too long; {} trained tokens an epoch\n\
         steps      {}\n\
         memory     {} a rank of {world}: {} ({available})\n\
         gradients  {tensors} tensors are trained, {values} values; every one of them moved\n\
         loss       {before:.6} → {after:.6} in two steps on `{}`\n\
         device     {device}; no release of this program has run on a GPU yet: unverified there{kernels}",
        inputs.train.lines.len(),
        inputs.too_long(),
        inputs.train.trained_tokens(),
        report.steps,
        readable(report.bytes.total()),
        parts.join(", "),
        report.tried,
    )
}
