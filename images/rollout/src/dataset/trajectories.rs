//! Finished rollouts as the store has them: the record that counts, and the trajectory and the patch that it names, each checked against its digest.

use std::io::Read as _;

use sera_crds::contract::{CONTRACT_VERSION, FileDigest, RolloutKind, RolloutRecord, Trajectory};

use crate::failure::{Cause, Explain};
use crate::store::{Digest, Store, StoreError};

/// The longest trajectory that is unpacked, in bytes: some thirty times what a context of 131,072 tokens holds. What is longer is no trajectory.
const MAX_UNPACKED: u64 = 16 << 20;

/// Why a rollout cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrajectoryError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that was accepted is gone.
    #[error("{0} is missing in the store, although its trajectory was accepted: restore it, or verify its batch again")]
    Missing(String),
    /// A file is not what it was.
    #[error("{file} in the store is damaged: {problem}; restore it, or verify its batch again")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Explain for TrajectoryError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Missing(_) | Self::Damaged { .. } => Cause::conflict("TrajectoryDamaged"),
        }
    }
}

/// The folder of a sample.
fn folder(batch: &str, sample: u64) -> String {
    format!("rollouts/{batch}/{sample}")
}

/// The record of a rollout; none where it has none.
pub(crate) async fn record(
    store: &Store,
    batch: &str,
    sample: u64,
    rollout: RolloutKind,
) -> Result<Option<RolloutRecord>, TrajectoryError> {
    let file = format!("{}/{}.json", folder(batch, sample), rollout.stem());
    let Some(content) = store.read(&file).await? else { return Ok(None) };
    let damaged = |problem: String| TrajectoryError::Damaged { file: file.clone(), problem };
    let record: RolloutRecord = serde_json::from_slice(&content).map_err(|error| damaged(error.to_string()))?;
    if record.version != CONTRACT_VERSION {
        return Err(damaged(format!("it has version {}, and this is version {CONTRACT_VERSION}", record.version)));
    }
    Ok(Some(record))
}

/// The bytes of a file that a record names.
pub(crate) async fn file(
    store: &Store,
    batch: &str,
    record: &RolloutRecord,
    file: &FileDigest,
) -> Result<bytes::Bytes, TrajectoryError> {
    let name = format!("{}/{}/{}", folder(batch, record.sample), record.folder, file.name);
    let content = store.read_data(&name).await?.ok_or_else(|| TrajectoryError::Missing(name.clone()))?;
    if Digest::of(&content).sha256 == file.sha256 {
        return Ok(content);
    }
    Err(TrajectoryError::Damaged { file: name, problem: "its sha256 is not what its record says".to_owned() })
}

/// Unpacks a trajectory.
pub(crate) fn unpack(packed: &[u8], record: &RolloutRecord) -> Result<Trajectory, TrajectoryError> {
    let damaged = |problem: String| TrajectoryError::Damaged { file: record.trajectory.name.clone(), problem };
    let mut json = Vec::new();
    zstd::Decoder::new(packed)
        .and_then(|decoder| decoder.take(MAX_UNPACKED).read_to_end(&mut json))
        .map_err(|error| damaged(error.to_string()))?;
    serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))
}
