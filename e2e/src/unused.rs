//! Forgets folders of a cache that nobody has used for a while. What is in them, and how they are named, is the business of who fills the cache: what
//! is named otherwise is somebody else's, and stays.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Which folders stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// Those that were used within this time.
    pub(crate) within: Duration,
    /// And so many of those that were used last, however long ago.
    pub(crate) last: usize,
}

/// Says that a folder is in use: its modification time is when it was last asked for.
pub(crate) fn mark_used(folder: &Path) {
    // A cache that this user may read and not write is used all the same.
    let _ = File::open(folder).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Deletes the folders in `cache` that `is_ours` by their names and that are not to be kept, and their locks. What cannot be deleted is left for the
/// next time.
pub(crate) fn forget(cache: &Path, keep: Keep, is_ours: impl Fn(&str) -> bool) {
    let (now, mut folders) = (SystemTime::now(), folders(cache, is_ours));
    folders.sort_by_key(|(used, _)| Reverse(*used));
    let is_unused = |used: SystemTime| now.duration_since(used).is_ok_and(|age| age > keep.within);
    for (_, folder) in folders.into_iter().skip(keep.last).filter(|(used, _)| is_unused(*used)) {
        let _ = fs::remove_dir_all(&folder).and_then(|()| fs::remove_file(folder.with_extension("lock")));
    }
}

/// The folders, and when each was last used.
fn folders(cache: &Path, is_ours: impl Fn(&str) -> bool) -> Vec<(SystemTime, PathBuf)> {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    let folder = |entry: fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_dir)?;
        let is_one = entry.file_name().to_str().is_some_and(&is_ours);
        is_one.then_some((metadata.modified().ok()?, entry.path()))
    };
    entries.filter_map(folder).collect()
}

/// Whether a name is one of `stems`, a dash, and so many digits of a digest.
pub(crate) fn is_digest_of<'a>(name: &str, mut stems: impl Iterator<Item = &'a str>, digits: usize) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.rsplit_once('-').is_some_and(|(stem, digest)| {
        digest.len() == digits && digest.bytes().all(is_digit) && stems.any(|known| known == stem)
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const MONTH: Duration = Duration::from_hours(30 * 24);

    /// What is left of a cache whose folders were last used so many days ago.
    fn left(folders: &[(&str, u32)], keep: Keep) -> io::Result<Vec<String>> {
        let cache = tempfile::tempdir()?;
        for (name, days) in folders {
            let folder = cache.path().join(name);
            fs::create_dir(&folder)?;
            fs::write(folder.join("etcd"), "")?;
            fs::write(folder.with_extension("lock"), "")?;
            File::open(folder)?.set_modified(SystemTime::now() - Duration::from_hours(24) * *days)?;
        }
        mark_used(&cache.path().join("etcd-0123456789abcdee"));
        forget(cache.path(), keep, |name| is_digest_of(name, ["etcd"].into_iter(), 16));
        let mut left: Vec<_> = fs::read_dir(cache.path())?.flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        Ok(left.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn what_was_used_within_a_month_stays_and_the_rest_goes_with_its_lock() -> io::Result<()> {
        let folders = [("etcd-0123456789abcdef", 31), ("etcd-0123456789abcdee", 31), ("etcd-0123456789abcded", 29)];
        let expected = ["etcd-0123456789abcded", "etcd-0123456789abcdee"];
        let expected = expected.map(|name| [name.to_owned(), format!("{name}.lock")]).concat();
        assert_eq!(left(&folders, Keep { within: MONTH, last: 0 })?, expected);
        assert_eq!(
            left(&folders, Keep { within: MONTH, last: 3 })?.len(),
            6,
            "the last ones stay however old they are"
        );
        assert_eq!(left(&folders, Keep { within: Duration::ZERO, last: 2 })?, expected);
        Ok(())
    }

    #[test]
    fn what_is_not_named_as_ours_stays_however_old_it_is() -> io::Result<()> {
        for other in ["etcd", "etcd-old", "prod-0123456789abcdef", "etcd-0123456789ABCDEF", "etcd-0123456789abcdef0"] {
            let left = left(&[(other, 400), ("etcd-0123456789abcdef", 400)], Keep { within: MONTH, last: 0 })?;
            assert_eq!(left, [other.to_owned(), format!("{other}.lock")]);
        }
        Ok(())
    }
}
