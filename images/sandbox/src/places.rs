//! Where a slot's directories are.

use std::path::PathBuf;

/// The directories.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Where the tree is put and commands start.
    pub(crate) workspace: PathBuf,
    /// For temporary files.
    pub(crate) tmp: PathBuf,
    /// HOME.
    pub(crate) home: PathBuf,
    /// Where a copy of what was put is kept, in a file without a name.
    pub(crate) stash: PathBuf,
    /// A copy of what the image has at the workspace.
    pub(crate) image_workspace: Option<PathBuf>,
    /// What commands may not even read.
    pub(crate) hidden: Vec<PathBuf>,
}
