//! What is on disk becomes a tree. What was seen before and has not been touched since is not read again.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag, fstat};

use super::disk;
use super::node::{Dir, File, Identity, Link, Node, PERMISSIONS};
use super::pack::Pack;
use super::{TreeError, restore};

/// A look at a directory of which something is known already.
pub(crate) struct Scan<'a> {
    /// Where contents go that are new.
    pub(crate) pack: &'a mut Pack,
    /// Whether an unchanged identity is taken for an unchanged content.
    pub(crate) trust: bool,
}

impl Scan<'_> {
    /// The tree beneath `root`. FIFOs, sockets and devices are not part of it; they are removed when it is restored.
    pub(crate) fn tree(&mut self, root: BorrowedFd<'_>, path: &Path, known: Option<&Dir>) -> Result<Dir, TreeError> {
        self.dir(root, path, known, 0)
    }

    fn dir(&mut self, dir: BorrowedFd<'_>, path: &Path, known: Option<&Dir>, depth: usize) -> Result<Dir, TreeError> {
        let stat = fstat(dir).map_err(TreeError::disk("look at", path))?;
        let mut children = BTreeMap::new();
        // What lies deeper than anything that is put is left out, and so removed when the tree is restored.
        let names = if depth > restore::DEEPEST {
            Vec::new()
        } else {
            disk::names(dir).map_err(TreeError::disk("list", path))?
        };
        for name in names {
            let known = known.and_then(|known| known.children.get(&name));
            if let Some(node) = self.node(dir, &name, &path.join(&name), known, depth)? {
                children.insert(name, node);
            }
        }
        Ok(Dir { mode: stat.st_mode & PERMISSIONS, children })
    }

    fn node(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &PathBuf,
        known: Option<&Node>,
        depth: usize,
    ) -> Result<Option<Node>, TreeError> {
        let stat = disk::stat(dir, name).map_err(TreeError::disk("look at", path))?;
        if self.trust && known.is_some_and(|known| known.seen() == Some(&Identity::from(&stat))) {
            return Ok(known.cloned());
        }
        match disk::kind(&stat) {
            SFlag::S_IFDIR => {
                let opened = disk::open_dir_anyway(dir, name).map_err(TreeError::disk("open", path))?;
                let known = if let Some(Node::Dir(known)) = known { Some(known) } else { None };
                self.dir(opened.as_fd(), path, known, depth + 1).map(|dir| Some(Node::Dir(dir)))
            }
            SFlag::S_IFREG => self.file(dir, name, path).map(|file| Some(Node::File(file))),
            SFlag::S_IFLNK => {
                let target = readlinkat(dir, name).map_err(TreeError::disk("read", path))?;
                Ok(Some(Node::Link(Link { target, seen: Some(Identity::from(&stat)) })))
            }
            _ => Ok(None),
        }
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<File, TreeError> {
        let (mut opened, _) = disk::open_file(dir, name).map_err(TreeError::disk("open", path))?;
        let (content, size) = self.pack.add(&mut opened)?;
        let stat: FileStat = fstat(&opened).map_err(TreeError::disk("look at", path))?;
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        Ok(File { mode: stat.st_mode & PERMISSIONS, size, content, modified, seen: Some(Identity::from(&stat)) })
    }
}
