//! What goes to a bucket and comes from it, tried again for as long as a passing fault may last.

use std::path::Path;

use bytes::Bytes;
use sera_program::progress::Step;
use sera_program::store::{Creation, Digest, Store, StoreError, persist};
use tokio::task::JoinHandle;

use super::BucketError;

/// Something that goes on beside the steps.
#[derive(Debug)]
pub struct Shipment {
    handle: Option<JoinHandle<Result<(), BucketError>>>,
    outcome: Option<Result<(), BucketError>>,
}

impl Shipment {
    pub(super) fn new(handle: JoinHandle<Result<(), BucketError>>) -> Self {
        Self { handle: Some(handle), outcome: None }
    }

    /// Waits for its end.
    pub(super) async fn arrive(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.outcome = Some(handle.await.unwrap_or_else(|error| Err(BucketError::Broken(error))));
        }
    }

    /// Whether it came to an end that nobody has to wait for.
    pub fn is_over(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// How it ended, once it was waited for.
    pub fn outcome(&self) -> Option<&Result<(), BucketError>> {
        self.outcome.as_ref()
    }

    /// Why it failed, if it did.
    pub fn into_failure(self) -> Option<BucketError> {
        self.outcome?.err()
    }
}

/// A bucket for what goes on beside; a clone is the same one.
#[derive(Debug, Clone)]
pub struct Shipper {
    store: Store,
}

impl Shipper {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The names of all objects below a folder.
    pub async fn names(&self, folder: &str) -> Result<Vec<String>, BucketError> {
        let listed = persist(folder, passes, || self.store.list(folder)).await;
        let listed = listed.map_err(BucketError::get(folder))?;
        Ok(listed.into_iter().map(|(name, _)| name).collect())
    }

    /// A document, whole; none where there is none.
    pub async fn read(&self, name: &str) -> Result<Option<Bytes>, BucketError> {
        persist(name, passes, || self.store.read_data(name)).await.map_err(BucketError::get(name))
    }

    /// Writes an object to a file.
    pub async fn download(&self, name: &str, file: &Path) -> Result<Option<Digest>, BucketError> {
        let step = Step::unseen("downloading");
        let found = persist(name, passes, || self.store.download(name, file, &step)).await;
        found.map_err(BucketError::get(name))
    }

    /// Puts a file there, in place of what is there.
    pub async fn file(&self, name: &str, file: &Path) -> Result<(), BucketError> {
        let step = Step::unseen("uploading");
        persist(name, passes, || self.store.upload(name, file, &step)).await.map_err(BucketError::put(name))
    }

    /// Puts something small there, in place of what is there.
    pub async fn document(&self, name: &str, content: Bytes) -> Result<(), BucketError> {
        persist(name, passes, || self.store.put(name, content.clone())).await.map_err(BucketError::put(name))
    }

    /// Takes an object away.
    pub async fn delete(&self, name: &str) -> Result<(), BucketError> {
        persist(name, passes, || self.store.delete(name)).await.map_err(BucketError::put(name))
    }

    /// Creates a document. One of the same content may be there: the answer to the first of two tries may have been lost.
    pub async fn create(&self, name: &str, content: Bytes) -> Result<(), BucketError> {
        match persist(name, passes, || self.store.create(name, content.clone()))
            .await
            .map_err(BucketError::put(name))?
        {
            Creation::Created => Ok(()),
            Creation::Existed if self.read(name).await?.as_ref() == Some(&content) => Ok(()),
            Creation::Existed => Err(BucketError::Occupied { object: name.to_owned() }),
        }
    }
}

/// Whether it is worth another try: not where this machine failed. What the store refuses may be a Secret that is being replaced.
fn passes(error: &StoreError) -> bool {
    !matches!(error, StoreError::Local { .. })
}
