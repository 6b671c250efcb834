//! Files are written by several threads: most of what a file takes is spent in the kernel, which makes files in different directories side by side.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle, available_parallelism, scope};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::fchown;

use super::TreeError;
use super::disk;
use super::node::{File, Identity, PERMISSIONS};
use super::pack::Pack;

/// The most threads: beyond a few, they wait for each other in the file system's journal.
const MOST_THREADS: usize = 4;
/// How many files are written where they are met, before there are threads: a wipe mostly has fewer.
const ALONE: usize = 64;
/// How many directories may wait to be written to; each of them is open.
const WAITING: usize = 32;

/// The files of one directory that have to be written. None of them is there.
pub(crate) struct Batch<'t> {
    /// The directory.
    pub(crate) dir: OwnedFd,
    /// Its path, for errors.
    pub(crate) path: PathBuf,
    /// The permissions that it has to have in the end: its owner may not be among those who can write.
    pub(crate) mode: u32,
    /// When it was modified, in the end.
    pub(crate) modified: (i64, i64),
    /// The files, which learn how they are seen then.
    pub(crate) files: Vec<(&'t OsStr, &'t mut File)>,
}

/// The threads, once there is enough to do for them.
pub(crate) struct Writers<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    pack: &'env Pack,
    met: usize,
    queue: Option<SyncSender<Batch<'env>>>,
    threads: Vec<ScopedJoinHandle<'scope, Result<(), TreeError>>>,
}

/// Does some work that has files written, and waits until they are.
pub(crate) fn with_writers<'env, T>(
    pack: &'env Pack,
    work: impl for<'scope> FnOnce(&mut Writers<'scope, 'env>) -> Result<T, TreeError>,
) -> Result<T, TreeError> {
    scope(|scope| {
        let mut writers = Writers { scope, pack, met: 0, queue: None, threads: Vec::new() };
        let done = work(&mut writers);
        writers.finish()?;
        done
    })
}

impl<'env> Writers<'_, 'env> {
    /// Has files written, now or soon.
    pub(crate) fn write(&mut self, batch: Batch<'env>) -> Result<(), TreeError> {
        self.met += batch.files.len();
        if self.met > ALONE && self.queue.is_none() {
            self.start();
        }
        let Some(queue) = &self.queue else { return batch.write(self.pack) };
        match queue.send(batch) {
            Ok(()) => Ok(()),
            // No thread is left, and it is known why; or none could be started.
            Err(SendError(batch)) => {
                self.finish()?;
                batch.write(self.pack)
            }
        }
    }

    /// Starts as many threads as there are processors for, and as the limits of this process allow.
    fn start(&mut self) {
        let (queue, batches) = sync_channel(WAITING);
        let (pack, batches) = (self.pack, Arc::new(Mutex::new(batches)));
        let count = available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_THREADS);
        for _ in 0..count {
            let batches = Arc::clone(&batches);
            let started = Builder::new().spawn_scoped(self.scope, move || write_all(&batches, pack));
            self.threads.extend(started);
        }
        self.queue = Some(queue);
    }

    /// Waits for the threads. The first thing that went wrong is what is told.
    fn finish(&mut self) -> Result<(), TreeError> {
        self.queue = None;
        let ends: Vec<_> = self.threads.drain(..).map(ScopedJoinHandle::join).collect();
        ends.into_iter().try_for_each(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

/// Writes what comes until nothing more will.
fn write_all(batches: &Mutex<Receiver<Batch<'_>>>, pack: &Pack) -> Result<(), TreeError> {
    loop {
        let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = next else { return Ok(()) };
        batch.write(pack)?;
    }
}

impl Batch<'_> {
    fn write(self, pack: &Pack) -> Result<(), TreeError> {
        for (name, file) in self.files {
            let seen = write(&self.dir, name, file, pack);
            file.seen = Some(seen.map_err(|errno| TreeError::disk("write", self.path.join(name))(errno))?);
        }
        finish(self.dir, self.mode, self.modified).map_err(TreeError::disk("set the mode and the time of", self.path))
    }
}

/// Sets the permissions and the group of a directory, and when it was modified, where they are others. A volume's root is often root's, and then keeps
/// its time and its group.
pub(crate) fn finish(dir: impl AsFd, mode: u32, modified: (i64, i64)) -> Result<(), Errno> {
    let stat = fstat(&dir)?;
    let unless_roots = |done| if done == Err(Errno::EPERM) { Ok(()) } else { done };
    if (stat.st_mtime, stat.st_mtime_nsec) != modified {
        let modified = TimeSpec::new(modified.0, modified.1);
        unless_roots(futimens(&dir, &modified, &modified))?;
    }
    if let Some(group) = disk::our_group(&stat) {
        unless_roots(fchown(&dir, None, Some(group)))?;
    }
    if stat.st_mode & ALL_BITS == mode { Ok(()) } else { fchmod(dir, Mode::from_bits_truncate(mode)) }
}

/// Permissions, and the bits above them: set-user-id, set-group-id, sticky.
const ALL_BITS: u32 = 0o7777;

fn write(dir: &OwnedFd, name: &OsStr, file: &File, pack: &Pack) -> Result<Identity, Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = file.mode & PERMISSIONS;
    let mut opened = fs::File::from(openat(dir, name, flags, Mode::from_bits_truncate(mode))?);
    pack.copy(&file.content, &mut opened).map_err(|error| errno(&error))?;
    let modified = TimeSpec::new(file.modified.0, file.modified.1);
    futimens(&opened, &modified, &modified)?;
    let stat: FileStat = fstat(&opened)?;
    let group = disk::our_group(&stat);
    if group.is_some() {
        fchown(&opened, None, group)?;
    }
    // The umask took a bit away.
    let is_permitted = stat.st_mode & ALL_BITS == mode;
    if !is_permitted {
        fchmod(&opened, Mode::from_bits_truncate(mode))?;
    }
    Ok(Identity::from(&if is_permitted && group.is_none() { stat } else { fstat(&opened)? }))
}

/// What the kernel said, where it said something.
pub(crate) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
