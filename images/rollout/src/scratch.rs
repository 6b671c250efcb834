//! A private folder for what a command needs while it runs. It goes with the command, and what a killed one left is swept by the next.

use std::fs::{File, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// How the folders' names begin.
const PREFIX: &str = "sera-rollout-";
/// The file in it that is locked for as long as its command lives.
const LOCK: &str = "lock";

/// Why there is no scratch folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a scratch folder in {}: {source}; name another one with --scratch", parent.display())]
pub(crate) struct ScratchError {
    parent: PathBuf,
    source: std::io::Error,
}

/// A folder that only this process uses (mode 0700), deleted when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
    /// Held, not read: its lock tells others that this folder is in use.
    _lock: File,
}

impl Scratch {
    /// Makes a folder in `parent`, after deleting those there whose command is dead.
    pub(crate) fn create(parent: &Path) -> Result<Self, ScratchError> {
        let failed = |source| ScratchError { parent: parent.to_owned(), source };
        std::fs::create_dir_all(parent).map_err(failed)?;
        let private = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix(PREFIX).permissions(private).tempdir_in(parent).map_err(failed)?;
        // Locked before it has its name: an unlocked file of that name tells others that its command is dead.
        let unnamed = folder.path().join("lock.new");
        let lock = File::create(&unnamed).map_err(failed)?;
        lock.lock().map_err(failed)?;
        std::fs::rename(unnamed, folder.path().join(LOCK)).map_err(failed)?;
        sweep(parent, folder.path());
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    /// git's children may write for a moment after they were killed, so that one attempt at deleting may miss what they made.
    fn drop(&mut self) {
        for _ in 0..20 {
            match std::fs::remove_dir_all(self.folder.path()) {
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                    std::thread::sleep(std::time::Duration::from_millis(25));
                }
                _ => return,
            }
        }
    }
}

/// Deletes what commands that are dead left in `parent`. Others' folders, and those in use, stay; a failure is worth a line in the log and no more.
fn sweep(parent: &Path, own: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let named_so = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
        if !named_so || path == own || !is_abandoned(&path) {
            continue;
        }
        match std::fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(folder = %path.display(), "deleted what a killed command left"),
            Err(error) => tracing::warn!(folder = %path.display(), "cannot delete what a killed command left: {error}"),
        }
    }
}

/// Whether `folder` is ours by its owner, and the lock in it is nobody's. One without a lock file is just being made.
fn is_abandoned(folder: &Path) -> bool {
    let ours = std::fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw());
    let lock = if ours { File::open(folder.join(LOCK)).ok() } else { None };
    lock.is_some_and(|lock| !matches!(lock.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_is_private_and_goes_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(&parent.path().join("made/on/demand")).unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_command_left_is_swept_and_what_a_live_one_uses_stays() {
        let parent = tempfile::tempdir().unwrap();
        let live = Scratch::create(parent.path()).unwrap();
        let dead = parent.path().join("sera-rollout-dead");
        let foreign = parent.path().join("something-else");
        for folder in [&dead, &foreign] {
            std::fs::create_dir(folder).unwrap();
            File::create(folder.join(LOCK)).unwrap();
        }
        let _next = Scratch::create(parent.path()).unwrap();
        assert!(live.path().exists() && foreign.exists());
        assert!(!dead.exists());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = Scratch::create(Path::new("/proc/scratch")).unwrap_err();
        assert!(error.to_string().contains("/proc/scratch") && error.to_string().contains("--scratch"), "{error}");
    }
}
