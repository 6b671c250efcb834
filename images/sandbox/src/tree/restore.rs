//! A tree is made to be what is on disk: what is not in it is removed, what differs is written anew, and what is as it was is not touched.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{fchownat, symlinkat};

use super::TreeError;
use super::disk;
use super::node::{Dir, File, Identity, Link, Node};
use super::pack::Pack;
use super::writers::{Batch, Writers, errno, finish, with_writers};
use crate::kernel;

/// How deep a tree may be: as deep as `unpack` takes one.
pub(crate) const DEEPEST: usize = 512;

/// When every link was modified: the same on every machine, as everything else is.
const LINKS_DATE: (i64, i64) = (0, 0);

/// Makes a directory hold this tree and nothing else, and remembers how its files are seen then. Answers how many files were written or removed.
///
/// With `trust`, an unchanged identity is taken for an unchanged content.
pub(crate) fn restore(
    dir: BorrowedFd<'_>,
    path: &Path,
    tree: &mut Dir,
    pack: &Pack,
    trust: bool,
) -> Result<u64, TreeError> {
    with_writers(pack, |writers| {
        let mut restore = Restore { writers, trust, top: dir, count: 0 };
        restore.dir(dir, path, tree)?;
        Ok(restore.count)
    })
}

/// A tree being restored.
struct Restore<'a, 'scope, 'tree> {
    writers: &'a mut Writers<'scope, 'tree>,
    trust: bool,
    /// The root, for what has to be moved before it can be removed.
    top: BorrowedFd<'a>,
    count: u64,
}

impl<'tree> Restore<'_, '_, 'tree> {
    /// Restores a directory, and answers when it was modified: its own time on disk is that of its restoration, and `ls -l` shows it to a model. So it is
    /// dated as the latest file beneath it is, which is the same on every machine.
    fn dir(&mut self, dir: BorrowedFd<'_>, path: &Path, tree: &'tree mut Dir) -> Result<(i64, i64), TreeError> {
        disk::make_usable(dir).map_err(TreeError::disk("use", path))?;
        self.count += kernel::clear_attributes(dir).map_err(TreeError::disk("clear the attributes of", path))?;
        let mut there = disk::names(dir).map_err(TreeError::disk("list", path))?;
        there.sort_unstable();
        for name in there.iter().filter(|name| !tree.children.contains_key(*name)) {
            self.remove(dir, name, path)?;
        }
        let (mut files, mut modified) = (Vec::new(), (0, 0));
        for (name, node) in &mut tree.children {
            let (path, is_there) = (path.join(name), there.binary_search(name).is_ok());
            match node {
                Node::Dir(below) => modified = modified.max(self.below(dir, name, &path, is_there, below)?),
                Node::File(file) => {
                    modified = modified.max(file.modified);
                    if !is_there || !self.is_as_it_was(dir, name, &path, file)? {
                        files.push((name.as_os_str(), file));
                    }
                }
                Node::Link(link) => self.link(dir, name, &path, link)?,
            }
        }
        let mode = tree.mode;
        if files.is_empty() {
            finish(dir, mode, modified).map_err(TreeError::disk("set the mode and the time of", path))?;
            return Ok(modified);
        }
        self.count += files.len() as u64;
        let dir = dir.try_clone_to_owned().map_err(|error| TreeError::disk("use", path)(errno(&error)))?;
        self.writers.write(Batch { dir, path: path.to_owned(), mode, modified, files })?;
        Ok(modified)
    }

    fn remove(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), TreeError> {
        self.count += 1;
        disk::remove(self.top, dir, name).map_err(TreeError::disk("remove", path.join(name)))
    }

    fn below(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        is_there: bool,
        tree: &'tree mut Dir,
    ) -> Result<(i64, i64), TreeError> {
        let there = if is_there { disk::open_dir_anyway(dir, name) } else { Err(Errno::ENOENT) };
        let opened = match there {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                if is_there {
                    disk::remove(self.top, dir, name).map_err(TreeError::disk("remove", path))?;
                }
                mkdirat(dir, name, Mode::S_IRWXU).map_err(TreeError::disk("make", path))?;
                disk::open_dir(dir, name)
            }
            other => other,
        };
        self.dir(opened.map_err(TreeError::disk("open", path))?.as_fd(), path, tree)
    }

    /// Whether a file need not be written; if it must be, nothing is in its place then.
    fn is_as_it_was(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        file: &mut File,
    ) -> Result<bool, TreeError> {
        match disk::stat(dir, name) {
            Ok(stat) if self.trust && file.seen == Some(Identity::from(&stat)) => {
                // The same file of another tree: only its time is another.
                if (stat.st_mtime, stat.st_mtime_nsec) != file.modified {
                    file.seen = Some(date(dir, name, file.modified).map_err(TreeError::disk("date", path))?);
                }
                Ok(true)
            }
            Ok(_) => disk::remove(self.top, dir, name).map_err(TreeError::disk("remove", path)).map(|()| false),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(TreeError::disk("look at", path)(error)),
        }
    }

    fn link(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, link: &mut Link) -> Result<(), TreeError> {
        match disk::stat(dir, name) {
            Ok(stat) if link.seen == Some(Identity::from(&stat)) => return Ok(()),
            Ok(stat)
                if disk::kind(&stat) == SFlag::S_IFLNK
                    && (stat.st_mtime, stat.st_mtime_nsec) == LINKS_DATE
                    && disk::our_group(&stat).is_none()
                    && readlinkat(dir, name).is_ok_and(|now| now == link.target) =>
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
        if let Some(group) =
            disk::stat(dir, name).map_err(TreeError::disk("look at", path)).map(|stat| disk::our_group(&stat))?
        {
            let given = fchownat(dir, name, None, Some(group), AtFlags::AT_SYMLINK_NOFOLLOW);
            given.map_err(TreeError::disk("set the group of", path))?;
        }
        link.seen = Some(date(dir, name, LINKS_DATE).map_err(TreeError::disk("date", path))?);
        Ok(())
    }
}

/// Sets when a file was modified, and answers how it is seen then.
fn date(dir: BorrowedFd<'_>, name: &OsStr, modified: (i64, i64)) -> Result<Identity, Errno> {
    let modified = TimeSpec::new(modified.0, modified.1);
    utimensat(dir, name, &modified, &modified, UtimensatFlags::NoFollowSymlink)?;
    Ok(Identity::from(&disk::stat(dir, name)?))
}
