//! `sera-rollout verify`: pairs of patches by hand, one or many, or the rollouts of a store.

use std::io::{BufWriter, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use sera_crds::contract::{BatchNames, Failure, FailureClass, StageResult, VerificationPlan};
use sera_crds::values::{Measure, Ratio};
use sera_program::address::Address;

use super::student::StudentArgs;
use crate::failure::FieldNames;
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::settings;
use crate::verify::pairs::{self, BadLine, PairsError};
use crate::verify::stage::{Request, Scope};
use crate::verify::{self, Criterion, PairReport};

/// The word for every batch of a store.
const ALL: &str = "all";

pub(super) const EXAMPLES: &str = "Examples:
  Two patches, as one JSON object:
    sera-rollout verify --p1 first.diff --p2 second.diff

  Many, a line of JSON each ({\"id\": …, \"p1\": \"…\", \"p2\": \"…\"}), in the same order:
    sera-rollout verify --pairs pairs.jsonl > measures.jsonl
    jq -c '{id, p1: .gold, p2: .predicted}' results.jsonl | sera-rollout verify --pairs - --measure F1 --threshold 0.5

  What a batch's rollouts left in a store, with a student, and again with another threshold; no model is asked:
    sera-rollout verify --store file:///tmp/sera/run --batch billing-0 --first 0 --count 64 --settings policy.yaml --student ./Qwen3-8B

policy.yaml, where every line but the student's has this default:
  measure: Recall
  threshold: \"0.5\"
  maxPatchLines: 40
  maxMeanToolTokens: 600
  student: {toolCallFormat: Hermes, contextLength: 32768, minKeptRatio: \"0.88\"}

What it writes to a store:
  verified/<batch>/<policy>.jsonl   a verdict a line, by sample; <policy> is the sha256 of the settings and the student's files

What it prints of a pair:
  recall           the share of P1's changed lines that P2 has too, as the paper's code counts; null where P1 has none
  matched, total   what it is made of
  strict           recall, precision and f1 by file, from hunks alone, without whitespace, lock files, generated files and
                   left-over scripts; matched, first and second are what they are made of
  parsed           whether both are patches that can be parsed; if not, unparsed says which file, and plain lines were compared
  accepted         with --threshold or --measure: whether P2 counts; if not, refusal says why
  excluded         files that the strict measure leaves out, and why";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["p1", "pairs", "batch", "batches"]))]
pub(super) struct VerifyArgs {
    /// The first patch: what is to be found
    #[arg(long, value_name = "FILE", requires = "p2")]
    p1: Option<PathBuf>,
    /// The second patch: what was found
    #[arg(long, value_name = "FILE", requires = "p1")]
    p2: Option<PathBuf>,
    /// Pairs of patches, a line of JSON each; - is standard input
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Which measure decides: `Recall` (the paper's), `StrictRecall` or `F1` [default: Recall, where --threshold is given]
    #[arg(long, value_name = "MEASURE")]
    measure: Option<Measure>,
    /// The lowest share that is accepted, from 0 to 1; 0 still asks for a second patch [default: 0.5, where --measure is given]
    #[arg(long, value_name = "SHARE")]
    threshold: Option<Ratio>,
    /// How many pairs are measured at once [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    stage: StageArgs,
}

/// The rollouts of a store.
#[derive(Debug, Args)]
struct StageArgs {
    /// The batch whose rollouts are verified
    #[arg(long, value_name = "NAME", requires_all = ["store", "first", "count"], help_heading = "Rollouts of a store")]
    batch: Option<String>,
    /// Verify all that the store has of these batches, with commas between (billing-1..12 are twelve), or of all of them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "store", help_heading = "Rollouts of a store")]
    batches: Vec<BatchNames>,
    /// The batch's first sample, by its number in the run
    #[arg(long, value_name = "N", requires = "batch", help_heading = "Rollouts of a store")]
    first: Option<u64>,
    /// How many samples the batch has; those that left nothing in the store are counted as missing
    #[arg(long, value_name = "M", requires = "batch", help_heading = "Rollouts of a store")]
    count: Option<u32>,
    #[arg(
        long,
        env = "SERA_STORE",
        value_name = "URI",
        help_heading = "Rollouts of a store",
        help = "The run's own folder: file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )]
    store: Option<String>,
    /// What decides, as YAML or JSON [default: what SERA_VERIFICATION holds, or the paper's settings]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["measure", "threshold"], help_heading = "Rollouts of a store")]
    settings: Option<PathBuf>,
    /// The directory of the model that is to be trained, as Hugging Face lays it out, here or in a bucket; only its tokenizer and chat template are read
    #[arg(long, env = "SERA_STUDENT", value_name = "URI", help_heading = "Rollouts of a store")]
    student: Option<Address>,
    #[command(flatten, next_help_heading = "Rollouts of a store")]
    of_student: StudentArgs,
    /// A folder with a file for each key of the store's Secret: AWS_…, GOOGLE_…, AZURE_…, ca.crt; what it lacks is taken from the environment
    #[arg(long, env = "SERA_STORE_CREDENTIALS", value_name = "DIR", help_heading = "Rollouts of a store")]
    store_credentials: Option<PathBuf>,
    /// What the termination message calls the field that names the store's Secret
    #[arg(
        long,
        value_name = "FIELD",
        default_value = "spec.output.credentialsSecretRef",
        help_heading = "Rollouts of a store"
    )]
    store_credentials_field: String,
    /// Where scratch folders are made and deleted again; the size of the function index is needed [default: the system's]
    #[arg(long, env = "SERA_SCRATCH", value_name = "DIR", help_heading = "Rollouts of a store")]
    scratch: Option<PathBuf>,
}

impl VerifyArgs {
    /// Whether rollouts of a store are asked for, and not pairs by hand.
    pub(super) fn is_stage(&self) -> bool {
        self.stage.batch.is_some() || !self.stage.batches.is_empty()
    }
}

/// Verifies rollouts of a store.
pub(super) async fn stage(
    arguments: VerifyArgs,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<StageResult, Failure> {
    let plan = plan(&arguments)?;
    let StageArgs {
        batch,
        batches,
        first,
        count,
        store,
        student,
        of_student,
        store_credentials,
        store_credentials_field,
        scratch,
        ..
    } = arguments.stage;
    let names = FieldNames { git_credentials: String::new(), store_credentials: store_credentials_field };
    let scope = match batch {
        // The command line's requirements leave none of these out.
        Some(name) => Scope::Batch { name, first: first.unwrap_or_default(), count: count.unwrap_or_default() },
        None => Scope::Batches(batches.iter().flat_map(BatchNames::names).filter(|name| name != ALL).collect()),
    };
    let scratch = scratch.unwrap_or_else(std::env::temp_dir);
    let student = match student {
        Some(student) => {
            let folder = of_student.folder(&student, &scratch, progress, redactor).await;
            Some(folder.map_err(|error| names.failure(&error))?)
        }
        None => None,
    };
    let request = Request { store: store.unwrap_or_default(), store_credentials, scope, plan, student, scratch };
    verify::stage::run(&request, progress, redactor).await.map_err(|error| {
        tracing::debug!(?error, "the whole error");
        names.failure(&error)
    })
}

/// The settings: from a file or the environment, or the paper's, with what the command line says.
fn plan(arguments: &VerifyArgs) -> Result<VerificationPlan, Failure> {
    let given = settings::given(arguments.stage.settings.as_deref(), "SERA_VERIFICATION")?;
    let mut plan: VerificationPlan = given.unwrap_or_default();
    plan.measure = arguments.measure.unwrap_or(plan.measure);
    plan.threshold = arguments.threshold.clone().unwrap_or(plan.threshold);
    Ok(plan)
}

/// Measures what is given by hand and prints it.
pub(super) fn print(arguments: &VerifyArgs) -> Result<(), Failure> {
    let criterion = criterion(arguments);
    let mut output = BufWriter::new(std::io::stdout().lock());
    match (&arguments.p1, &arguments.p2, &arguments.pairs) {
        (Some(first), Some(second), _) => {
            let report = PairReport::of(None, &read(first)?, &read(second)?, criterion.as_ref());
            print_report(&report, &mut output).map_err(|error| failed(&PairsError::Output(error)))
        }
        (_, _, Some(file)) => print_pairs(file, criterion.as_ref(), threads(arguments), &mut output),
        // The command line's groups leave nothing else.
        _ => Ok(()),
    }
}

fn criterion(arguments: &VerifyArgs) -> Option<Criterion> {
    let asked = arguments.measure.is_some() || arguments.threshold.is_some();
    let VerificationPlan { measure, threshold, .. } = VerificationPlan::default();
    asked.then(|| Criterion {
        measure: arguments.measure.unwrap_or(measure),
        threshold: arguments.threshold.clone().unwrap_or(threshold),
    })
}

fn threads(arguments: &VerifyArgs) -> NonZeroUsize {
    arguments.threads.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

fn print_report(report: &PairReport, output: &mut impl Write) -> std::io::Result<()> {
    serde_json::to_writer(&mut *output, report)?;
    output.write_all(b"\n")?;
    output.flush()
}

fn print_pairs(
    file: &Path,
    criterion: Option<&Criterion>,
    threads: NonZeroUsize,
    output: &mut impl Write,
) -> Result<(), Failure> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let input: Box<dyn Read + Send> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| unreadable(file, &error))?)
    };
    let mut first_bad: Option<BadLine> = None;
    let mut bad_lines = 0_u64;
    let mut bad = |line: BadLine| {
        tracing::error!(file = name, line = line.number, "this line is no pair: {}", line.problem);
        bad_lines += 1;
        first_bad.get_or_insert(line);
    };
    pairs::measure_all(input, &name, output, threads, criterion, &mut bad).map_err(|error| failed(&error))?;
    match first_bad {
        None => Ok(()),
        Some(BadLine { number, problem }) => Err(Failure {
            class: FailureClass::Configuration,
            reason: "BadPairs".to_owned(),
            field: None,
            message: format!(
                "{bad_lines} lines of {name} are no pairs, the first is line {number} ({problem}); the others were measured"
            ),
        }),
    }
}

fn read(patch: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(patch).map_err(|error| unreadable(patch, &error))
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    Failure {
        class: FailureClass::Configuration,
        reason: "FileUnreadable".to_owned(),
        field: None,
        message: format!("{} cannot be read: {error}", file.display()),
    }
}

fn failed(error: &PairsError) -> Failure {
    let (class, reason) = match error {
        PairsError::Input { .. } => (FailureClass::Unavailable, "InputFailed"),
        PairsError::Output(_) => (FailureClass::Unavailable, "OutputFailed"),
        PairsError::Threads(_) => (FailureClass::Unavailable, "ThreadsUnavailable"),
    };
    Failure { class, reason: reason.to_owned(), field: None, message: error.to_string() }
}
