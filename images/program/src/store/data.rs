//! Files that nobody has committed yet, or that a committed document names: put, listed and read. They may be replaced, but only by who
//! owns the folder that they are in (a pod's own, named by its uid); what makes them count is a document, created once.

use std::path::Path as FilePath;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use tokio::io::{AsyncWriteExt, BufWriter};

use super::{Digest, Digester, Store, StoreError};
use crate::progress::Step;

/// The longest file that is read into memory, in bytes: ten times the largest that a stage reads whole (a function index, a batch's verdicts), and
/// within the memory that a pod has. What is longer is downloaded to a file.
const MAX_DATA: u64 = 256 << 20;

/// A file as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name, relative to the store.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// What changes whenever its content does: the tag that the store gives it, or when it was written.
    pub tag: String,
}

impl Store {
    /// Puts a small file, whole, in place of what is there.
    pub async fn put(&self, name: &str, content: Bytes) -> Result<(), StoreError> {
        self.objects.put(&self.path(name), content.into()).await.map_err(|error| self.explain(error))?;
        Ok(())
    }

    /// A file, whole, of up to 256 MiB; none where there is none.
    pub async fn read_data(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.read_within(name, MAX_DATA).await
    }

    /// The files below the folder `folder` (at any depth; empty: the whole store), by name and size in bytes, ordered by name. A folder that does not
    /// exist is empty. Names are relative to the store, as the other methods take them.
    pub async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let objects = self.objects(folder).await?;
        Ok(objects.into_iter().map(|object| (object.name, object.bytes)).collect())
    }

    /// The same, with what tells whether a file is still the one that it was.
    pub async fn objects(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        let within = if folder.is_empty() { self.root.clone() } else { self.path(folder) };
        let listed = self.objects.list(Some(&within));
        let found: Vec<_> = listed.try_collect().await.map_err(|error| self.explain(error))?;
        let mut objects: Vec<Object> = found
            .into_iter()
            .filter_map(|meta| {
                let tag = meta.e_tag.unwrap_or_else(|| meta.last_modified.to_rfc3339());
                Some(Object { name: self.name(&meta.location)?, bytes: meta.size, tag })
            })
            .collect();
        objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }

    /// Deletes a file; one that is not there is as good as deleted.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.path(name)).await {
            Err(Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Writes a file of the store, of any size, to `file`, and returns its digest; none (and no file) where there is none.
    pub async fn download(&self, name: &str, file: &FilePath, step: &Step) -> Result<Option<Digest>, StoreError> {
        self.download_noting(name, file, |done, total| step.update("downloading", done, total)).await
    }

    /// The same, with every piece `note`d: how many bytes have come, and how many there are.
    pub async fn download_noting(
        &self,
        name: &str,
        file: &FilePath,
        mut note: impl FnMut(u64, u64),
    ) -> Result<Option<Digest>, StoreError> {
        let local = |source| StoreError::Local { path: file.to_owned(), source };
        let got = match self.objects.get(&self.path(name)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(|error| self.explain(error))?,
        };
        let total = got.meta.size;
        let mut output = BufWriter::new(tokio::fs::File::create(file).await.map_err(local)?);
        let mut digester = Digester::default();
        let mut pieces = got.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(|error| self.explain(error))? {
            digester.update(&piece);
            output.write_all(&piece).await.map_err(local)?;
            note(digester.bytes(), total);
        }
        output.flush().await.map_err(local)?;
        Ok(Some(digester.finish()))
    }

    /// A location's name within the store.
    fn name(&self, location: &Path) -> Option<String> {
        let parts: Vec<String> = location.prefix_match(&self.root)?.map(|part| part.as_ref().to_owned()).collect();
        Some(parts.join("/"))
    }
}
