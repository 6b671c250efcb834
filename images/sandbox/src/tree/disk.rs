//! What is on disk, one directory at a time: every name is opened in the directory that was opened before, and no symbolic link is followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat};
use nix::sys::statfs::{self, FsType, fstatfs};
use nix::unistd::{Gid, UnlinkatFlags, getegid, unlinkat};

/// How deep directories are followed on disk with all of them open. The limit of open files is in the thousands everywhere.
const DEEPEST: usize = 200;

/// The names in a directory, in the order of the disk.
pub(crate) fn names(dir: impl AsFd) -> Result<Vec<OsString>, Errno> {
    let mut dir = Dir::openat(dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let names = dir.iter().map(|entry| entry.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned()));
    let mut names = names.collect::<Result<Vec<_>, _>>()?;
    names.retain(|name| name != "." && name != "..");
    Ok(names)
}

/// What the kernel says of a name, which is not followed.
pub(crate) fn stat(dir: impl AsFd, name: &OsStr) -> Result<FileStat, Errno> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The group of what is written here. In a directory whose group is handed on, as that of a volume may be, files would be of that group the first time, and
/// of another once they were restored; and one that a command has given away would stay so.
pub(crate) fn our_group(stat: &FileStat) -> Option<Gid> {
    let ours = getegid();
    (stat.st_gid != ours.as_raw()).then_some(ours)
}

/// What kind of file it is.
pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Opens a directory; nothing else has this name.
pub(crate) fn open_dir(dir: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens a directory, and where its owner may not use it, lets the owner.
pub(crate) fn open_dir_anyway(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    match open_dir(dir, name) {
        Err(Errno::EACCES) => {
            permit(dir, name, Mode::S_IRWXU)?;
            open_dir(dir, name)
        }
        other => other,
    }
}

/// Opens a directory whose owner may list and search it, and lets the owner where it may not; with the mode that it had then.
pub(crate) fn open_dir_for_now(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(OwnedFd, Option<Mode>), Errno> {
    let needed = Mode::S_IRUSR | Mode::S_IXUSR;
    let mode = Mode::from_bits_truncate(stat(dir, name)?.st_mode);
    // A directory of somebody else stays as it is.
    let was = (!mode.contains(needed) && permit(dir, name, needed).is_ok()).then_some(mode);
    Ok((open_dir(dir, name)?, was))
}

/// Opens a regular file for reading, and nothing else: what is no regular file answers `EINVAL`, and is not waited for.
pub(crate) fn open_file(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(File, FileStat), Errno> {
    // O_NONBLOCK: a FIFO would wait for its other end.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let opened = match openat(dir, name, flags, Mode::empty()) {
        Err(Errno::EACCES) => {
            permit(dir, name, Mode::S_IRUSR)?;
            openat(dir, name, flags, Mode::empty())?
        }
        other => other?,
    };
    let stat = fstat(&opened)?;
    if kind(&stat) == SFlag::S_IFREG { Ok((opened.into(), stat)) } else { Err(Errno::EINVAL) }
}

/// Adds a permission, of the very file that is opened and not of what a link leads to.
fn permit(dir: BorrowedFd<'_>, name: &OsStr, permission: Mode) -> Result<(), Errno> {
    let file = openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let mode = Mode::from_bits_truncate(fstat(&file)?.st_mode);
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    fchmodat(AT_FDCWD, opened.as_str(), mode | permission, FchmodatFlags::FollowSymlink)
}

/// Removes whatever has this name, with everything beneath. `top` is a directory on the same file system, for what lies too deep.
pub(crate) fn remove(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let mut removal = Removal { top, aside: Vec::new(), renamed: 0 };
    removal.remove(dir, name, 0)?;
    while let Some(name) = removal.aside.pop() {
        removal.remove(top, &name, 0)?;
    }
    Ok(())
}

/// A removal under way. What lies so deep that not all directories above can be open is moved to the top first.
struct Removal<'a> {
    top: BorrowedFd<'a>,
    aside: Vec<OsString>,
    renamed: usize,
}

impl Removal<'_> {
    fn remove(&mut self, dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<(), Errno> {
        match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(Errno::ENOENT) => return Ok(()),
            other => return other,
        }
        if depth == DEEPEST {
            return self.move_aside(dir, name);
        }
        let opened = open_dir_anyway(dir, name)?;
        make_usable(opened.as_fd())?;
        for child in names(&opened)? {
            self.remove(opened.as_fd(), &child, depth + 1)?;
        }
        unlinkat(dir, name, UnlinkatFlags::RemoveDir)
    }

    fn move_aside(&mut self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
        let aside = OsString::from(format!(".sera-removed-{}", self.renamed));
        self.renamed += 1;
        renameat(dir, name, self.top, aside.as_os_str())?;
        self.aside.push(aside);
        Ok(())
    }
}

/// Lets the owner of a directory change what is in it.
pub(crate) fn make_usable(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let mode = Mode::from_bits_truncate(fstat(dir)?.st_mode);
    if mode.contains(Mode::S_IRWXU) { Ok(()) } else { fchmod(dir, mode | Mode::S_IRWXU) }
}

/// Whether the time of change of a file tells every change. On tmpfs a write through a mapping leaves no trace, and of what a network's or a user's
/// file system does nothing is known.
pub(crate) fn times_tell_changes(dir: impl AsFd) -> bool {
    const TRUSTED: [FsType; 3] = [statfs::EXT4_SUPER_MAGIC, statfs::BTRFS_SUPER_MAGIC, statfs::XFS_SUPER_MAGIC];
    fstatfs(dir).is_ok_and(|stat| TRUSTED.contains(&stat.filesystem_type()))
}
