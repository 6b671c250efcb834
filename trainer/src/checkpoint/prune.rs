//! Removes old checkpoints: the last few stay, and the one with the lowest loss on the lines set aside.

use std::path::{Path, PathBuf};

use super::{Checkpoint, CheckpointError, Checkpoints, folder};

/// How many of the newest stay: the last, the one before it should that be torn, and one more.
const KEPT: usize = 3;

impl Checkpoints {
    /// Removes what is not needed. What cannot be removed is left with a word: the training does not end for it.
    pub(super) fn prune(&self) {
        if let Err(error) = self.try_prune() {
            tracing::warn!("old checkpoints are not removed: {error}");
        }
    }

    fn try_prune(&self) -> Result<(), CheckpointError> {
        let all: Vec<Checkpoint> =
            folder::all(&self.root)?.into_iter().filter_map(|(_, _, path)| Checkpoint::open(&path).ok()).collect();
        let loss = |checkpoint: &Checkpoint| checkpoint.manifest.sums.eval_loss.filter(|loss| loss.is_finite());
        let best = all.iter().filter(|checkpoint| loss(checkpoint).is_some());
        let best = best.min_by(|a, b| loss(a).unwrap_or_default().total_cmp(&loss(b).unwrap_or_default()));
        for old in all.iter().skip(KEPT).filter(|old| best.is_none_or(|best| best.folder != old.folder)) {
            remove(&old.folder)?;
        }
        self.sweep()
    }

    /// What was not finished, or not wholly removed, by a process that is no more.
    fn sweep(&self) -> Result<(), CheckpointError> {
        for (_, attempt) in folder::entries(&self.root)? {
            if !attempt.is_dir() {
                continue;
            }
            for (name, path) in folder::entries(&attempt)? {
                if folder::is_left_over(&name) {
                    std::fs::remove_dir_all(&path).map_err(|source| CheckpointError::Read { path, source })?;
                }
            }
        }
        Ok(())
    }
}

/// Takes a checkpoint's name away first, so that half of it is never found.
fn remove(checkpoint: &Path) -> Result<(), CheckpointError> {
    let failed = |path: &Path, source| CheckpointError::Write { folder: path.to_owned(), source };
    let name = checkpoint.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside: PathBuf = checkpoint.with_file_name(format!(".{name}.tmp"));
    std::fs::rename(checkpoint, &aside).map_err(|source| failed(checkpoint, source))?;
    std::fs::remove_dir_all(&aside).map_err(|source| failed(&aside, source))
}
