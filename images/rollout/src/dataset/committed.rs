//! What the store has of a dataset already: the manifest that makes it one, and whether its files are still what the manifest says.

use bytes::Bytes;
use sera_crds::contract::{Artifact, CONTRACT_VERSION, DatasetManifest, DatasetPlan, Policy, RolloutKind, StageResult};

use crate::failure::{Cause, Explain};
use crate::progress::Progress;
use crate::store::{Digest, Store, StoreError};

/// The folder of a dataset.
pub(crate) const FOLDER: &str = "dataset";
/// Its manifest's name in the run's folder.
pub(crate) const MANIFEST: &str = "dataset/manifest.json";

/// Why what is in the store cannot be built on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommittedError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest is no manifest.
    #[error(
        "{MANIFEST} in the store is not the manifest of a dataset of this release ({0}): use images of one release, or another folder"
    )]
    Malformed(#[source] serde_json::Error),
    /// Something else was asked for.
    #[error(
        "the store already has a dataset that was made with other settings ({0}): use another folder, or delete {FOLDER}/ and everything that was made from it"
    )]
    Other(&'static str),
    /// A file is not what the manifest says.
    #[error(
        "{0} in the store is not what {MANIFEST} says: delete {FOLDER}/ and everything that was made from it, and make it again"
    )]
    Damaged(String),
}

impl Explain for CommittedError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Malformed(_) => Cause::conflict("ManifestMalformed"),
            Self::Other(_) => Cause::conflict("OtherDataset"),
            Self::Damaged(_) => Cause::conflict("DatasetDamaged"),
        }
    }
}

/// The dataset in the store, if it is there, whole, and what is asked for.
pub(super) async fn find(
    store: &Store,
    plan: &DatasetPlan,
    policy: &Policy,
    progress: &Progress,
) -> Result<Option<StageResult>, CommittedError> {
    let Some(content) = store.read(MANIFEST).await? else { return Ok(None) };
    let manifest: DatasetManifest = serde_json::from_slice(&content).map_err(CommittedError::Malformed)?;
    let differs = [
        ("another version", manifest.version != CONTRACT_VERSION),
        ("the plan", manifest.plan != *plan),
        ("the student", manifest.policy.student != policy.student),
        ("the verification", manifest.policy != *policy),
    ];
    if let Some((what, _)) = differs.into_iter().find(|(_, differs)| *differs) {
        return Err(CommittedError::Other(what));
    }
    let step = progress.step("checking the dataset in the store");
    for file in [&manifest.train, &manifest.eval, &manifest.lineage] {
        let name = format!("{FOLDER}/{}", file.name);
        if store.digest(&name, &step).await? != Some(Digest::from(file)) {
            return Err(CommittedError::Damaged(name));
        }
    }
    Ok(Some(result(&manifest, &content)))
}

/// How many first and how many second trajectories a dataset has.
pub(crate) fn taken(manifest: &DatasetManifest) -> (u64, u64) {
    let taken = |kind| manifest.taken.get(&kind).copied().unwrap_or_default();
    (taken(RolloutKind::First), taken(RolloutKind::Second))
}

/// What a manifest in the store reports.
fn result(manifest: &DatasetManifest, content: &Bytes) -> StageResult {
    let (first, second) = taken(manifest);
    StageResult::Dataset {
        manifest: Some(artifact(content)),
        accepted_first: first,
        accepted_second: second,
        complete: first + second >= u64::from(manifest.plan.accepted_trajectories),
    }
}

/// The manifest as a termination message names it.
pub(crate) fn artifact(content: &[u8]) -> Artifact {
    Artifact { path: MANIFEST.to_owned(), sha256: Digest::of(content).sha256 }
}
