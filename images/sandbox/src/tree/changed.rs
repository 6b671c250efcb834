//! What on disk differs from a tree, as data: paths, kinds and contents. A name that the driver would not take, such as one below `.git`, is never
//! among it, and no link is followed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag};
use sha2::{Digest as _, Sha256};

use super::TreeError;
use super::disk;
use super::node::{Dir, Identity, Node, PERMISSIONS};
use crate::paths::{MAX_PATH, names_git};
use crate::wire::{ChangedFile, FileNow, PathBytes};

/// The most files that are shipped: a build leaves thousands, a patch has dozens.
const MOST_FILES: usize = 50_000;
/// The largest file that is shipped, in bytes.
const LARGEST_FILE: u64 = 8 << 20;
/// The most bytes that are shipped altogether. Files of what was put come first, then others by path; those that come later are named as too large.
const MOST_BYTES: u64 = 64 << 20;
/// The most bytes of their paths: written as JSON they can become six times as long, and have to fit into a frame.
const MOST_NAMES: usize = 4 << 20;
/// How deep directories are followed: a path that is longer is no use to anyone.
const DEEPEST: usize = 256;
/// The execute bit of a file's owner.
const EXECUTABLE: u32 = 0o100;

/// What differs.
#[derive(Default)]
pub(crate) struct Changes {
    /// The files, sorted by path.
    pub(crate) files: Vec<ChangedFile>,
    /// The contents of the regular ones, in the same order.
    pub(crate) contents: Vec<Vec<u8>>,
    bytes: u64,
    names: usize,
}

/// Compares a directory with a tree, in which the image and a setup may have more than what was `put`. Commands may run meanwhile: each file is one
/// moment's, and its size is that of the content that is shipped.
pub(crate) fn changes(root: BorrowedFd<'_>, tree: &Dir, put: &Dir, trust: bool) -> Result<Changes, TreeError> {
    let mut changes = Changes::default();
    // Where its owner took the right to use it away, all that is in it would seem to be gone.
    let _ = disk::make_usable(root);
    // What was put first: however much a build has made, and however that is named, an edit of the source is shipped.
    for of_put in [true, false] {
        Comparison { changes: &mut changes, trust, put, of_put }.dir(root, &mut Vec::new(), tree, 0)?;
    }
    let mut both: Vec<_> = changes.files.into_iter().zip(changes.contents).collect();
    both.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    (changes.files, changes.contents) = both.into_iter().unzip();
    Ok(changes)
}

impl Changes {
    /// Why these are all that is looked at.
    fn too_many(&self) -> TreeError {
        let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
        for top in self.files.iter().filter_map(|file| file.path.0.split(|byte| *byte == b'/').next()) {
            *counts.entry(top).or_default() += 1;
        }
        let fullest = counts.into_iter().max_by_key(|(_, count)| *count).map(|(top, _)| top).unwrap_or_default();
        TreeError::TooManyChanges { files: self.files.len(), fullest: String::from_utf8_lossy(fullest).into_owned() }
    }
}

struct Comparison<'a> {
    changes: &'a mut Changes,
    trust: bool,
    /// What was put, without what the image and a setup have added.
    put: &'a Dir,
    /// Whether files of what was put are looked at, or all others.
    of_put: bool,
}

impl Comparison<'_> {
    fn dir(&mut self, dir: BorrowedFd<'_>, path: &mut Vec<u8>, tree: &Dir, depth: usize) -> Result<(), TreeError> {
        // A directory that went away, or that cannot be listed, has nothing in it.
        let mut names: Vec<OsString> = disk::names(dir).unwrap_or_default();
        names.sort();
        for (name, node) in &tree.children {
            if names.binary_search(name).is_err() && !is_git(name) {
                within(path, name, |path| self.gone(path, node))?;
            }
        }
        for name in names.iter().filter(|name| !is_git(name)) {
            within(path, name, |path| self.name(dir, name, path, tree.children.get(name), depth))?;
        }
        Ok(())
    }

    fn name(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &mut Vec<u8>,
        node: Option<&Node>,
        depth: usize,
    ) -> Result<(), TreeError> {
        let Ok(stat) = disk::stat(dir, name) else { return node.map_or(Ok(()), |node| self.gone(path, node)) };
        if self.trust && node.is_some_and(|node| node.seen() == Some(&Identity::from(&stat))) {
            return Ok(());
        }
        match disk::kind(&stat) {
            SFlag::S_IFDIR => self.below(dir, name, path, node, depth),
            kind @ (SFlag::S_IFREG | SFlag::S_IFLNK) => {
                // A directory that became something else: what was in it is gone, and this is there.
                if let Some(below @ Node::Dir(_)) = node {
                    self.gone(path, below)?;
                }
                if !self.is_wanted(path) {
                    return Ok(());
                }
                let now = if kind == SFlag::S_IFREG { self.file(dir, name, node) } else { link(dir, name, node) };
                match now {
                    Ok(Some((now, content))) => self.push(path, now, content),
                    Ok(None) => Ok(()),
                    // It became something else while it was looked at.
                    Err(_) => node.map_or(Ok(()), |node| self.gone(path, node)),
                }
            }
            // A FIFO, a socket or a device is nothing that a patch can have.
            _ => node.map_or(Ok(()), |node| self.gone(path, node)),
        }
    }

    fn below(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &mut Vec<u8>,
        node: Option<&Node>,
        depth: usize,
    ) -> Result<(), TreeError> {
        let nothing = Dir::empty();
        let tree = match node {
            Some(Node::Dir(tree)) => tree,
            Some(other) => {
                self.gone(path, other)?;
                &nothing
            }
            None => &nothing,
        };
        if self.of_put && !matches!(self.put.at(path), Some(Node::Dir(_))) {
            return Ok(());
        }
        match disk::open_dir_anyway(dir, name) {
            Ok(opened) if depth < DEEPEST => {
                let _ = disk::make_usable(opened.as_fd());
                self.dir(opened.as_fd(), path, tree, depth + 1)
            }
            _ => node.filter(|node| matches!(node, Node::Dir(_))).map_or(Ok(()), |node| self.gone(path, node)),
        }
    }

    fn file(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        node: Option<&Node>,
    ) -> Result<Option<(FileNow, Vec<u8>)>, Errno> {
        let (opened, stat) = disk::open_file(dir, name)?;
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if bytes > LARGEST_FILE || self.changes.bytes + bytes > MOST_BYTES {
            return Ok(Some((FileNow::TooLarge { bytes }, Vec::new())));
        }
        let mut content = Vec::new();
        opened.take(LARGEST_FILE + 1).read_to_end(&mut content).map_err(|_| Errno::EIO)?;
        let bytes = content.len() as u64;
        if bytes > LARGEST_FILE {
            return Ok(Some((FileNow::TooLarge { bytes }, Vec::new())));
        }
        if is_same(&stat, &content, node) {
            return Ok(None);
        }
        Ok(Some((FileNow::File { bytes, executable: stat.st_mode & EXECUTABLE != 0 }, content)))
    }

    /// Whether this look is for the file at a path, and the driver takes a path of that length.
    fn is_wanted(&self, path: &[u8]) -> bool {
        path.len() < MAX_PATH && self.of_put == matches!(self.put.at(path), Some(Node::File(_) | Node::Link(_)))
    }

    /// What was at a place is gone, with everything beneath.
    fn gone(&mut self, path: &mut Vec<u8>, node: &Node) -> Result<(), TreeError> {
        let Node::Dir(dir) = node else { return self.push(path, FileNow::Gone, Vec::new()) };
        let mut below = dir.children.iter().filter(|(name, _)| !is_git(name));
        below.try_for_each(|(name, node)| within(path, name, |path| self.gone(path, node)))
    }

    fn push(&mut self, path: &[u8], now: FileNow, content: Vec<u8>) -> Result<(), TreeError> {
        if !self.is_wanted(path) {
            return Ok(());
        }
        self.changes.names += path.len();
        if self.changes.files.len() == MOST_FILES || self.changes.names > MOST_NAMES {
            return Err(self.changes.too_many());
        }
        self.changes.bytes += content.len() as u64;
        self.changes.files.push(ChangedFile { path: PathBytes(path.to_vec()), now });
        self.changes.contents.push(content);
        Ok(())
    }
}

/// Whether a regular file is what the tree has: its content, and whether it may be executed.
fn is_same(stat: &FileStat, content: &[u8], node: Option<&Node>) -> bool {
    let Some(Node::File(file)) = node else { return false };
    let executable = |mode: u32| mode & PERMISSIONS & EXECUTABLE;
    file.size == content.len() as u64
        && executable(file.mode) == executable(stat.st_mode)
        && file.content == <[u8; 32]>::from(Sha256::digest(content))
}

fn link(dir: BorrowedFd<'_>, name: &OsStr, node: Option<&Node>) -> Result<Option<(FileNow, Vec<u8>)>, Errno> {
    let target = readlinkat(dir, name)?;
    if matches!(node, Some(Node::Link(link)) if link.target == target) {
        return Ok(None);
    }
    Ok(Some((FileNow::Link { target: PathBytes(target.into_vec()) }, Vec::new())))
}

/// Whether git keeps itself under this name, on whatever file system the patch is applied later.
fn is_git(name: &OsStr) -> bool {
    names_git(name.as_bytes())
}

fn within<T>(path: &mut Vec<u8>, name: &OsStr, what: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let length = path.len();
    if length > 0 {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
    let out = what(path);
    path.truncate(length);
    out
}
