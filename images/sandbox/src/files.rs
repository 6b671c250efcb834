//! The files of a slot: the workspace, HOME, the directory for temporary files, and what else commands may write to. They are put, looked through and
//! restored together, so that nothing of a rollout is left anywhere.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;

use crate::places::Places;
use crate::tree::changed::{self, Changes};
use crate::tree::node::{Dir, Node};
use crate::tree::pack::Pack;
use crate::tree::restore::restore;
use crate::tree::scan::Scan;
use crate::tree::{TreeError, disk, unpack};

/// How long between two looks at the clock of files; a tick of the kernel is 1 to 10 ms.
const TICK: Duration = Duration::from_millis(1);

/// The files of a slot.
pub(crate) struct Files {
    roots: Vec<Root>,
    pack: Pack,
    /// What the image has at the workspace.
    image: Dir,
    /// The tree that was put, without what the image has.
    sent: Dir,
    /// The name of the tree that was put.
    put: Option<String>,
}

/// A directory that commands may write to.
struct Root {
    path: PathBuf,
    dir: File,
    trust: bool,
    /// What was there before anything was put.
    pristine: Dir,
    /// What is restored.
    baseline: Dir,
}

/// The workspace comes first.
const WORKSPACE: usize = 0;

impl Files {
    /// Opens the directories, and keeps what the image has in them.
    pub(crate) fn open(places: &Places, writable: &[PathBuf]) -> Result<Self, TreeError> {
        let mut roots = Vec::new();
        for path in [&places.workspace, &places.tmp, &places.home] {
            fs::create_dir_all(path).map_err(io_error("make", path))?;
            roots.push(Root::open(path)?);
        }
        let mut pack = Pack::create(&places.stash)?;
        for path in writable {
            let mut root = Root::open(path)?;
            root.pristine = root.scan(&mut pack, None)?;
            root.baseline = root.pristine.clone();
            roots.push(root);
        }
        let image = match &places.image_workspace {
            Some(path) => Root::open(path)?.scan(&mut pack, None)?,
            None => Dir::empty(),
        };
        Ok(Self { roots, pack, image, sent: Dir::empty(), put: None })
    }

    /// The directories that are watched and may be written to.
    pub(crate) fn dirs(&self) -> Vec<BorrowedFd<'_>> {
        self.roots.iter().map(|root| root.dir.as_fd()).collect()
    }

    /// The workspace.
    pub(crate) fn workspace(&self) -> BorrowedFd<'_> {
        self.roots[WORKSPACE].dir.as_fd()
    }

    /// Whether the tree of that name is the one that was put.
    pub(crate) fn holds(&self, tree: &str) -> bool {
        self.put.as_deref() == Some(tree)
    }

    /// Puts another tree on top of what the image has. Nothing of the one before it is left, nor of what its setup did. Answers how many files were
    /// written or removed.
    pub(crate) fn put(&mut self, stream: impl Read) -> Result<u64, TreeError> {
        self.put = None;
        let mut tree = self.image.clone();
        self.sent = unpack::unpack(stream, &mut self.pack)?;
        tree.overlay(self.sent.clone());
        tree.mode = self.roots[WORKSPACE].pristine.mode;
        // What the tree before had just so need not be written again.
        carry(&self.roots[WORKSPACE].baseline, &mut tree);
        self.roots[WORKSPACE].pristine = tree;
        for root in &mut self.roots {
            carry(&root.baseline, &mut root.pristine);
            root.baseline = root.pristine.clone();
        }
        self.restore()
    }

    /// Gives what was put its name.
    pub(crate) fn name(&mut self, tree: &str) {
        self.put = Some(tree.to_owned());
    }

    /// Takes what is there now, after the setup, for what was put.
    pub(crate) fn keep(&mut self) -> Result<(), TreeError> {
        for root in &mut self.roots {
            let known = std::mem::take(&mut root.baseline);
            root.baseline = root.scan(&mut self.pack, Some(&known))?;
        }
        self.wait_for_the_clock()
    }

    /// Makes everything be as it was put, and proves it. Answers how many files were written or removed.
    pub(crate) fn restore(&mut self) -> Result<u64, TreeError> {
        let mut count = 0;
        for root in &mut self.roots {
            count += root.restore(&self.pack)?;
        }
        for root in &self.roots {
            let there = root.scan(&mut self.pack, Some(&root.baseline))?;
            if there.digest() != root.baseline.digest() {
                return Err(TreeError::NotClean { path: root.path.clone() });
            }
        }
        self.wait_for_the_clock()?;
        Ok(count)
    }

    /// What differs in the workspace from what was put.
    pub(crate) fn changes(&self) -> Result<Changes, TreeError> {
        let root = &self.roots[WORKSPACE];
        changed::changes(root.dir.as_fd(), &root.baseline, &self.sent, root.trust)
    }

    /// A change within the same tick of the clock as the last restored file would not show in its time.
    fn wait_for_the_clock(&self) -> Result<(), TreeError> {
        let last = self.roots.iter().map(|root| root.baseline.last_change()).max().unwrap_or_default();
        while self.pack.clock().map_err(TreeError::Pack)? <= last {
            sleep(TICK);
        }
        Ok(())
    }
}

impl Root {
    fn open(path: &Path) -> Result<Self, TreeError> {
        let dir = File::open(path).map_err(io_error("open", path))?;
        let trust = disk::times_tell_changes(&dir);
        // Whoever else is of the group keeps what they may do with the directory itself.
        let mode = dir.metadata().map_err(io_error("look at", path))?;
        let mode = std::os::unix::fs::MetadataExt::mode(&mode) & 0o7777;
        let empty = Dir { mode: mode | 0o700, children: BTreeMap::new() };
        Ok(Self { path: path.to_owned(), dir, trust, pristine: empty.clone(), baseline: empty })
    }

    fn scan(&self, pack: &mut Pack, known: Option<&Dir>) -> Result<Dir, TreeError> {
        let mut tree = Scan { pack, trust: self.trust }.tree(self.dir.as_fd(), &self.path, known)?;
        tree.mode = self.pristine.mode;
        Ok(tree)
    }

    fn restore(&mut self, pack: &Pack) -> Result<u64, TreeError> {
        restore(self.dir.as_fd(), &self.path, &mut self.baseline, pack, self.trust)
    }
}

/// Tells a tree how those of its files look on disk that are the same in another, which is there.
fn carry(there: &Dir, tree: &mut Dir) {
    for (name, node) in &mut tree.children {
        match (there.children.get(name as &OsString), node) {
            (Some(Node::Dir(there)), Node::Dir(dir)) => carry(there, dir),
            (Some(Node::File(there)), Node::File(file)) => {
                let same = (there.content, there.mode) == (file.content, file.mode);
                file.seen = if same { there.seen } else { None };
            }
            (Some(Node::Link(there)), Node::Link(link)) => {
                link.seen = there.seen.filter(|_| there.target == link.target);
            }
            (_, Node::File(file)) => file.seen = None,
            (_, Node::Link(link)) => link.seen = None,
            _ => {}
        }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> TreeError {
    move |error| TreeError::disk(action, path)(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}
