//! The snapshot of an earlier run: its files, and then its manifest, byte for byte.

use sera_crds::contract::Artifact;
use sera_crds::values::AdoptableStage;

use super::{AdoptionError, Courier};
use crate::snapshot::committed::{self, MANIFEST};

/// A snapshot that was taken over.
pub(super) struct Adopted {
    /// Its manifest.
    pub manifest: Artifact,
    /// The newest of its commits.
    pub commit: String,
    /// How many it has.
    pub commits: u32,
}

pub(super) async fn adopt(courier: &Courier<'_>) -> Result<Adopted, AdoptionError> {
    let encoded = courier.document(MANIFEST, AdoptableStage::Snapshot).await?;
    let manifest = committed::decode(&encoded)?;
    if !courier.has(MANIFEST, &encoded).await? {
        let step = courier.progress.step("copying the snapshot");
        for file in manifest.files() {
            courier.file(&committed::path(file), &file.into(), &step).await?;
        }
        courier.commit(MANIFEST, encoded.clone()).await?;
    }
    let (commit, commits) = committed::commits(&manifest);
    Ok(Adopted { manifest: committed::artifact(&encoded), commit, commits })
}
