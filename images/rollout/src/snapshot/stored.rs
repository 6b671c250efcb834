//! A snapshot that is in the store, for the stages after it: its manifest, and its functions, each file checked against the manifest before it is
//! believed.

use std::fs::File;
use std::path::Path;

use sera_crds::contract::{IndexedFunction, SnapshotFile, SnapshotManifest};

use super::committed::{self, CommittedError};
use crate::failure::{Cause, Explain, Field};
use crate::jsonl::{JsonlError, Reader};
use crate::progress::Step;
use crate::store::{Digest, Store, StoreError};

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoredError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest is not one.
    #[error(transparent)]
    Committed(#[from] CommittedError),
    /// There is none.
    #[error("the store has no snapshot: run sera-rollout snapshot first, or name the folder that has one")]
    Missing,
    /// A file is not what the manifest says.
    #[error("{file} in the store is not what its manifest says: run sera-rollout snapshot again, which repairs it")]
    Damaged {
        /// Its name in the run's folder.
        file: String,
    },
    /// The file that was downloaded cannot be read.
    #[error("the function index cannot be read from the scratch folder: {0}")]
    Scratch(#[source] std::io::Error),
    /// The function index is not one.
    #[error("the function index in the store is none: {0}")]
    Malformed(#[from] JsonlError),
}

impl Explain for StoredError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Committed(error) => error.explain(),
            Self::Missing => Cause::configuration("SnapshotMissing", Field::Store),
            Self::Damaged { .. } => Cause::conflict("SnapshotDamaged"),
            Self::Scratch(_) => Cause::unavailable("ScratchUnavailable"),
            Self::Malformed(_) => Cause::conflict("SnapshotMalformed"),
        }
    }
}

/// The functions of a snapshot, as they are read.
pub(crate) type Functions = Reader<File, IndexedFunction>;

/// The manifest of the store's snapshot.
pub(crate) async fn manifest(store: &Store) -> Result<SnapshotManifest, StoredError> {
    let encoded = store.read(committed::MANIFEST).await?.ok_or(StoredError::Missing)?;
    Ok(committed::decode(&encoded)?)
}

/// The functions of the store's snapshot; the file that they are read from goes into `folder`.
pub(crate) async fn functions(
    store: &Store,
    manifest: &SnapshotManifest,
    folder: &Path,
    step: &Step,
) -> Result<Functions, StoredError> {
    let file = folder.join(&manifest.functions.path);
    fetch(store, &manifest.functions, &file, step).await?;
    Ok(Reader::new(File::open(&file).map_err(StoredError::Scratch)?)?)
}

/// Downloads a file that the manifest describes.
pub(crate) async fn fetch(
    store: &Store,
    described: &SnapshotFile,
    file: &Path,
    step: &Step,
) -> Result<(), StoredError> {
    let name = committed::path(described);
    let expected = Digest::from(described);
    if store.download(&name, file, step).await? != Some(expected) {
        return Err(StoredError::Damaged { file: name });
    }
    Ok(())
}
