//! Whether what was found is a checkpoint of this training and what its manifest says, wherever it lies.

use std::path::Path;

use sera_crds::contract::FileDigest;

use super::manifest::VERSION;
use super::{CheckpointError, Manifest, Origin};

/// The manifest that a file has in it.
pub(super) fn manifest(content: &[u8], path: &Path) -> Result<Manifest, CheckpointError> {
    let damaged = |problem: String| CheckpointError::Damaged { path: path.to_owned(), problem };
    let manifest: Manifest = serde_json::from_slice(content).map_err(|error| damaged(error.to_string()))?;
    if !manifest.is_whole(content) {
        return Err(damaged("it is not what was written".to_owned()));
    }
    if manifest.version != VERSION {
        return Err(damaged(format!("its version is {}, and this program reads {VERSION}", manifest.version)));
    }
    Ok(manifest)
}

/// Refuses the checkpoint of another training.
pub(super) fn belongs(manifest: &Manifest, origin: &Origin, folder: &Path) -> Result<(), CheckpointError> {
    let Some((what, found, expected)) = manifest.origin.difference(origin) else { return Ok(()) };
    let (found, expected) = (short(found), short(expected));
    Err(CheckpointError::Foreign { folder: folder.to_owned(), what, found, expected })
}

/// Refuses a file that is not what the manifest says.
pub(super) fn is_as_said(found: &FileDigest, expected: &FileDigest, path: &Path) -> Result<(), CheckpointError> {
    if found == expected {
        return Ok(());
    }
    let problem = format!(
        "it has {} bytes and sha256 {}…, and not {} and {}…",
        found.bytes,
        short(&found.sha256),
        expected.bytes,
        short(&expected.sha256)
    );
    Err(CheckpointError::Damaged { path: path.to_owned(), problem })
}

/// Enough of a digest to tell two apart.
fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
