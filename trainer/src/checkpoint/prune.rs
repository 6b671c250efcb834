//! Removes old checkpoints: the last few stay, and the one with the lowest loss on the lines set aside.

use std::path::{Path, PathBuf};

use super::{Checkpoint, CheckpointError, Checkpoints, folder};

/// How many of the newest stay: the last, the one before it should that be torn, and one more.
const KEPT: usize = 3;

/// Which checkpoints stay, by the losses on the lines set aside of those that were looked at, the newest first.
pub(super) fn kept(losses: &[Option<f64>]) -> Vec<bool> {
    let finite = losses.iter().enumerate().filter_map(|(at, loss)| Some((at, loss.filter(|loss| loss.is_finite())?)));
    let best = finite.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at);
    (0..losses.len()).map(|at| at < KEPT || best == Some(at)).collect()
}

impl Checkpoints {
    /// Removes what is not needed. What cannot be removed is left with a word: the training does not end for it.
    pub(super) fn prune(&self) {
        if let Err(error) = self.try_prune() {
            tracing::warn!("old checkpoints are not removed: {error}");
        }
    }

    /// Removes what was not finished, before another is written. What cannot be removed is left with a word: there may be room enough.
    pub(super) fn make_room(&self) {
        if let Err(error) = self.sweep() {
            tracing::warn!("what was not finished is not removed: {error}");
        }
    }

    fn try_prune(&self) -> Result<(), CheckpointError> {
        let all: Vec<Checkpoint> =
            folder::all(&self.root)?.into_iter().filter_map(|(_, _, path)| Checkpoint::open(&path).ok()).collect();
        let losses: Vec<Option<f64>> = all.iter().map(|checkpoint| checkpoint.manifest.eval_loss()).collect();
        for (old, _) in all.iter().zip(kept(&losses)).filter(|(_, kept)| !kept) {
            remove(&old.folder)?;
        }
        self.sweep()
    }

    /// What was not finished, or not wholly removed, by a process that is no more: of this attempt and those before it, since a later one may write.
    fn sweep(&self) -> Result<(), CheckpointError> {
        for (attempt, folder) in folder::attempts(&self.root)? {
            if attempt > self.attempt || !folder.is_dir() {
                continue;
            }
            for (name, path) in folder::entries(&folder)? {
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
