//! Files of the workspace as the editor opens them: beneath it, whatever links say, and regular.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Workspace;
use crate::tree::disk;

/// The largest file that the editor takes, in bytes.
const LARGEST: u64 = 8 << 20;

/// Why the editor does not do it, in words for the model.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

impl Refusal {
    pub(super) fn new(message: String) -> Self {
        Self(message)
    }
}

/// A regular file, with what is in it.
pub(super) struct Opened {
    file: File,
    pub(super) bytes: Vec<u8>,
}

/// What is at a path.
pub(super) enum Found {
    File(Opened),
    Dir(OwnedFd),
}

impl Opened {
    /// Opens a file to change it.
    pub(super) fn to_edit(workspace: Workspace<'_>, path: &Path) -> Result<Self, Refusal> {
        match find(workspace, path, OFlag::O_RDWR)? {
            Found::File(opened) => Ok(opened),
            Found::Dir(_) => Err(is_directory(&workspace.shown(path))),
        }
    }

    /// Writes another content to the very same file: its mode and its links stay.
    pub(super) fn write(&mut self, bytes: &[u8], shown: &str) -> Result<(), Refusal> {
        let written = self
            .file
            .rewind()
            .and_then(|()| self.file.write_all(bytes))
            .and_then(|()| self.file.set_len(bytes.len() as u64));
        written.map_err(|error| Refusal(format!("{shown} could not be written ({error}); look at it before going on.")))
    }
}

/// Opens what is at a path.
pub(super) fn find(workspace: Workspace<'_>, path: &Path, access: OFlag) -> Result<Found, Refusal> {
    let shown = workspace.shown(path);
    // Nothing is waited for: a FIFO opens at once or not at all.
    let opened = match beneath(workspace, path, access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, Mode::empty()) {
        Err(Errno::EISDIR) => return Err(is_directory(&shown)),
        // A FIFO without a reader, or a socket.
        Err(Errno::ENXIO) => return Err(no_regular_file(&shown)),
        other => other.map_err(|error| refused(&shown, error))?,
    };
    let stat = fstat(&opened).map_err(|error| refused(&shown, error))?;
    match disk::kind(&stat) {
        SFlag::S_IFDIR => Ok(Found::Dir(opened)),
        SFlag::S_IFREG => read(opened.into(), &shown).map(Found::File),
        _ => Err(no_regular_file(&shown)),
    }
}

fn read(mut file: File, shown: &str) -> Result<Opened, Refusal> {
    let mut bytes = Vec::new();
    let count = Read::by_ref(&mut file).take(LARGEST + 1).read_to_end(&mut bytes);
    match count {
        Ok(count) if count as u64 <= LARGEST => Ok(Opened { file, bytes }),
        Ok(_) => Err(Refusal(format!(
            "{shown} is larger than {} MiB, which this tool does not open. Use bash: grep -n, sed -n '100,200p', head.",
            LARGEST >> 20
        ))),
        Err(error) => Err(Refusal(format!("{shown} could not be read ({error})."))),
    }
}

/// Makes a file that is not there, and the directories that lead to it.
pub(super) fn create(workspace: Workspace<'_>, path: &Path, text: &[u8]) -> Result<(), Refusal> {
    let shown = workspace.shown(path);
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(is_directory(&shown)) };
    let above = make_directories(workspace, above)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o664);
    let created = nix::fcntl::openat(&above, name, flags, mode).map_err(|error| match error {
        Errno::EEXIST => Refusal(format!(
            "{shown} is there already. Change it with str_replace or insert, or remove it with bash before creating it anew."
        )),
        other => refused(&shown, other),
    })?;
    let written = File::from(created).write_all(text);
    written.map_err(|error| Refusal(format!("{shown} could not be written ({error}); look at it before going on.")))
}

/// Opens a directory beneath the workspace, and makes what is missing of it.
fn make_directories(workspace: Workspace<'_>, path: &Path) -> Result<OwnedFd, Refusal> {
    let open = |path: &Path| beneath(workspace, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty());
    match open(path) {
        Err(Errno::ENOENT) => {}
        other => return other.map_err(|error| refused(&workspace.shown(path), error)),
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refused(&workspace.shown(path), Errno::ENOENT));
    };
    let above = make_directories(workspace, above)?;
    match mkdirat(&above, name, Mode::from_bits_truncate(0o775)) {
        Ok(()) | Err(Errno::EEXIST) => open(path).map_err(|error| refused(&workspace.shown(path), error)),
        Err(error) => Err(refused(&workspace.shown(path), error)),
    }
}

/// Removes a file.
pub(super) fn remove(workspace: Workspace<'_>, path: &Path) -> Result<(), Refusal> {
    let shown = workspace.shown(path);
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(is_directory(&shown)) };
    let above = beneath(workspace, above, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty());
    let removed = above.and_then(|above| unlinkat(above, name, UnlinkatFlags::NoRemoveDir));
    removed.map_err(|error| refused(&shown, error))
}

/// Opens a path that does not leave the workspace, whatever links are on its way.
fn beneath(workspace: Workspace<'_>, path: &Path, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(resolve);
    // The kernel gives up with EAGAIN when something is renamed while it resolves `..`.
    for _ in 0..64 {
        match openat2(workspace.dir, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(Errno::ENOSYS) => return step_by_step(workspace, path, flags, mode),
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

/// The same on a kernel that cannot be asked for it: name by name, and no link is followed at all.
fn step_by_step(workspace: Workspace<'_>, path: &Path, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut above = workspace.dir.try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
    let mut names = path.iter().peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            return nix::fcntl::openat(&above, name, flags, mode);
        }
        above = disk::open_dir(&above, name)?;
    }
    Err(Errno::ENOENT)
}

fn is_directory(shown: &str) -> Refusal {
    Refusal(format!("{shown} is a directory. Name a file; `view` lists a directory."))
}

fn no_regular_file(shown: &str) -> Refusal {
    Refusal(format!("{shown} is no regular file (a FIFO, a socket or a device), which this tool does not open."))
}

fn refused(shown: &str, error: Errno) -> Refusal {
    Refusal(match error {
        Errno::ENOENT => format!("{shown} is not there. `view` on a directory lists what is."),
        Errno::ENOTDIR => format!("A part of {shown} is a file and no directory."),
        Errno::EXDEV => {
            format!("{shown} leads out of the workspace over a symbolic link. Use bash for files outside of it.")
        }
        Errno::ELOOP => format!("{shown} is a symbolic link that leads nowhere or in circles."),
        Errno::EACCES | Errno::EPERM => {
            format!("{shown} may not be used so. Its permissions can be changed with bash (chmod).")
        }
        Errno::ENAMETOOLONG => format!("{shown} is longer than a path can be."),
        Errno::ENOSPC | Errno::EDQUOT => format!("{shown} cannot be written: there is no space left."),
        Errno::ETXTBSY => format!("{shown} is a program that is running; end it first."),
        other => format!("{shown} cannot be opened: {}.", other.desc()),
    })
}
