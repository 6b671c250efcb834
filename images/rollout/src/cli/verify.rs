//! `sera-rollout verify`: pairs of patches by hand, one or many.

use std::io::{BufWriter, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use sera_crds::contract::{Failure, FailureClass, VerificationPlan};
use sera_crds::values::{Measure, Ratio};

use crate::verify::pairs::{self, BadLine, PairsError};
use crate::verify::{Criterion, PairReport};

pub(super) const EXAMPLES: &str = "Examples:
  Two patches, as one JSON object:
    sera-rollout verify --p1 first.diff --p2 second.diff

  Many, a line of JSON each ({\"id\": …, \"p1\": \"…\", \"p2\": \"…\"}), in the same order:
    sera-rollout verify --pairs pairs.jsonl > measures.jsonl
    jq -c '{id, p1: .gold, p2: .predicted}' results.jsonl | sera-rollout verify --pairs - --measure F1 --threshold 0.5

What it prints of a pair:
  recall           the share of P1's changed lines that P2 has too, as the paper's code counts; null where P1 has none
  matched, total   what it is made of
  strict           recall, precision and f1 by file, from hunks alone, without whitespace, lock files, generated files and
                   left-over scripts; matched, first and second are what they are made of
  parsed           whether both are patches that can be parsed; if not, unparsed says which file, and plain lines were compared
  accepted         with --threshold or --measure: whether P2 counts; if not, refusal says why
  excluded         files that the strict measure leaves out, and why";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["p1", "pairs"]))]
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
    /// Which measure decides: Recall (the paper's), StrictRecall or F1 [default: Recall, where --threshold is given]
    #[arg(long, value_name = "MEASURE")]
    measure: Option<Measure>,
    /// The lowest share that is accepted, from 0 to 1; 0 still asks for a second patch [default: 0.5, where --measure is given]
    #[arg(long, value_name = "SHARE")]
    threshold: Option<Ratio>,
    /// How many pairs are measured at once [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
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
