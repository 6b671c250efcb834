//! Files that nobody has committed yet, or that a committed document names: put, listed, read and deleted. They may be replaced, but only by who
//! owns the folder that they are in (a pod's own, named by its uid); what makes them count is a document, created once.
#![allow(dead_code, reason = "the stages after the snapshot read and write through it")]

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

impl Store {
    /// Puts a small file, whole, in place of what is there.
    pub(crate) async fn put(&self, name: &str, content: Bytes) -> Result<(), StoreError> {
        self.objects.put(&self.path(name), content.into()).await.map_err(|error| self.explain(error))?;
        Ok(())
    }

    /// A file, whole, of up to 256 MiB; none where there is none.
    pub(crate) async fn read_data(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.read_within(name, MAX_DATA).await
    }

    /// The size of a file in bytes; none where there is none.
    pub(crate) async fn size(&self, name: &str) -> Result<Option<u64>, StoreError> {
        match self.objects.head(&self.path(name)).await {
            Err(Error::NotFound { .. }) => Ok(None),
            found => Ok(Some(found.map_err(|error| self.explain(error))?.size)),
        }
    }

    /// The files below the folder `folder` (at any depth; empty: the whole store), by name and size in bytes, ordered by name. A folder that does not
    /// exist is empty. Names are relative to the store, as the other methods take them.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let listed = self.objects.list(Some(&self.path(folder)));
        let found: Vec<_> = listed.try_collect().await.map_err(|error| self.explain(error))?;
        let mut named: Vec<(String, u64)> =
            found.into_iter().filter_map(|object| Some((self.name(&object.location)?, object.size))).collect();
        named.sort_unstable();
        Ok(named)
    }

    /// Deletes a file; one that is not there is no error.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.path(name)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Writes a file of the store, of any size, to `file`, and returns its digest; none (and no file) where there is none.
    pub(crate) async fn download(
        &self,
        name: &str,
        file: &FilePath,
        step: &Step,
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
            step.update("downloading", digester.bytes(), total);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;
    use crate::store::local;

    #[tokio::test]
    async fn a_file_is_put_replaced_measured_read_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = local(&folder.path().join("a b"));
        assert_eq!(store.size("rollouts/b1/7/pod/p1.diff").await.unwrap(), None);
        assert_eq!(store.read_data("rollouts/b1/7/pod/p1.diff").await.unwrap(), None);
        for content in ["first", "second one"] {
            store.put("rollouts/b1/7/pod/p1.diff", content.into()).await.unwrap();
            assert_eq!(store.read_data("rollouts/b1/7/pod/p1.diff").await.unwrap().unwrap(), content);
            assert_eq!(store.size("rollouts/b1/7/pod/p1.diff").await.unwrap(), Some(content.len() as u64));
        }
        store.delete("rollouts/b1/7/pod/p1.diff").await.unwrap();
        store.delete("rollouts/b1/7/pod/p1.diff").await.unwrap();
        assert_eq!(store.size("rollouts/b1/7/pod/p1.diff").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_folder_is_listed_at_any_depth_in_order_and_without_unfinished_uploads_or_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        let store = local(&folder.path().join("a b"));
        assert_eq!(store.list("").await.unwrap(), []);
        for (name, content) in [
            ("r/b1/9/t1.json", "12345"),
            ("r/b1/10/t1.json", ""),
            ("r/b1/9/pod/p1.diff", "1"),
            ("r/b10/1/t1.json", "x"),
        ] {
            store.put(name, content.into()).await.unwrap();
        }
        std::fs::write(folder.path().join("a b/r/b1/9/t2.json#1"), "half").unwrap();
        let expected = [("r/b1/10/t1.json", 0), ("r/b1/9/pod/p1.diff", 1), ("r/b1/9/t1.json", 5)];
        let expected: Vec<(String, u64)> = expected.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        assert_eq!(store.list("r/b1").await.unwrap(), expected);
        assert_eq!(store.list("").await.unwrap().len(), 4);
        assert_eq!(store.list("r/b2").await.unwrap(), []);
    }

    #[tokio::test]
    async fn data_may_be_longer_than_a_document_and_what_is_longer_still_goes_to_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = local(&folder.path().join("store"));
        let content = Bytes::from(vec![7; usize::try_from(super::super::MAX_DOCUMENT).unwrap() + 1]);
        store.put("verified/b1/p.jsonl", content.clone()).await.unwrap();
        assert!(store.read("verified/b1/p.jsonl").await.is_err());
        assert_eq!(store.read_data("verified/b1/p.jsonl").await.unwrap().as_ref(), Some(&content));
        std::fs::File::create(folder.path().join("store/huge")).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(store.read_data("huge").await, Err(StoreError::DocumentTooLong { .. })));

        let step = Progress::detect().step("downloading");
        let file = folder.path().join("file");
        assert_eq!(store.download("missing", &file, &step).await.unwrap(), None);
        assert!(!file.exists());
        let digest = store.download("verified/b1/p.jsonl", &file, &step).await.unwrap();
        assert_eq!(digest, Some(Digest::of(&content)));
        assert_eq!(std::fs::read(&file).unwrap(), content);
    }
}
