//! One sample as the trainer will see it: finds its rollouts, patches and verdicts in the store. How it is printed is decided in `page`. It changes
//! nothing, and is for people.

mod page;

use std::io::Write;
use std::path::PathBuf;

use sera_crds::contract::{Lineage, RolloutKind, RolloutRecord, StudentPlan, Trajectory, Verdict};

use crate::dataset::trajectories::{self, TrajectoryError};
use crate::dataset::{Student, StudentError};
use crate::failure::{Cause, Explain, Field};
use crate::redact::Redactor;
use crate::store::{self, Store, StoreError};
use crate::verify::stage::ROLLOUTS;

/// What to look at, and where everything is.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) store: String,
    /// The mounted Secret for the store.
    pub(crate) store_credentials: Option<PathBuf>,
    pub(crate) what: What,
    /// The directory of the model that is to be trained, and how lines are made for it.
    pub(crate) student: Option<(PathBuf, StudentPlan)>,
    /// Whether the reader's terminal has colours.
    pub(crate) colours: bool,
}

/// A sample, or the one behind a line.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// A sample by its number; of all batches, or of one; both rollouts, or one of them.
    Sample { number: u64, batch: Option<String>, rollout: Option<RolloutKind> },
    /// A line of the dataset, from 1, training lines first.
    Line(usize),
}

/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the sample.
    #[error(transparent)]
    Trajectory(#[from] TrajectoryError),
    /// The student's directory.
    #[error(transparent)]
    Student(#[from] StudentError),
    /// No batch has it.
    #[error("no batch in the store has finished a rollout of sample {0}: check the number and --store")]
    NoSample(u64),
    /// The dataset has no such line.
    #[error("the dataset has no line {line}: ask for one from 1 to {lines}")]
    NoLine {
        /// What was asked for.
        line: usize,
        /// How many there are.
        lines: usize,
    },
    /// There is no dataset.
    #[error("{LINEAGE} is missing in the store: make the dataset first, or ask for a sample with --sample")]
    NoDataset,
    /// Something in the store is no document of ours.
    #[error("{file} in the store cannot be read: {source}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Nobody reads any more.
    #[error("the page cannot be printed: {0}")]
    Output(#[from] std::io::Error),
}

/// Where lines are from.
const LINEAGE: &str = "dataset/lineage.jsonl";

impl Explain for InspectError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Trajectory(error) => error.explain(),
            Self::Student(error) => error.explain(),
            Self::NoSample(_) | Self::NoLine { .. } | Self::NoDataset => Cause::configuration("NotFound", Field::Store),
            Self::Malformed { .. } => Cause::conflict("DocumentMalformed"),
            Self::Output(_) => Cause::unavailable("OutputFailed"),
        }
    }
}

/// A finished rollout with its files.
struct Rollout {
    record: RolloutRecord,
    trajectory: Trajectory,
    patch: String,
}

/// Prints a sample.
pub(crate) async fn run(
    request: &Request,
    redactor: &Redactor,
    output: &mut (impl Write + Send),
) -> Result<(), InspectError> {
    let student = request.student.as_ref().map(|(folder, plan)| Student::open(folder, plan)).transpose()?;
    let secret = store::secret(request.store_credentials.as_deref(), redactor)?;
    let store = Store::open(&request.store, secret.as_ref())?;
    let (number, batch, only) = match &request.what {
        What::Sample { number, batch, rollout } => (*number, batch.clone(), *rollout),
        What::Line(line) => {
            let line = lineage(&store, *line).await?;
            (line.sample, Some(line.batch), Some(line.rollout))
        }
    };
    let batches = match batch {
        Some(batch) => vec![batch],
        None => batches(&store).await?,
    };
    for batch in batches {
        let mut rollouts = Vec::new();
        for kind in [RolloutKind::First, RolloutKind::Second] {
            rollouts.extend(read(&store, &batch, number, kind).await?);
        }
        if rollouts.is_empty() {
            continue;
        }
        let verdicts = verdicts(&store, &batch, number).await?;
        page::Page {
            batch: &batch,
            rollouts: &rollouts,
            verdicts: &verdicts,
            only,
            student: student.as_ref(),
            colours: request.colours,
        }
        .print(output)?;
        output.flush()?;
        return Ok(());
    }
    Err(InspectError::NoSample(number))
}

/// The batches that have rollouts.
async fn batches(store: &Store) -> Result<Vec<String>, InspectError> {
    let files = store.list(ROLLOUTS).await?;
    let mut batches: Vec<String> =
        files.iter().filter_map(|(name, _)| Some(name.split('/').nth(1)?.to_owned())).collect();
    batches.dedup();
    Ok(batches)
}

async fn read(store: &Store, batch: &str, sample: u64, kind: RolloutKind) -> Result<Option<Rollout>, InspectError> {
    let Some(record) = trajectories::record(store, batch, sample, kind).await? else { return Ok(None) };
    let packed = trajectories::file(store, batch, &record, &record.trajectory).await?;
    let trajectory = trajectories::unpack(&packed, &record)?;
    let patch = trajectories::file(store, batch, &record, &record.patch).await?;
    Ok(Some(Rollout { trajectory, patch: String::from_utf8_lossy(&patch).into_owned(), record }))
}

/// What was decided about a sample, by the digest of the policy that decided.
async fn verdicts(store: &Store, batch: &str, sample: u64) -> Result<Vec<(String, Verdict)>, InspectError> {
    let mut verdicts = Vec::new();
    for (file, _) in store.list(&format!("verified/{batch}")).await? {
        let Some(policy) = file.rsplit('/').next().and_then(|name| name.strip_suffix(".jsonl")) else { continue };
        let content = store.read_data(&file).await?.unwrap_or_default();
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let verdict: Verdict = parse(&file, line)?;
            if verdict.sample == sample {
                verdicts.push((policy.to_owned(), verdict));
            }
        }
    }
    Ok(verdicts)
}

async fn lineage(store: &Store, line: usize) -> Result<Lineage, InspectError> {
    let content = store.read_data(LINEAGE).await?.ok_or(InspectError::NoDataset)?;
    let mut lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines_there = lines.clone().count();
    let found = line.checked_sub(1).and_then(|before| lines.nth(before));
    parse(LINEAGE, found.ok_or(InspectError::NoLine { line, lines: lines_there })?)
}

fn parse<T: serde::de::DeserializeOwned>(file: &str, json: &[u8]) -> Result<T, InspectError> {
    serde_json::from_slice(json).map_err(|source| InspectError::Malformed { file: file.to_owned(), source })
}
