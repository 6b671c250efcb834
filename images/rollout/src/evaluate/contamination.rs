//! Whether training saw what is asked for: each trajectory that was trained on ends in a patch, and none of them may touch a function that was set
//! aside. Verification has left those out; it is looked at again here, since a verdict rests on it.

use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use sera_crds::contract::Lineage;

use super::EvaluationError;
use crate::dataset::trajectories::{self, TrajectoryError};
use crate::index::HeldOut;
use crate::jsonl::JsonlError;
use crate::progress::Progress;
use crate::rollout::READ_AT_ONCE;
use crate::snapshot::stored::{self, StoredError};
use crate::store::Store;

/// Where each line that was trained on is from.
const LINEAGE: &str = "dataset/lineage.jsonl";

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Contamination {
    /// Trajectories whose patch touches what was set aside.
    pub(super) touching: u64,
    /// Trajectories whose patch is not in the store.
    pub(super) unchecked: u64,
}

/// Looks at every trajectory of the store's dataset; nothing is found where there is none, as for a model that was trained elsewhere.
pub(super) async fn look(store: &Store, folder: &Path, progress: &Progress) -> Result<Contamination, EvaluationError> {
    let Some(lineage) = store.read_data(LINEAGE).await? else { return Ok(Contamination::default()) };
    let malformed = |error: serde_json::Error| EvaluationError::Lineage(LINEAGE.to_owned(), error.to_string());
    let lines = lineage.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines = lines.map(serde_json::from_slice).collect::<Result<Vec<Lineage>, _>>().map_err(malformed)?;
    let manifest = stored::manifest(store).await?;
    let step = progress.step("looking at what was trained on");
    let functions = stored::functions(store, &manifest, folder, &step).await?;
    let functions = functions.collect::<Result<Vec<_>, JsonlError>>().map_err(StoredError::from)?;
    let held_out = HeldOut::of(functions);
    let found: Vec<Option<bool>> = stream::iter(&lines)
        .map(|line| touches(store, &held_out, line))
        .buffer_unordered(READ_AT_ONCE)
        .try_collect()
        .await?;
    let count = |wanted| found.iter().filter(|found| **found == wanted).count() as u64;
    Ok(Contamination { touching: count(Some(true)), unchecked: count(None) })
}

/// Whether a trajectory's patch touches what was set aside; none where the store has no such rollout.
async fn touches(store: &Store, held_out: &HeldOut, line: &Lineage) -> Result<Option<bool>, TrajectoryError> {
    let Some(record) = trajectories::record(store, &line.batch, line.sample, line.rollout).await? else {
        return Ok(None);
    };
    let patch = trajectories::file(store, &line.batch, &record, &record.patch).await?;
    Ok(Some(held_out.touched(record.function.snapshot, &String::from_utf8_lossy(&patch)).is_some()))
}
