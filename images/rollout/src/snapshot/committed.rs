//! What the store has of a snapshot already: the manifest that makes it one, and whether its files are still what the manifest says.

use bytes::Bytes;
use sera_crds::contract::{Artifact, CONTRACT_VERSION, SnapshotFile, SnapshotManifest, SnapshotSource, StageResult};
use serde::Deserialize;
use serde::de::Error as _;

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

/// A manifest's bytes as a termination message names them.
pub(crate) fn artifact(encoded: &[u8]) -> Artifact {
    Artifact { path: MANIFEST.to_owned(), sha256: Digest::of(encoded).sha256 }
}

/// The newest of a snapshot's commits, and how many it has.
pub(crate) fn commits(manifest: &SnapshotManifest) -> (String, u32) {
    let newest = manifest.commits.first().map(|commit| commit.original.clone()).unwrap_or_default();
    (newest, u32::try_from(manifest.commits.len()).unwrap_or(u32::MAX))
}

/// What a finished stage reports of a manifest and its bytes.
pub(crate) fn result(manifest: &SnapshotManifest, encoded: &[u8]) -> StageResult {
    let (commit, commits) = commits(manifest);
    StageResult::Snapshot { manifest: artifact(encoded), commit, commits, bundle_bytes: manifest.bundle.bytes }
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
        if store.digest(&path(file), &step).await? != Some(Digest::from(file)) {
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
    let manifest: SnapshotManifest = serde_json::from_slice(encoded).map_err(CommittedError::Malformed)?;
    match manifest.files().into_iter().find(|file| !is_name(&file.path)) {
        None => Ok(manifest),
        Some(file) => {
            let problem = format!("'{}' is no name of a file beside it", file.path.escape_debug());
            Err(CommittedError::Malformed(serde_json::Error::custom(problem)))
        }
    }
}

/// Whether a file of this name lies beside the manifest, and beside nothing else when it is downloaded.
fn is_name(path: &str) -> bool {
    !matches!(path, "" | "." | "..") && !path.contains(['/', '\\', '\0'])
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::damaged;

    const MANIFEST: &str = r#"{"version": 1, "source": {"url": "https://h/a", "revision": "main", "commits": 1, "lookbackDays": 0, "submodules": false,
        "selection": {"include": [], "exclude": [], "languages": ["Go"], "heldOutFraction": "0.05", "heldOutSeed": 42}}, "commits": [{"original": "1", "commit": "2",
        "tree": "3", "reference": "refs/snapshots/0", "committedAt": "2026-01-02T03:04:05Z"}], "bundle": {"path": "repository.bundle",
        "bytes": 9, "sha256": "44"}, "functions": {"path": "functions.jsonl.zst", "bytes": 8, "sha256": "55"}, "index": [],
        "style": {"path": "style.jsonl.zst", "bytes": 7, "sha256": "66"}, "styleOrigins": {}}"#;

    #[test]
    fn a_manifest_names_files_beside_itself_and_nowhere_else() {
        assert!(decode(MANIFEST.as_bytes()).is_ok(), "{:?}", decode(MANIFEST.as_bytes()));
        for path in ["../functions", "/etc/passwd", "a/b", "..", ""] {
            let text = MANIFEST.replace("functions.jsonl.zst", path);
            let error = decode(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("no name of a file beside it"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_manifest_makes_the_reader_panic(bytes in damaged(MANIFEST.as_bytes())) {
            if let Ok(manifest) = decode(&bytes) {
                prop_assert!(manifest.files().iter().all(|file| is_name(&file.path)));
            }
        }
    }
}
