//! `sera-rollout inspect`: one sample, for people. It prints a page and no result, and leaves no termination message but after a failure.

use std::io::{BufWriter, IsTerminal};
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use sera_crds::contract::{Failure, RolloutKind, StudentPlan};
use sera_crds::values::{Ratio, ToolCallFormat};
use sera_program::address::Address;

use super::output;
use super::student::StudentArgs;
use crate::failure::FieldNames;
use crate::inspect::{self, InspectError, What};
use crate::progress::Progress;
use crate::redact::Redactor;

pub(super) const EXAMPLES: &str = "Examples:
  Sample 812 as the trainer will see it, both rollouts:
    sera-rollout inspect --store file:///tmp/sera/run --sample 812 --student ./Qwen3-8B | less -R

  The third line of the dataset:
    sera-rollout inspect --store file:///tmp/sera/run --line 3 --student ./Qwen3-8B

Without --student, the conversation is shown as the teacher had it.";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["sample", "line"]))]
pub(super) struct InspectArgs {
    #[arg(
        long,
        env = "SERA_STORE",
        value_name = "URI",
        help = "The run's own folder: file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )]
    store: String,
    /// A sample, by its number
    #[arg(long, value_name = "N")]
    sample: Option<u64>,
    /// The batch that it is of [default: the first that has it]
    #[arg(long, value_name = "NAME", requires = "sample")]
    batch: Option<String>,
    /// Which of its rollouts [default: both]
    #[arg(long, value_name = "ROLLOUT", requires = "sample")]
    rollout: Option<Rollout>,
    /// A line of the dataset, from 1: those of train.jsonl, and then those of eval.jsonl
    #[arg(long, value_name = "K")]
    line: Option<usize>,
    /// The directory of the model that is to be trained, as Hugging Face lays it out, here or in a bucket
    #[arg(long, env = "SERA_STUDENT", value_name = "URI")]
    student: Option<Address>,
    #[command(flatten)]
    of_student: StudentArgs,
    /// How tool calls are written: Hermes, XML or Raw
    #[arg(long, value_name = "FORMAT", default_value = "Hermes")]
    tool_call_format: ToolCallFormat,
    /// The longest line, in tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 32_768)]
    context_length: u32,
    /// The smallest share of messages that must be left
    #[arg(long, value_name = "SHARE", default_value = "0.88")]
    min_kept_ratio: Ratio,
    /// When colours are used
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    colour: Colour,
    /// A folder with a file for each key of the store's Secret: AWS_…, GOOGLE_…, AZURE_…, ca.crt; what it lacks is taken from the environment
    #[arg(long, env = "SERA_STORE_CREDENTIALS", value_name = "DIR")]
    store_credentials: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rollout {
    /// The one that began with a function
    First,
    /// The one that began with a pull request
    Second,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Colour {
    /// On a terminal
    Auto,
    /// Also into a pipe
    Always,
    /// Brackets instead
    Never,
}

/// Prints the page.
pub(super) async fn print(arguments: InspectArgs, redactor: &Redactor) -> Result<(), Failure> {
    let plan = StudentPlan {
        tool_call_format: arguments.tool_call_format,
        context_length: arguments.context_length,
        min_kept_ratio: arguments.min_kept_ratio,
    };
    let rollout = arguments.rollout.map(|rollout| match rollout {
        Rollout::First => RolloutKind::First,
        Rollout::Second => RolloutKind::Second,
    });
    let what = match (arguments.sample, arguments.line) {
        (Some(number), _) => What::Sample { number, batch: arguments.batch, rollout },
        // The command line's group leaves nothing else.
        (None, line) => What::Line(line.unwrap_or_default()),
    };
    let names =
        FieldNames { git_credentials: String::new(), store_credentials: "spec.output.credentialsSecretRef".to_owned() };
    let student = match arguments.student {
        Some(student) => {
            let (scratch, of_student) = (std::env::temp_dir(), &arguments.of_student);
            let folder = of_student.folder(&student, &scratch, &Progress::detect(), redactor).await;
            Some((folder.map_err(|error| names.failure(&error))?, plan))
        }
        None => None,
    };
    let request = inspect::Request {
        store: arguments.store,
        store_credentials: arguments.store_credentials,
        what,
        student,
        colours: match arguments.colour {
            Colour::Auto => std::io::stdout().is_terminal(),
            Colour::Always => true,
            Colour::Never => false,
        },
    };
    match inspect::run(&request, redactor, &mut BufWriter::new(std::io::stdout())).await {
        Err(InspectError::Output(cause)) if output::is_unread(&cause) => Ok(()),
        printed => printed.map_err(|error| names.failure(&error)),
    }
}
