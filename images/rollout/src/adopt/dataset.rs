//! The dataset of an earlier run: its lines, where they come from, the verdicts that chose them, and then its manifest, byte for byte.

use bytes::Bytes;
use sera_crds::contract::{AdoptedDataset, DatasetManifest, VerificationPlan};
use sera_crds::values::AdoptableStage;

use super::{AdoptionError, Courier};
use crate::dataset::{FOLDER, MANIFEST, artifact, taken};

/// A dataset that can be taken over.
pub(super) struct Found {
    encoded: Bytes,
    manifest: DatasetManifest,
}

/// Reads the manifest, and compares it with how lines are to be written.
pub(super) async fn find(courier: &Courier<'_>, asked: Option<&VerificationPlan>) -> Result<Found, AdoptionError> {
    let encoded = courier.document(MANIFEST, AdoptableStage::Dataset).await?;
    let malformed = |source| AdoptionError::Malformed { file: MANIFEST.to_owned(), source };
    let manifest: DatasetManifest = serde_json::from_slice(&encoded).map_err(malformed)?;
    let asked = asked.and_then(|plan| plan.student.as_ref());
    if let (Some(there), Some(asked)) = (&manifest.policy.student, asked) {
        if there.tool_call_format != asked.tool_call_format {
            return Err(AdoptionError::OtherFormat { there: there.tool_call_format, asked: asked.tool_call_format });
        }
        if there.context_length > asked.context_length {
            return Err(AdoptionError::TooLong { there: there.context_length, asked: asked.context_length });
        }
    }
    Ok(Found { encoded, manifest })
}

impl Found {
    /// Copies it; `snapshot` is the sha256 of the manifest of the snapshot beside it.
    pub(super) async fn adopt(self, courier: &Courier<'_>, snapshot: &str) -> Result<AdoptedDataset, AdoptionError> {
        let Self { encoded, manifest } = self;
        if manifest.snapshot != snapshot {
            return Err(AdoptionError::OtherSnapshot);
        }
        if !courier.has(MANIFEST, &encoded).await? {
            let step = courier.progress.step("copying the dataset");
            for file in &manifest.verdicts {
                courier.file(&file.name, &file.into(), &step).await?;
            }
            for file in [&manifest.train, &manifest.eval, &manifest.lineage] {
                courier.file(&format!("{FOLDER}/{}", file.name), &file.into(), &step).await?;
            }
            courier.commit(MANIFEST, encoded.clone()).await?;
        }
        let (accepted_first, accepted_second) = taken(&manifest);
        Ok(AdoptedDataset { manifest: artifact(&encoded), accepted_first, accepted_second })
    }
}
