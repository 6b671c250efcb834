//! A tree is made to be what is on disk: what is not in it is removed, what differs is written anew, and what is as it was is not touched.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, fstat, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::symlinkat;

use super::TreeError;
use super::disk;
use super::node::{Dir, File, Identity, Link, Node, PERMISSIONS};
use super::pack::Pack;
use crate::kernel;

/// How deep a tree may be: as deep as `unpack` takes one.
pub(crate) const DEEPEST: usize = 512;

/// A tree being restored.
pub(crate) struct Restore<'a> {
    /// Where the contents are.
    pub(crate) pack: &'a Pack,
    /// Whether an unchanged identity is taken for an unchanged content.
    pub(crate) trust: bool,
    /// The root, for what has to be moved before it can be removed.
    pub(crate) top: BorrowedFd<'a>,
    /// How many files were written or removed.
    pub(crate) count: u64,
}

impl Restore<'_> {
    /// Makes the directory hold this tree and nothing else, and remembers how its files are seen then.
    pub(crate) fn dir(&mut self, dir: BorrowedFd<'_>, path: &Path, tree: &mut Dir) -> Result<(), TreeError> {
        disk::make_usable(dir).map_err(TreeError::disk("use", path))?;
        self.count += kernel::clear_attributes(dir).map_err(TreeError::disk("clear the attributes of", path))?;
        for name in disk::names(dir).map_err(TreeError::disk("list", path))? {
            if !tree.children.contains_key(&name) {
                self.remove(dir, &name, path)?;
            }
        }
        for (name, node) in &mut tree.children {
            let path = path.join(name);
            match node {
                Node::Dir(below) => self.below(dir, name, &path, below)?,
                Node::File(file) => self.file(dir, name, &path, file)?,
                Node::Link(link) => self.link(dir, name, &path, link)?,
            }
        }
        let mode = fstat(dir).map_err(TreeError::disk("look at", path))?.st_mode & 0o7777;
        if mode != tree.mode {
            fchmod(dir, Mode::from_bits_truncate(tree.mode)).map_err(TreeError::disk("set the mode of", path))?;
        }
        Ok(())
    }

    fn remove(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), TreeError> {
        self.count += 1;
        disk::remove(self.top, dir, name).map_err(TreeError::disk("remove", path.join(name)))
    }

    fn below(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, tree: &mut Dir) -> Result<(), TreeError> {
        let opened = match disk::open_dir_anyway(dir, name) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                disk::remove(self.top, dir, name).map_err(TreeError::disk("remove", path))?;
                mkdirat(dir, name, Mode::S_IRWXU).map_err(TreeError::disk("make", path))?;
                disk::open_dir(dir, name)
            }
            other => other,
        };
        self.dir(opened.map_err(TreeError::disk("open", path))?.as_fd(), path, tree)
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, file: &mut File) -> Result<(), TreeError> {
        match disk::stat(dir, name) {
            Ok(stat) if self.trust && file.seen == Some(Identity::from(&stat)) => {
                // The same file of another tree: only its time is another.
                if (stat.st_mtime, stat.st_mtime_nsec) != file.modified {
                    file.seen = Some(date(dir, name, file.modified).map_err(TreeError::disk("date", path))?);
                }
                return Ok(());
            }
            Ok(_) => disk::remove(self.top, dir, name).map_err(TreeError::disk("remove", path))?,
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(TreeError::disk("look at", path)(error)),
        }
        self.count += 1;
        file.seen = Some(self.write(dir, name, file).map_err(TreeError::disk("write", path))?);
        Ok(())
    }

    fn write(&self, dir: BorrowedFd<'_>, name: &OsStr, file: &File) -> Result<Identity, Errno> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut opened = fs::File::from(openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        self.pack.copy(&file.content, &mut opened).and_then(|()| opened.flush()).map_err(|error| errno(&error))?;
        fchmod(&opened, Mode::from_bits_truncate(file.mode & PERMISSIONS))?;
        let modified = TimeSpec::new(file.modified.0, file.modified.1);
        futimens(&opened, &modified, &modified)?;
        Ok(Identity::from(&fstat(&opened)?))
    }

    fn link(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, link: &mut Link) -> Result<(), TreeError> {
        match disk::stat(dir, name) {
            Ok(stat) if link.seen == Some(Identity::from(&stat)) => return Ok(()),
            Ok(stat)
                if disk::kind(&stat) == SFlag::S_IFLNK && readlinkat(dir, name).is_ok_and(|now| now == link.target) =>
            {
                link.seen = Some(Identity::from(&stat));
                return Ok(());
            }
            Ok(_) => disk::remove(self.top, dir, name).map_err(TreeError::disk("remove", path))?,
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(TreeError::disk("look at", path)(error)),
        }
        self.count += 1;
        symlinkat(link.target.as_os_str(), dir, name).map_err(TreeError::disk("make", path))?;
        // The same on every machine, as everything else is.
        link.seen = Some(date(dir, name, (0, 0)).map_err(TreeError::disk("date", path))?);
        Ok(())
    }
}

/// Sets when a file was modified, and answers how it is seen then.
fn date(dir: BorrowedFd<'_>, name: &OsStr, modified: (i64, i64)) -> Result<Identity, Errno> {
    let modified = TimeSpec::new(modified.0, modified.1);
    utimensat(dir, name, &modified, &modified, UtimensatFlags::NoFollowSymlink)?;
    Ok(Identity::from(&disk::stat(dir, name)?))
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
