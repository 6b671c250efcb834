//! Forgets built programs that no cluster has used for a while: each change of a pin or of the toolchain makes a new folder in the cache, of up to
//! 500 MB.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long programs are kept that nobody uses: two branches with different pins, worked on in turns, keep both.
const KEPT: Duration = Duration::from_hours(30 * 24);

/// Says that the programs in a folder are in use: its modification time is when they were last asked for.
pub(super) fn mark_used(folder: &Path) {
    // A cache that this user may read and not write is used all the same.
    let _ = File::open(folder).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Deletes the folders in `cache` that were not used for [`KEPT`], and their locks. What cannot be deleted is left for the next time.
pub(super) fn forget(cache: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    for folder in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        if is_unused(&folder, now).unwrap_or(false) {
            let _ = fs::remove_dir_all(&folder).and_then(|()| fs::remove_file(folder.with_extension("lock")));
        }
    }
}

fn is_unused(folder: &Path, now: SystemTime) -> io::Result<bool> {
    let used = fs::metadata(folder)?.modified()?;
    Ok(now.duration_since(used).is_ok_and(|age| age > KEPT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_within_a_month_stays_and_the_rest_goes_with_its_lock() -> io::Result<()> {
        let cache = tempfile::tempdir()?;
        let folder = |name: &str| cache.path().join(name);
        for name in ["etcd-old", "etcd-new"] {
            fs::create_dir(folder(name))?;
            fs::write(folder(name).join("etcd"), "")?;
            fs::write(folder(name).with_extension("lock"), "")?;
            File::open(folder(name))?.set_modified(SystemTime::now() - KEPT - Duration::from_mins(1))?;
        }
        mark_used(&folder("etcd-new"));
        forget(cache.path(), SystemTime::now());
        let mut left: Vec<_> = fs::read_dir(cache.path())?.flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["etcd-new", "etcd-new.lock"]);
        Ok(())
    }
}
