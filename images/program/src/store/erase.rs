//! Deleting all that a folder of a store has, and nothing beside it. A folder of this machine is walked without following a link, since others may
//! have written to it too; what is cut off in the middle is gone on with by doing it again.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use object_store::path::Path;

use super::{Store, StoreError};
use crate::progress::Step;

/// How often a bucket is listed and emptied before what is still there is somebody's who writes to it.
const ROUNDS: usize = 3;
/// How the folder is opened, and every one in it: a link is refused.
const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// How many files.
    pub files: u64,
    /// Their size together, in bytes.
    pub bytes: u64,
}

impl Store {
    /// Deletes the whole folder that this store was opened at. One that is not there is as good as deleted.
    pub async fn erase(&self, step: Arc<Step>) -> Result<Erased, StoreError> {
        match self.local.clone() {
            Some(folder) => {
                let uri = self.uri.clone();
                let erasing = tokio::task::spawn_blocking(move || erase_folder(&folder, &step));
                let erased = erasing.await.unwrap_or_else(|error| Err(io::Error::other(error)));
                erased.map_err(|source| StoreError::from_system(source, uri))
            }
            None => self.erase_objects(&step).await,
        }
    }

    async fn erase_objects(&self, step: &Step) -> Result<Erased, StoreError> {
        let mut erased = Erased::default();
        for _ in 0..ROUNDS {
            let before = erased;
            // What is asked to go, and has not been said to be gone: a store takes a thousand names at once.
            let asked: Arc<Mutex<HashMap<Path, u64>>> = Arc::default();
            let sizes = Arc::clone(&asked);
            let listed = self.objects.list(Some(&self.root)).map_ok(move |object| {
                lock(&sizes).insert(object.location.clone(), object.size);
                object.location
            });
            let mut deleted = self.objects.delete_stream(listed.boxed());
            while let Some(location) = deleted.next().await {
                match location {
                    Ok(location) => erased.add(lock(&asked).remove(&location).unwrap_or_default()),
                    // Another attempt may be at its end while this one begins.
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(self.explain(error)),
                }
                step.update("deleting", erased.files, 0);
            }
            if erased == before {
                return Ok(erased);
            }
        }
        match self.objects.list(Some(&self.root)).try_next().await.map_err(|error| self.explain(error))? {
            Some(object) => Err(StoreError::NotErased { uri: self.uri.clone(), name: object.location.to_string() }),
            None => Ok(erased),
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Erased {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// Deletes a folder of this machine, and has the disk know of it.
fn erase_folder(folder: &FilePath, step: &Step) -> io::Result<Erased> {
    let mut erased = Erased::default();
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Err(io::Error::other("the root of a file system is nobody's folder"));
    };
    let parent = match open(parent, FOLDER.difference(OFlag::O_NOFOLLOW), Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(erased),
        parent => parent?,
    };
    let name = PathBuf::from(name);
    match openat(&parent, &name, FOLDER, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(erased),
        there => empty(there?, &mut erased, step)?,
    }
    gone(unlinkat(&parent, &name, UnlinkatFlags::RemoveDir))?;
    fsync(&parent)?;
    Ok(erased)
}

/// Deletes what is in a folder.
fn empty(folder: OwnedFd, erased: &mut Erased, step: &Step) -> io::Result<()> {
    let mut folder = Dir::from_fd(folder)?;
    // Read to its end first: what a listing shows of a folder that shrinks meanwhile is up to the file system.
    let entries: Vec<_> = folder.iter().collect::<Result<_, _>>()?;
    let folder = folder.as_fd();
    for entry in entries {
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let stat = match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => continue,
            stat => stat?,
        };
        if entry.file_type() == Some(Type::Directory) || is_folder(&stat) {
            erase_within(folder, name, erased, step)?;
        } else if gone(unlinkat(folder, name, UnlinkatFlags::NoRemoveDir))? {
            erased.add(u64::try_from(stat.st_size).unwrap_or_default());
            step.update("deleting", erased.files, 0);
        }
    }
    Ok(())
}

fn erase_within(parent: BorrowedFd<'_>, name: &CStr, erased: &mut Erased, step: &Step) -> io::Result<()> {
    match openat(parent, name, FOLDER, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        there => empty(there?, erased, step)?,
    }
    gone(unlinkat(parent, name, UnlinkatFlags::RemoveDir))?;
    Ok(())
}

fn is_folder(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

/// Whether it was this process that deleted it, and not another before.
fn gone(unlinked: nix::Result<()>) -> io::Result<bool> {
    match unlinked {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
