//! What the store has of a snapshot already: the manifest that makes it one, and whether its files are still what the manifest says.

use bytes::Bytes;
use sera_crds::contract::{Artifact, CONTRACT_VERSION, SnapshotFile, SnapshotManifest, SnapshotSource, StageResult};
use serde::Deserialize;

use crate::failure::{Cause, Explain};
use crate::progress::Progress;
use crate::store::{Digest, Store, StoreError};

/// The manifest's name in the run's folder.
pub(crate) const MANIFEST: &str = "snapshot/manifest.json";
/// The folder of both.
pub(super) const FOLDER: &str = "snapshot";

/// Why what is in the store cannot be built on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommittedError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The snapshot is of something else.
    #[error(
        "the store already has a snapshot of something else ({difference}): use another folder, or delete {MANIFEST} and everything that was made from it"
    )]
    OtherSource {
        /// What differs.
        difference: String,
    },
    /// The manifest is not one of this version.
    #[error(
        "{MANIFEST} in the store is of version {found}, and this program knows {CONTRACT_VERSION}: use images of one release"
    )]
    OtherVersion {
        /// Its version.
        found: u32,
    },
    /// The manifest is no manifest.
    #[error("{MANIFEST} in the store is not a snapshot's manifest ({0}): use another folder")]
    Malformed(#[source] serde_json::Error),
    /// A file is not what the manifest says, and cannot be made again.
    #[error(
        "{file} in the store is not what its manifest says, and taking it again gave other bytes: delete the folder {FOLDER} and everything that was made from it"
    )]
    Damaged {
        /// The file's name in the run's folder.
        file: String,
    },
    /// Another process committed another snapshot at the same time.
    #[error("another process wrote a snapshot at the same time: run this again to have it checked")]
    Raced,
}

impl Explain for CommittedError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::OtherSource { .. } => Cause::conflict("SnapshotOfAnotherSource"),
            Self::OtherVersion { .. } => Cause::conflict("ManifestOfAnotherVersion"),
            Self::Malformed(_) => Cause::conflict("ManifestMalformed"),
            Self::Damaged { .. } => Cause::conflict("SnapshotDamaged"),
            Self::Raced => Cause::unavailable("SnapshotRaced"),
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// No manifest: nothing that counts.
    Nothing,
    /// A snapshot of what was asked for.
    Whole(StageResult),
    /// A manifest of what was asked for, and the files that are missing or are not what it says.
    Damaged(Box<SnapshotManifest>, Vec<SnapshotFile>, StageResult),
}

/// The name in the run's folder of a file beside the manifest.
pub(crate) fn path(file: &SnapshotFile) -> String {
    format!("{FOLDER}/{}", file.path)
}

/// A manifest's bytes, as they are in the store.
pub(crate) fn encode(manifest: &SnapshotManifest) -> Result<Bytes, CommittedError> {
    let mut text = serde_json::to_vec_pretty(manifest).map_err(CommittedError::Malformed)?;
    text.push(b'\n');
    Ok(text.into())
}

/// What a finished stage reports of a manifest and its bytes.
pub(crate) fn result(manifest: &SnapshotManifest, encoded: &[u8]) -> StageResult {
    StageResult::Snapshot {
        manifest: Artifact { path: MANIFEST.to_owned(), sha256: Digest::of(encoded).sha256 },
        commit: manifest.commits.first().map(|commit| commit.original.clone()).unwrap_or_default(),
        commits: u32::try_from(manifest.commits.len()).unwrap_or(u32::MAX),
        bundle_bytes: manifest.bundle.bytes,
    }
}

/// Looks for a snapshot of `source`, and reads its files to be sure.
pub(crate) async fn find(store: &Store, source: &SnapshotSource, progress: &Progress) -> Result<Found, CommittedError> {
    let Some(encoded) = store.read(MANIFEST).await? else { return Ok(Found::Nothing) };
    let manifest = decode(&encoded)?;
    if let Some(difference) = difference(&manifest.source, source) {
        return Err(CommittedError::OtherSource { difference });
    }
    let step = progress.step("checking the snapshot in the store");
    let mut damaged = Vec::new();
    for file in manifest.files() {
        let expected = Digest { bytes: file.bytes, sha256: file.sha256.clone() };
        if store.digest(&path(file), &step).await? != Some(expected) {
            damaged.push(file.clone());
        }
    }
    let result = result(&manifest, &encoded);
    Ok(if damaged.is_empty() { Found::Whole(result) } else { Found::Damaged(Box::new(manifest), damaged, result) })
}

/// Reads a manifest of this version.
pub(crate) fn decode(encoded: &[u8]) -> Result<SnapshotManifest, CommittedError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(encoded).map_err(CommittedError::Malformed)?;
    if version != CONTRACT_VERSION {
        return Err(CommittedError::OtherVersion { found: version });
    }
    serde_json::from_slice(encoded).map_err(CommittedError::Malformed)
}

/// What differs between what is there and what is asked for, in words.
fn difference(there: &SnapshotSource, asked: &SnapshotSource) -> Option<String> {
    let [one, other] = [&there.selection, &asked.selection];
    let pairs = [
        ("url", there.url.clone(), asked.url.clone()),
        ("revision", there.revision.clone(), asked.revision.clone()),
        ("commits", there.commits.to_string(), asked.commits.to_string()),
        ("lookback days", there.lookback_days.to_string(), asked.lookback_days.to_string()),
        ("include", listed(&one.include), listed(&other.include)),
        ("exclude", listed(&one.exclude), listed(&other.exclude)),
        ("languages", listed(&one.languages), listed(&other.languages)),
        ("held-out fraction", one.held_out_fraction.to_string(), other.held_out_fraction.to_string()),
        ("held-out seed", one.held_out_seed.to_string(), other.held_out_seed.to_string()),
        ("submodules", there.submodules.to_string(), asked.submodules.to_string()),
    ];
    let differing: Vec<String> = pairs
        .into_iter()
        .filter(|(_, there, asked)| there != asked)
        .map(|(what, there, asked)| format!("{what}: '{there}' there, '{asked}' asked for"))
        .collect();
    (!differing.is_empty()).then(|| differing.join("; "))
}

fn listed(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
