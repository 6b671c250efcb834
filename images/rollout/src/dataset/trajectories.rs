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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sera_crds::contract::{FunctionRef, RetriedTurns, RolloutOutcome, TeacherMark, Usage};

    use super::*;
    use crate::testing::damaged;

    const TRAJECTORY: &str = r#"{"version": 1, "sample": 7, "rollout": "First", "tools": [{"a": 1}], "messages": [{"role": "system", "content": "s"},
        {"role": "user", "content": "u"}, {"role": "assistant", "content": "", "reasoning": "hm", "toolCall": {"id": "a", "name": "bash",
        "arguments": {"command": "ls"}}}, {"role": "tool", "toolCallId": "a", "content": "x", "review": false}]}"#;

    fn record() -> RolloutRecord {
        let digest = |name: &str| FileDigest { name: name.into(), bytes: 1, sha256: "44".into() };
        RolloutRecord {
            version: CONTRACT_VERSION,
            sample: 7,
            rollout: RolloutKind::First,
            folder: "pod".into(),
            outcome: RolloutOutcome::Submitted,
            problem: None,
            function: FunctionRef { snapshot: 0, file: "a.go".into(), name: "f".into(), lines: (1, 2) },
            bug_kind: None,
            trajectory: digest("t1.json.zst"),
            patch: digest("p1.diff"),
            usage: Usage::default(),
            retried: RetriedTurns::default(),
            teacher: TeacherMark { model: "m".into(), rehearsal: true },
            prompts: String::new(),
            protections: Vec::new(),
        }
    }

    #[test]
    fn a_trajectory_that_unpacks_to_more_than_any_has_is_damaged() {
        let long = TRAJECTORY.replace("\"x\"", &format!("\"{}\"", "x".repeat(17 << 20)));
        let packed = zstd::encode_all(long.as_bytes(), 1).unwrap();
        assert!(packed.len() < 100_000, "it is a small file");
        assert!(matches!(unpack(&packed, &record()), Err(TrajectoryError::Damaged { .. })));
        let whole = zstd::encode_all(TRAJECTORY.as_bytes(), 1).unwrap();
        assert_eq!(unpack(&whole, &record()).unwrap().messages.len(), 4);
    }

    proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(json in damaged(TRAJECTORY.as_bytes()), at in any::<prop::sample::Index>(), with: u8) {
            let mut packed = zstd::encode_all(json.as_slice(), 1).unwrap();
            let _ = unpack(&packed, &record());
            let at = at.index(packed.len());
            packed[at] = with;
            let _ = unpack(&packed, &record());
            let _ = unpack(&json, &record());
        }
    }
}
