//! The snapshot of an earlier run: its files, and then its manifest, byte for byte.

use sera_crds::contract::Artifact;
use sera_crds::values::AdoptableStage;

use super::{AdoptionError, Courier};
use crate::snapshot::committed::{self, MANIFEST};
use crate::store::Digest;

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
            let expected = Digest { bytes: file.bytes, sha256: file.sha256.clone() };
            courier.file(&committed::path(file), &expected, &step).await?;
        }
        courier.commit(MANIFEST, encoded.clone()).await?;
    }
    let commits = u32::try_from(manifest.commits.len()).unwrap_or(u32::MAX);
    let artifact = Artifact { path: MANIFEST.to_owned(), sha256: Digest::of(&encoded).sha256 };
    let commit = manifest.commits.first().map(|commit| commit.original.clone()).unwrap_or_default();
    Ok(Adopted { manifest: artifact, commit, commits })
}
