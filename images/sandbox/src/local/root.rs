//! The root directory of a slot: the machine's, as it is, but for the slot's own directories, a small /dev, and what is hidden.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use super::LocalError;
use crate::places::Places;

/// The devices that a container has.
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
/// Names in /dev that lead elsewhere.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
/// Directories of the machine that are there but empty: sockets of its services, and what it knows of its hardware.
const EMPTY: [&str; 2] = ["/run", "/sys"];
/// Memory that programs share over files.
pub(crate) const SHARED_MEMORY: &str = "/dev/shm";

/// Makes the root, and goes there.
pub(super) fn make(places: &Places, folder: &Path, hidden: &[PathBuf]) -> Result<(), LocalError> {
    make_private()?;
    let own = [("workspace", &places.workspace), ("tmp", &places.tmp), ("home", &places.home)];
    let own = own.map(|(name, path)| (folder.join(name), path.clone()));
    let root = folder.join("root");
    make_dir(&root)?;
    mount_tmpfs(&root, "mode=755")?;
    let assembly = Assembly { root: &root, own: &own, hidden };
    assembly.children(Path::new("/"))?;
    for (_, path) in &own {
        // Where the machine has no directory that leads there.
        make_dir(&within(&root, path))?;
    }
    for (from, path) in &own {
        bind(from, &within(&root, path))?;
    }
    go(&root)
}

/// Keeps what is mounted here from the rest of the machine.
pub(super) fn make_private() -> Result<(), LocalError> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .map_err(|error| LocalError::mount("keep to itself", Path::new("/"))(error.into()))
}

/// Shows the processes of this namespace, over those of the machine: the kernel wants the latter to be there for that.
pub(super) fn mount_proc() -> Result<(), LocalError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
        .map_err(|error| LocalError::mount("mount", Path::new("/proc"))(error.into()))
}

/// A root being put together. Where one of the slot's own directories, or something hidden, lies beneath a directory, that is made anew from its parts,
/// so that nothing is ever made or mounted in the machine's own.
struct Assembly<'a> {
    root: &'a Path,
    own: &'a [(PathBuf, PathBuf)],
    hidden: &'a [PathBuf],
}

impl Assembly<'_> {
    fn children(&self, path: &Path) -> Result<(), LocalError> {
        let entries = fs::read_dir(path).map_err(LocalError::mount("list", path))?;
        for entry in entries {
            let entry = entry.map_err(LocalError::mount("list", path))?;
            let path = entry.path();
            let shown =
                entry.file_type().map_err(LocalError::mount("look at", &path)).and_then(|kind| self.entry(&path, kind));
            match shown {
                // It went away since it was listed, as other programs' temporary files do; there is nothing to show then.
                Err(_) if is_gone(&path) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn entry(&self, path: &Path, kind: fs::FileType) -> Result<(), LocalError> {
        let to = within(self.root, path);
        let is_own = self.own.iter().any(|(_, own)| own == path);
        if is_own
            || self.hidden.iter().any(|hidden| hidden == path)
            || EMPTY.iter().any(|empty| Path::new(empty) == path)
        {
            // Hidden files are not there at all; hidden directories are empty.
            return if kind.is_dir() { make_dir(&to) } else { Ok(()) };
        }
        if path == Path::new("/dev") {
            return devices(&to);
        }
        if kind.is_symlink() {
            let target = fs::read_link(path).map_err(LocalError::mount("read", path))?;
            return symlink(target, &to).map_err(LocalError::mount("link", &to));
        }
        if !kind.is_dir() {
            // FIFOs, sockets and devices beside what is hidden are nothing that a build needs.
            if !kind.is_file() {
                return Ok(());
            }
            fs::write(&to, "").map_err(LocalError::mount("make", &to))?;
            return bind(path, &to);
        }
        make_dir(&to)?;
        if self.own.iter().map(|(_, own)| own).chain(self.hidden).any(|inner| inner.starts_with(path)) {
            // What may not be listed stays empty.
            return if fs::read_dir(path).is_ok() { self.children(path) } else { Ok(()) };
        }
        bind(path, &to)
    }
}

fn devices(to: &Path) -> Result<(), LocalError> {
    make_dir(to)?;
    for name in DEVICES {
        let (from, to) = (Path::new("/dev").join(name), to.join(name));
        fs::write(&to, "").map_err(LocalError::mount("make", &to))?;
        bind(&from, &to)?;
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, to.join(name)).map_err(LocalError::mount("link", &to.join(name)))?;
    }
    let shm = to.join("shm");
    make_dir(&shm)?;
    mount_tmpfs(&shm, "mode=1777")
}

/// Makes the new root the only one.
fn go(root: &Path) -> Result<(), LocalError> {
    let failed = |action| move |error: nix::Error| LocalError::mount(action, root)(error.into());
    chdir(root).map_err(failed("enter"))?;
    // The old root lies over the new one then, and is taken away.
    pivot_root(".", ".").map_err(failed("turn to"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed("leave what was before"))?;
    chdir("/").map_err(failed("enter"))?;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(failed("close"))
}

fn mount_tmpfs(at: &Path, options: &str) -> Result<(), LocalError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))
        .map_err(|error| LocalError::mount("mount", at)(error.into()))
}

fn bind(from: &Path, to: &Path) -> Result<(), LocalError> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|error| LocalError::mount("show", from)(error.into()))
}

fn make_dir(path: &Path) -> Result<(), LocalError> {
    fs::create_dir_all(path)
        .or_else(|error| if path.is_dir() { Ok(()) } else { Err::<(), io::Error>(error) })
        .map_err(LocalError::mount("make", path))
}

fn is_gone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A path of the machine, in the root that is put together.
fn within(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
