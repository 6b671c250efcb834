//! Trees of files: what was put, what is there, what differs. `node` says what a tree is, `pack` keeps contents where no command can reach them, `disk`
//! opens nothing but what lies beneath a directory; `unpack`, `scan`, `restore` and `changed` are the four things that are done with trees.

pub(crate) mod changed;
pub(crate) mod disk;
pub(crate) mod node;
pub(crate) mod pack;
pub(crate) mod restore;
pub(crate) mod scan;
pub(crate) mod unpack;
pub(crate) mod writers;

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// Why something could not be done with a tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// The stream is no tar stream, or has what a tree of files must not have.
    #[error("the tree cannot be unpacked: {0}")]
    Stream(String),
    /// A file could not be used.
    #[error("cannot {action} {path}: {source}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which file, as far as it is known.
        path: PathBuf,
        /// Why it failed.
        source: Errno,
    },
    /// The kept contents could not be used.
    #[error("cannot keep a copy of the tree: {0}")]
    Pack(#[source] io::Error),
    /// More has changed than is shipped.
    #[error("{files} files have changed, and more, most of them in {fullest}")]
    TooManyChanges {
        /// How many were found before the search was given up.
        files: usize,
        /// The file or directory at the top that most of them are in.
        fullest: String,
    },
    /// What was restored is not what was kept.
    #[error("{path} does not come clean: what is there is not what was put")]
    NotClean {
        /// The root.
        path: PathBuf,
    },
}

impl TreeError {
    pub(crate) fn disk(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> Self {
        let path = path.into();
        move |source| Self::Disk { action, path, source }
    }
}
