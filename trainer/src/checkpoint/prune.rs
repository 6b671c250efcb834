//! Removes old checkpoints: the last few stay, and the one with the lowest loss on the lines set aside.

use std::path::{Path, PathBuf};

use super::{Attempt, Checkpoint, CheckpointError, Checkpoints, Manifest, folder};

/// How many of the newest stay: the last, the one before it should that be torn, and one more.
const KEPT: usize = 3;

/// A checkpoint that is complete, as far as that decides whether it stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Complete {
    step: u32,
    /// The loss on the lines set aside, where it was looked at.
    loss: Option<f64>,
    /// Whether it is of a plan that was put right since.
    is_replaced: bool,
}

impl Complete {
    /// That of a step of attempt `of`, as `attempt` sees it; without a manifest where that cannot be read.
    pub(super) fn of(step: u32, manifest: Option<&Manifest>, of: u32, attempt: &Attempt) -> Self {
        Self {
            step,
            loss: manifest.and_then(Manifest::eval_loss).filter(|loss| loss.is_finite()),
            is_replaced: manifest.is_some_and(|manifest| attempt.has_replaced(of, manifest)),
        }
    }
}

/// Which of these checkpoints, the newest first, stay once that of step `written` is complete. One of a later step was passed over when this attempt
/// began: it says nothing about what is needed, and takes no other one's place. Nothing will go on from one of a plan that was put right since.
pub(super) fn kept(found: &[Complete], written: u32) -> Vec<bool> {
    let counts = |one: &Complete| one.step <= written && !one.is_replaced;
    let losses = found.iter().enumerate().filter(|(_, one)| counts(one)).filter_map(|(at, one)| Some((at, one.loss?)));
    let best = losses.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at);
    let mut newer = 0;
    let stays = |(at, one): (usize, &Complete)| {
        if !counts(one) {
            return !one.is_replaced;
        }
        newer += 1;
        newer <= KEPT || best == Some(at)
    };
    found.iter().enumerate().map(stays).collect()
}

impl Checkpoints {
    /// Removes what is not needed once that of step `written` is complete. What cannot be removed is left with a word: the training does not end for it.
    pub(super) fn prune(&self, written: u32) {
        if let Err(error) = self.try_prune(written) {
            tracing::warn!("old checkpoints are not removed: {error}");
        }
    }

    /// Removes what was not finished, before another is written. What cannot be removed is left with a word: there may be room enough.
    pub(super) fn make_room(&self) {
        if let Err(error) = self.sweep() {
            tracing::warn!("what was not finished is not removed: {error}");
        }
    }

    fn try_prune(&self, written: u32) -> Result<(), CheckpointError> {
        let opened = |(step, of, path): (u32, u32, PathBuf)| {
            let manifest = Checkpoint::open(&path).ok()?.manifest;
            Some((path, Complete::of(step, Some(&manifest), of, &self.attempt)))
        };
        let (folders, complete): (Vec<_>, Vec<_>) = folder::all(&self.root)?.into_iter().filter_map(opened).unzip();
        for (old, _) in folders.iter().zip(kept(&complete, written)).filter(|(_, kept)| !kept) {
            remove(old)?;
        }
        self.sweep()
    }

    /// What was not finished, or not wholly removed, by a process that is no more: of this attempt and those before it, since a later one may write.
    fn sweep(&self) -> Result<(), CheckpointError> {
        for (attempt, folder) in folder::attempts(&self.root)? {
            if attempt > self.attempt.number || !folder.is_dir() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_none_that_was_passed_over_or_whose_plan_was_put_right() {
        let one = |step, loss| Complete { step, loss, is_replaced: false };
        let found = [
            one(90, Some(0.1)),
            Complete { is_replaced: true, ..one(60, Some(0.2)) },
            one(50, None),
            one(40, Some(0.4)),
            one(30, None),
            one(20, Some(0.3)),
            one(10, Some(0.5)),
        ];
        assert_eq!(kept(&found, 50), [true, false, true, true, true, true, false]);
        assert_eq!(kept(&found, 90), [true, false, true, true, false, false, false]);
    }
}
