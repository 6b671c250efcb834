//! The folder of one run in an object store: small files created at most once, large files streamed, digests taken on the way. Which store it
//! is, and with which credentials, is decided in `location`; whether it can be trusted, in `probe`; what may be replaced is
//! in `data`; how all of it goes, in `erase`; how long a fault may last, in `patience`.

mod copy;
mod data;
mod erase;
mod error;
mod location;
mod patience;
mod probe;
mod transfer;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

pub use copy::Copied;
pub use data::Object;
pub use erase::Erased;
pub use error::StoreError;
pub use location::secret;
pub use patience::persist;
pub use transfer::{Digest, Digester};

/// Something that can be created once, such as a manifest, is small; what claims to be longer (in bytes) is not ours.
const MAX_DOCUMENT: u64 = 16 << 20;

/// What became of an attempt to create a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It is there now, and we put it there.
    Created,
    /// It was there before, and was left untouched.
    Existed,
}

/// The folder of a run.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    root: Path,
    /// The URI as it was given, for messages.
    uri: String,
    /// Where the folder lies, if it is a folder of this machine.
    local: Option<PathBuf>,
}

impl Store {
    /// A document, whole; none where there is none.
    pub async fn read(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.read_within(name, MAX_DOCUMENT).await
    }

    async fn read_within(&self, name: &str, limit: u64) -> Result<Option<Bytes>, StoreError> {
        let got = match self.objects.get(&self.path(name)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(|error| self.explain(error))?,
        };
        if got.meta.size > limit {
            return Err(StoreError::DocumentTooLong { name: name.to_owned(), bytes: got.meta.size });
        }
        Ok(Some(got.bytes().await.map_err(|error| self.explain(error))?))
    }

    /// Creates a document, in one atomic step; one that exists is never touched.
    pub async fn create(&self, name: &str, document: Bytes) -> Result<Creation, StoreError> {
        let create = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&self.path(name), document.into(), create).await {
            Ok(_) => Ok(Creation::Created),
            Err(Error::AlreadyExists { .. }) => Ok(Creation::Existed),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// The URI as it was given.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.root.clone(), Path::join)
    }

    fn explain(&self, error: Error) -> StoreError {
        StoreError::from_object_store(error, &self.uri, self.local.is_some())
    }
}

/// A store in a folder of this machine, for tests.
#[cfg(test)]
pub(crate) fn local(folder: &std::path::Path) -> Store {
    Store::open(&format!("file://{}", folder.display()), None).unwrap()
}

#[cfg(test)]
mod tests;
