//! What was found where a checkpoint should be: what its manifest says, whether its files are what that says, and what the ranks make of it together,
//! wherever it lies.

use std::path::Path;

use sera_crds::contract::FileDigest;

use super::attempt::short;
use super::manifest::VERSION;
use super::{Checkpoint, CheckpointError, Manifest};
use crate::ranks::Collective;

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

/// What the ranks come to, each of which has `found` its share of the checkpoint `name` or not: nothing where it is passed over. A share that cannot be
/// had for now says nothing about the checkpoint, and ends all ranks: an older one would be gone on from, and the work since be lost.
pub(super) fn together(
    found: Result<Checkpoint, CheckpointError>,
    name: &Path,
    ranks: &mut dyn Collective,
) -> Result<Option<Checkpoint>, CheckpointError> {
    let is_passed_over = found.as_ref().is_err_and(CheckpointError::is_passed_over);
    let mut votes = [is_passed_over, found.is_err() && !is_passed_over].map(|vote| if vote { 1.0 } else { 0.0 });
    ranks.all_reduce_f64(&mut votes)?;
    let [passed_over, failed] = votes.map(|votes| votes > 0.0);
    match found {
        Err(error) if !is_passed_over => Err(error),
        _ if failed => Err(CheckpointError::NotBrought { name: name.display().to_string() }),
        Err(problem) => {
            tracing::warn!("the checkpoint {} is passed over: {problem}", name.display());
            Ok(None)
        }
        Ok(checkpoint) => Ok(Some(checkpoint).filter(|_| !passed_over)),
    }
}
