//! `sera-rollout dataset`: what is asked for on the command line or in the environment, and how it reaches the stage.

use std::path::PathBuf;

use clap::Args;
use sera_crds::contract::{BatchNames, Failure, StageResult};
use sera_program::address::Address;

use super::store::StoreArgs;
use super::student::StudentArgs;
use crate::dataset;
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::settings;

pub(super) const EXAMPLES: &str = "Examples:
  How many of each kind there would be, and why the others are left out:
    sera-rollout dataset --store file:///tmp/sera/run --plan plan.yaml --verification policy.yaml --student ./Qwen3-8B --dry-run

  The dataset of a run's first twelve batches and of another one:
    sera-rollout dataset --store s3://acme-ml/sera/ml/billing/1 --store-credentials ./s3 --batches billing-1..12,more-0 \\
        --plan plan.yaml --verification policy.yaml --student ./Qwen3-8B

plan.yaml:
  acceptedTrajectories: 8000
  firstRolloutShare: \"0.625\"
  evalFraction: \"0.02\"
policy.yaml, the same that `verify` was given:
  student: {toolCallFormat: Hermes, contextLength: 32768, minKeptRatio: \"0.88\"}

What it writes:
  dataset/train.jsonl, eval.jsonl   a conversation a line: {\"instance_id\", \"messages\": [{\"role\", \"content\", \"train\"}]}
  dataset/lineage.jsonl             where each line is from, in the same order
  dataset/manifest.json             written last: digests, counts, histograms, the policy, the repository's licence";

#[derive(Debug, Args)]
pub(super) struct DatasetArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The batches to take lines from, with commas between (billing-1..12 are twelve), or all that were verified
    #[arg(long, env = "SERA_BATCHES", value_name = "NAMES", default_value = "all", value_delimiter = ',')]
    batches: Vec<BatchNames>,
    /// How many lines of which kind, as YAML or JSON [default: what SERA_DATASET holds]
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// The settings that the batches were verified with, as YAML or JSON [default: what SERA_VERIFICATION holds]
    #[arg(long, value_name = "FILE")]
    verification: Option<PathBuf>,
    /// The directory of the model that is to be trained, as Hugging Face lays it out, here or in a bucket; only its tokenizer and chat template are read
    #[arg(long, env = "SERA_STUDENT", value_name = "URI")]
    student: Address,
    #[command(flatten)]
    of_student: StudentArgs,
    /// Count, say why the others are left out, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write what there is, even where it is less than what the plan asks for
    #[arg(long)]
    fewer: bool,
    /// Where scratch folders are made and deleted again; the dataset's size and that of the repository's bundle are needed [default: the system's]
    #[arg(long, env = "SERA_SCRATCH", value_name = "DIR")]
    scratch: Option<PathBuf>,
}

/// Runs the stage.
pub(super) async fn stage(
    arguments: DatasetArgs,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<StageResult, Failure> {
    let names = arguments.store.field_names();
    let batches: Vec<String> = arguments.batches.iter().flat_map(BatchNames::names).collect();
    let all = batches.iter().any(|batch| batch == "all");
    let scratch = arguments.scratch.unwrap_or_else(std::env::temp_dir);
    let student = arguments.of_student.folder(&arguments.student, &scratch, progress, redactor).await;
    let request = dataset::Request {
        store: arguments.store.store,
        store_credentials: arguments.store.store_credentials,
        batches: (!all).then_some(batches),
        plan: settings::required(arguments.plan.as_deref(), "--plan", "SERA_DATASET")?,
        verification: settings::required(arguments.verification.as_deref(), "--verification", "SERA_VERIFICATION")?,
        student: student.map_err(|error| names.failure(&error))?,
        dry_run: arguments.dry_run,
        fewer: arguments.fewer,
        scratch,
    };
    dataset::run(&request, progress, redactor).await.map_err(|error| {
        tracing::debug!(?error, "the whole error");
        names.failure(&error)
    })
}
