//! Files that appear whole or not at all: written beside their place, flushed to the disk, then renamed into it.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use sera_crds::contract::FileDigest;

use super::FilesError;
use super::model_dir::file_name;
use crate::durable;

/// A file that has not got its name yet. Dropped before it is placed, it is gone; left by a killed process, the next try writes over it.
#[derive(Debug)]
pub(super) struct Beside {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    placed: bool,
}

impl Beside {
    /// An empty file that is to become `name` in `folder`.
    pub(super) fn new(folder: &Path, name: &str) -> Result<Self, FilesError> {
        let (temporary, target) = (folder.join(format!(".{name}.partial")), folder.join(name));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&temporary);
        let file = file.map_err(FilesError::write(&target))?;
        Ok(Self { file, temporary, target, placed: false })
    }

    /// The file, to be written to.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Where it will be.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Makes sure that the content is on the disk, and says what it is.
    pub(super) fn seal(&self) -> Result<FileDigest, FilesError> {
        self.file.sync_all().map_err(FilesError::write(&self.target))?;
        digest(&self.file, &self.target)
    }

    /// Gives it its name.
    pub(super) fn place(mut self) -> Result<(), FilesError> {
        std::fs::rename(&self.temporary, &self.target).map_err(FilesError::write(&self.target))?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.placed {
            // It is scratch: what cannot be removed is written over by the next try.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Makes new names in a directory last.
pub(super) fn sync_folder(folder: &Path) -> Result<(), FilesError> {
    durable::sync_folder(folder).map_err(FilesError::write(folder))
}

/// Writes a small file whole.
pub(super) fn write(folder: &Path, name: &str, content: &[u8]) -> Result<FileDigest, FilesError> {
    let mut beside = Beside::new(folder, name)?;
    beside.file.write_all(content).map_err(FilesError::write(&beside.target))?;
    let digest = beside.seal()?;
    beside.place()?;
    Ok(digest)
}

/// Removes those files of a directory whose names are such.
pub(super) fn remove_all(folder: &Path, is: impl Fn(&str) -> bool) -> Result<(), FilesError> {
    for entry in std::fs::read_dir(folder).map_err(FilesError::read(folder))? {
        let path = entry.map_err(FilesError::read(folder))?.path();
        if is(&file_name(&path)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file that need not be there.
pub(super) fn remove(path: &Path) -> Result<(), FilesError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(FilesError::write(path)),
    }
}

/// Name, size and sha256 of an open file.
pub(super) fn digest(file: &File, path: &Path) -> Result<FileDigest, FilesError> {
    durable::digest_open(file, path).map_err(FilesError::read(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_placed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        std::fs::write(&target, "old").unwrap();
        let mut beside = Beside::new(folder.path(), "a").unwrap();
        beside.file.write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        let digest = beside.seal().unwrap();
        beside.place().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!((digest.name.as_str(), digest.bytes), ("a", 3));
        assert_eq!(digest.sha256, "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437");
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Beside::new(folder.path(), "a").unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
