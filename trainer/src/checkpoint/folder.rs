//! The names of the folders that checkpoints lie in.

use std::path::{Path, PathBuf};

use super::CheckpointError;

/// What an attempt's folder begins with.
const ATTEMPT: &str = "a";
/// What a checkpoint's folder begins with.
const STEP: &str = "step-";

/// The folder of an attempt.
pub(super) fn of_attempt(root: &Path, attempt: u32) -> PathBuf {
    root.join(format!("{ATTEMPT}{attempt}"))
}

/// The attempt that a checkpoint's folder is of, by where it lies.
pub(super) fn attempt(checkpoint: &Path) -> Option<u32> {
    checkpoint.parent()?.file_name()?.to_str()?.strip_prefix(ATTEMPT)?.parse().ok()
}

/// The name of a checkpoint's folder.
pub(super) fn name(step: u32) -> String {
    format!("{STEP}{step:06}")
}

/// The step and the attempt of the checkpoint that a name such as `a1/step-000123/manifest.json` is in, and the rest of the name.
pub(super) fn parsed(name: &str) -> Option<(u32, u32, &str)> {
    let (attempt, rest) = name.strip_prefix(ATTEMPT)?.split_once('/')?;
    let (step, file) = rest.strip_prefix(STEP)?.split_once('/')?;
    Some((step.parse().ok()?, attempt.parse().ok()?, file))
}

/// The name of the folder that becomes it.
pub(super) fn unfinished(step: u32) -> String {
    format!(".{}.tmp", name(step))
}

/// Whether a folder is one that was not finished, or not wholly removed.
pub(super) fn is_left_over(name: &str) -> bool {
    name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp")).is_some_and(|name| name.starts_with(STEP))
}

/// The name of a rank's part.
pub(super) fn part(rank: usize, world: usize) -> String {
    format!("rank-{rank:04}-of-{world:04}.safetensors")
}

/// The folders of all checkpoints, whole or not, with their steps and attempts: the newest first.
pub(super) fn all(root: &Path) -> Result<Vec<(u32, u32, PathBuf)>, CheckpointError> {
    let mut found = Vec::new();
    for (attempt, folder) in attempts(root)? {
        found.extend(numbered(&folder, STEP)?.into_iter().map(|(step, path)| (step, attempt, path)));
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

/// The folders of all attempts, with their numbers.
pub(super) fn attempts(root: &Path) -> Result<Vec<(u32, PathBuf)>, CheckpointError> {
    numbered(root, ATTEMPT)
}

/// What is in a folder and is named by a number after `prefix`; nothing where there is no folder.
fn numbered(folder: &Path, prefix: &str) -> Result<Vec<(u32, PathBuf)>, CheckpointError> {
    Ok(entries(folder)?
        .into_iter()
        .filter_map(|(name, path)| Some((name.strip_prefix(prefix)?.parse().ok()?, path)))
        .collect())
}

/// What is in a folder, by name; nothing where there is no folder.
pub(super) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, CheckpointError> {
    let unreadable = |source| CheckpointError::Read { path: folder.to_owned(), source };
    let listing = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(unreadable)?,
    };
    listing
        .map(|entry| {
            entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).map_err(unreadable)
        })
        .collect()
}
