//! The dataset stage: verified trajectories become lines to train on, `dataset/train.jsonl` and `dataset/eval.jsonl`, and, last, `dataset/manifest.json`.
//! What a student makes of one trajectory is decided in `eligibility`, which the verification asks too; which of them are taken, in `selection`.

mod candidates;
mod committed;
mod eligibility;
mod format;
mod leak;
mod licence;
mod lines;
mod publish;
mod seen;
mod selection;
mod shape;
mod sketch;
mod split;
mod student;
#[cfg(test)]
mod testing;
pub(crate) mod trajectories;
mod truncation;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use sera_crds::contract::{Artifact, DatasetPlan, Rejection, RolloutKind, StageResult, VerificationPlan};

use crate::failure::{Cause, Explain, Field};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::scratch::{Scratch, ScratchError};
use crate::store::{self, Store, StoreError};
use crate::verify::stage;
use candidates::{Candidates, CandidatesError};
use committed::CommittedError;
pub(crate) use committed::{FOLDER, MANIFEST, artifact, taken};
pub(crate) use eligibility::{StudentJudgement, student_judgement};
use publish::{Made, PublishError};
pub(crate) use seen::Seen;
use selection::Selection;
pub(crate) use student::{Student, StudentError};

/// What to make a dataset from, and where everything is.
#[derive(Debug)]
pub(crate) struct Request {
    /// The run's own folder.
    pub(crate) store: String,
    /// The mounted Secret for the store.
    pub(crate) store_credentials: Option<PathBuf>,
    /// The batches; none: all that have verdicts.
    pub(crate) batches: Option<Vec<String>>,
    /// How many lines of which kind.
    pub(crate) plan: DatasetPlan,
    /// The settings of the verdicts.
    pub(crate) verification: VerificationPlan,
    /// The directory of the model that is to be trained.
    pub(crate) student: PathBuf,
    /// Only count.
    pub(crate) dry_run: bool,
    /// Write what there is, also where it is less than what is asked for.
    pub(crate) fewer: bool,
    /// Where scratch folders are made.
    pub(crate) scratch: PathBuf,
}

/// Why there is no dataset.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatasetError {
    /// The settings have no student.
    #[error(
        "the verification's settings say nothing of a student, and lines are made for one: add student (toolCallFormat, contextLength, minKeptRatio)"
    )]
    NoStudent,
    /// The student's directory.
    #[error(transparent)]
    Student(#[from] StudentError),
    /// The verdicts.
    #[error(transparent)]
    Candidates(#[from] CandidatesError),
    /// The lines, or their way into the store.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// What is in the store already.
    #[error(transparent)]
    Committed(#[from] CommittedError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no scratch space.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
}

impl Explain for DatasetError {
    fn explain(&self) -> Cause {
        match self {
            Self::NoStudent => Cause::configuration("NoStudent", Field::Student),
            Self::Student(error) => error.explain(),
            Self::Candidates(error) => error.explain(),
            Self::Publish(error) => error.explain(),
            Self::Committed(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Scratch(_) => Cause::unavailable("ScratchUnavailable"),
        }
    }
}

/// Makes the dataset, finds that it was made, or counts what it would have.
pub(crate) async fn run(
    request: &Request,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<StageResult, DatasetError> {
    let student = request.verification.student.as_ref().ok_or(DatasetError::NoStudent)?;
    let student = Arc::new(Student::open(&request.student, student)?);
    let policy = stage::policy(&request.verification, Some(student.policy()));
    let secret = store::secret(request.store_credentials.as_deref(), redactor)?;
    let store = Store::open(&request.store, secret.as_ref())?;
    if !request.dry_run
        && let Some(result) = committed::find(&store, &request.plan, &policy, progress).await?
    {
        tracing::info!("the dataset is in the store already");
        return Ok(result);
    }

    let batches = match &request.batches {
        Some(batches) => batches.clone(),
        None => candidates::batches(&store).await?,
    };
    let step = progress.step("reading verdicts");
    let Candidates { accepted, mut rejected, recalls, files } = candidates::read(&store, &batches, &policy).await?;
    drop(step);
    let selection = selection::select(accepted, &request.plan);
    for (reason, count) in &selection.duplicates {
        *rejected.entry(*reason).or_default() += count;
    }
    tell(&selection, &rejected);
    if request.dry_run || !(selection.is_complete() || request.fewer) {
        return Ok(result(&selection, None));
    }

    store.probe().await?;
    let scratch = Scratch::create(&request.scratch)?;
    let made = Made { plan: request.plan.clone(), policy, verdicts: files, selection, rejected, recalls };
    let manifest = publish::publish(&store, &student, &made, scratch.path(), progress).await?;
    Ok(result(&made.selection, Some(manifest)))
}

/// What a dataset, or a dry run of it, reports.
fn result(selection: &Selection, manifest: Option<Artifact>) -> StageResult {
    StageResult::Dataset {
        manifest,
        accepted_first: selection.count(RolloutKind::First),
        accepted_second: selection.count(RolloutKind::Second),
        complete: selection.is_complete(),
    }
}

/// Says how many of each kind are kept, and why the others are not.
fn tell(selection: &Selection, rejected: &BTreeMap<Rejection, u64>) {
    for (kind, wanted) in &selection.wanted {
        let eligible = selection.eligible.get(kind).copied().unwrap_or_default();
        tracing::info!(rollouts = ?kind, wanted, eligible, taken = selection.count(*kind), "trajectories for the dataset");
    }
    for (reason, count) in rejected {
        tracing::info!(?reason, count, "trajectories that are left out");
    }
}

#[cfg(test)]
mod tests;
