//! Writes what was selected to scratch space, and puts it into the store: lines and lineage first, and the manifest, which only one process can create,
//! last.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sera_crds::contract::{
    Artifact, CONTRACT_VERSION, DatasetManifest, DatasetPlan, FileDigest, Policy, Recalls, Rejection, RolloutKind,
};

use super::committed::{self, CommittedError, FOLDER, MANIFEST};
use super::licence;
use super::lines::{self, LinesError, Output, Tally};
use super::selection::Selection;
use super::split;
use super::student::Student;
use crate::failure::{Cause, Explain};
use crate::progress::Progress;
use crate::store::{Creation, Digest, Store, StoreError};

/// The files, in the order in which they are written.
const TRAIN: &str = "train.jsonl";
const EVAL: &str = "eval.jsonl";
const LINEAGE: &str = "lineage.jsonl";
/// What the lines are made from, in the end.
const SNAPSHOT: &str = "snapshot/manifest.json";

/// Why a dataset cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// A line.
    #[error(transparent)]
    Lines(#[from] LinesError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What another process has committed meanwhile.
    #[error(transparent)]
    Committed(#[from] CommittedError),
    /// There is no snapshot.
    #[error("{SNAPSHOT} is missing in the store: lineage could not lead back to a repository; restore it")]
    NoSnapshot,
    /// The manifest has no JSON.
    #[error("the manifest cannot be written down: {0}")]
    Encode(#[from] serde_json::Error),
    /// The scratch folder.
    #[error("the lineage cannot be written to the scratch folder: {0}")]
    Scratch(#[from] std::io::Error),
}

impl Explain for PublishError {
    fn explain(&self) -> Cause {
        match self {
            Self::Lines(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Committed(error) => error.explain(),
            Self::NoSnapshot => Cause::conflict("NoSnapshot"),
            Self::Encode(_) => Cause::internal("ManifestNotEncoded"),
            Self::Scratch(_) => Cause::unavailable("ScratchUnavailable"),
        }
    }
}

/// What was decided about a dataset.
pub(super) struct Made {
    pub(super) plan: DatasetPlan,
    pub(super) policy: Policy,
    pub(super) verdicts: Vec<FileDigest>,
    pub(super) selection: Selection,
    pub(super) rejected: BTreeMap<Rejection, u64>,
    pub(super) recalls: Recalls,
}

/// Writes the dataset, and commits it.
pub(super) async fn publish(
    store: &Store,
    student: &Arc<Student>,
    made: &Made,
    scratch: &Path,
    progress: &Progress,
) -> Result<Artifact, PublishError> {
    let snapshot = store.read(SNAPSHOT).await?.ok_or(PublishError::NoSnapshot)?;
    let licence = licence::of(store, scratch, progress).await;
    let (train, eval) = split::split(made.selection.taken.clone(), &made.plan.eval_fraction);
    let (train_lines, eval_lines) = (train.len() as u64, eval.len() as u64);
    let mut tally = Tally::default();
    let step = progress.step("writing lines");
    let train = lines::write(store, student, &train, &scratch.join(TRAIN), &mut tally, &step).await?;
    let eval = lines::write(store, student, &eval, &scratch.join(EVAL), &mut tally, &step).await?;
    drop(step);
    let lineage = lineage(&tally, &scratch.join(LINEAGE))?;

    let kinds = [RolloutKind::First, RolloutKind::Second];
    let count = |counts: &BTreeMap<RolloutKind, u64>, kind| counts.get(&kind).copied().unwrap_or_default();
    let manifest = DatasetManifest {
        version: CONTRACT_VERSION,
        train,
        eval,
        train_lines,
        eval_lines,
        taken: kinds.into_iter().map(|kind| (kind, made.selection.count(kind))).collect(),
        eligible: kinds.into_iter().map(|kind| (kind, count(&made.selection.eligible, kind))).collect(),
        rejected: made.rejected.iter().map(|(reason, count)| (format!("{reason:?}"), *count)).collect(),
        recall: made.recalls,
        bug_kinds: tally.bug_kinds,
        token_histogram: tally.token_histogram,
        kept_histogram: tally.kept_histogram,
        plan: made.plan.clone(),
        policy: made.policy.clone(),
        rehearsal: tally.rehearsal,
        verdicts: made.verdicts.clone(),
        snapshot: Digest::of(&snapshot).sha256,
        licence,
        lineage,
    };
    commit(store, &manifest, scratch, progress).await
}

fn lineage(tally: &Tally, file: &Path) -> Result<FileDigest, PublishError> {
    let mut output = Output::create(file)?;
    for line in &tally.lineage {
        output.line(&serde_json::to_vec(line)?)?;
    }
    Ok(output.finish()?)
}

/// Stores the files and then the manifest. Who comes second finds that the first has written the same, or is told what differs.
async fn commit(
    store: &Store,
    manifest: &DatasetManifest,
    scratch: &Path,
    progress: &Progress,
) -> Result<Artifact, PublishError> {
    let step = progress.step("storing the dataset");
    let files = [&manifest.train, &manifest.eval, &manifest.lineage].map(|file| format!("{FOLDER}/{}", file.name));
    for (file, name) in [TRAIN, EVAL, LINEAGE].iter().zip(&files) {
        store.upload(name, &scratch.join(file), &step).await?;
    }
    drop(step);
    let mut encoded = serde_json::to_vec_pretty(manifest)?;
    encoded.push(b'\n');
    let artifact = committed::artifact(&encoded);
    match store.create(MANIFEST, encoded.into()).await? {
        Creation::Created => {
            for name in &files {
                store.sweep_unfinished(name).await;
            }
        }
        Creation::Existed => {
            committed::find(store, &manifest.plan, &manifest.policy, progress).await?;
            let theirs = store.read(MANIFEST).await?.unwrap_or_default();
            if committed::artifact(&theirs) != artifact {
                return Err(CommittedError::Other("the verdicts").into());
            }
        }
    }
    Ok(artifact)
}
