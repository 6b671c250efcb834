//! What a tree is: directories, regular files and symbolic links, by name. Other kinds of files are never part of one.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use nix::sys::stat::FileStat;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a content.
pub(crate) type Digest = [u8; 32];

/// The permission bits that a tree keeps: a set-user-id bit is nothing that a checkout has.
pub(crate) const PERMISSIONS: u32 = 0o777;

/// A directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dir {
    pub(crate) mode: u32,
    pub(crate) children: BTreeMap<OsString, Node>,
}

/// What can be in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Dir(Dir),
    File(File),
    Link(Link),
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) content: Digest,
    /// Seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, i64),
    /// How it was last seen on disk with this very content.
    pub(crate) seen: Option<Identity>,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) target: OsString,
    pub(crate) seen: Option<Identity>,
}

/// What the kernel says of a file. While all of it stays, so does the content: the time of change cannot be set by who changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

impl From<&FileStat> for Identity {
    fn from(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            links: stat.st_nlink,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

impl Node {
    pub(crate) fn seen(&self) -> Option<&Identity> {
        match self {
            Self::Dir(_) => None,
            Self::File(file) => file.seen.as_ref(),
            Self::Link(link) => link.seen.as_ref(),
        }
    }
}

impl Dir {
    /// An empty directory that everyone may read and its owner and group may write.
    pub(crate) fn empty() -> Self {
        Self { mode: 0o775, children: BTreeMap::new() }
    }

    /// What has this path, from here.
    pub(crate) fn at(&self, path: &[u8]) -> Option<&Node> {
        let mut names = path.split(|byte| *byte == b'/').map(OsStr::from_bytes);
        let first = self.children.get(names.next()?)?;
        names.try_fold(first, |node, name| if let Node::Dir(dir) = node { dir.children.get(name) } else { None })
    }

    /// Puts another tree on top: what both have at a place is the other's, but for directories, which are merged.
    pub(crate) fn overlay(&mut self, other: Self) {
        self.mode = other.mode;
        for (name, node) in other.children {
            match (self.children.get_mut(&name), node) {
                (Some(Node::Dir(below)), Node::Dir(above)) => below.overlay(above),
                (_, node) => {
                    self.children.insert(name, node);
                }
            }
        }
    }

    /// One digest over names, kinds, permissions, contents and targets of everything in it.
    pub(crate) fn digest(&self) -> Digest {
        let mut digest = Sha256::new();
        digest.update(self.mode.to_be_bytes());
        for (name, node) in &self.children {
            update(&mut digest, name);
            match node {
                Node::Dir(dir) => {
                    digest.update(b"d");
                    digest.update(dir.digest());
                }
                Node::File(file) => {
                    digest.update(b"f");
                    digest.update(file.mode.to_be_bytes());
                    digest.update(file.content);
                }
                Node::Link(link) => {
                    digest.update(b"l");
                    update(&mut digest, &link.target);
                }
            }
        }
        digest.finalize().into()
    }

    /// The latest change of anything in it, as last seen.
    pub(crate) fn last_change(&self) -> (i64, i64) {
        let changes = self.children.values().map(|node| match node {
            Node::Dir(dir) => dir.last_change(),
            other => other.seen().map_or((0, 0), |seen| seen.changed),
        });
        changes.max().unwrap_or((0, 0))
    }
}

/// A text with its length before it, so that no two lists of texts run together to the same bytes.
fn update(digest: &mut Sha256, text: &OsStr) {
    digest.update((text.len() as u64).to_be_bytes());
    digest.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::{Dir, File, Link, Node};

    fn file(content: u8) -> Node {
        Node::File(File { mode: 0o644, size: 3, content: [content; 32], modified: (1, 2), seen: None })
    }

    fn link(target: &str) -> Node {
        Node::Link(Link { target: target.into(), seen: None })
    }

    fn dir(children: Vec<(&str, Node)>) -> Dir {
        Dir { mode: 0o755, children: children.into_iter().map(|(name, node)| (name.into(), node)).collect() }
    }

    #[test]
    fn what_is_put_on_top_wins_and_directories_are_merged() {
        let mut below =
            dir(vec![("a", file(1)), ("d", Node::Dir(dir(vec![("x", file(2))]))), ("e", Node::Dir(dir(vec![])))]);
        below.overlay(dir(vec![("d", Node::Dir(dir(vec![("y", file(3))]))), ("a", link("d")), ("e", file(4))]));
        let both = Node::Dir(dir(vec![("x", file(2)), ("y", file(3))]));
        assert_eq!(below, dir(vec![("a", link("d")), ("d", both), ("e", file(4))]));
    }

    #[test]
    fn a_node_is_found_by_its_path() {
        let tree = dir(vec![("a", file(1)), ("d", Node::Dir(dir(vec![("x", link("a"))])))]);
        assert_eq!((tree.at(b"a"), tree.at(b"d/x")), (Some(&file(1)), Some(&link("a"))));
        for path in [&b""[..], b"b", b"a/x", b"d/y", b"d/x/y", b"d/"] {
            assert_eq!(tree.at(path), None, "{}", path.escape_ascii());
        }
    }

    #[test]
    fn the_digest_tells_names_kinds_modes_and_contents_apart() {
        let mut executable = dir(vec![("a", file(1))]);
        let Some(Node::File(only)) = executable.children.get_mut(std::ffi::OsStr::new("a")) else { panic!("no file") };
        only.mode = 0o755;
        let all = [
            dir(vec![]),
            dir(vec![("a", file(1))]),
            dir(vec![("a", file(2))]),
            dir(vec![("b", file(1))]),
            dir(vec![("a", link("b"))]),
            dir(vec![("a", link("c"))]),
            dir(vec![("a", Node::Dir(dir(vec![])))]),
            executable,
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other.digest() != one.digest()), "{one:?}");
        }
    }
}
