//! A file that a snapshot consists of, made in scratch space and about to be stored beside the manifest.

use std::path::PathBuf;

use sera_crds::contract::SnapshotFile;

use crate::store::Digest;

/// A file of a snapshot.
#[derive(Debug)]
pub(crate) struct Part {
    /// Where it lies for now.
    pub(crate) file: PathBuf,
    /// What the manifest says of it.
    pub(crate) described: SnapshotFile,
}

impl Part {
    /// `name`: what it is called beside the manifest.
    pub(crate) fn new(name: &str, file: PathBuf, digest: Digest) -> Self {
        let Digest { bytes, sha256 } = digest;
        Self { file, described: SnapshotFile { path: name.to_owned(), bytes, sha256 } }
    }
}
