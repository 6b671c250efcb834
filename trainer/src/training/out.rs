//! Where a training's results go: a folder that all ranks see, or a bucket with a folder of this machine in front of it. What the results are is the
//! others' business.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::error::TrainingError;
use crate::bucket::{Bucket, BucketError, Shipment};
use crate::checkpoint::{Attempt, Checkpoints, Kept, Shipped};
use crate::durable;

/// The folder of checkpoints.
const CHECKPOINTS: &str = "checkpoints";
/// How much of a digest tells one run's scratch from another's.
const DIGITS: usize = 16;

/// A run's own folder.
#[derive(Debug, Clone)]
pub struct Out {
    /// Where results are, or are made before they go to the bucket.
    folder: PathBuf,
    bucket: Option<Arc<Bucket>>,
}

impl Out {
    /// A folder.
    pub fn folder(folder: PathBuf) -> Self {
        Self { folder, bucket: None }
    }

    /// A bucket; what goes there is made in a folder of `scratch`.
    pub fn bucket(bucket: Arc<Bucket>, scratch: &Path) -> Self {
        let name: String = hex::encode(Sha256::digest(bucket.uri())).chars().take(DIGITS).collect();
        Self { folder: scratch.join(format!("run-{name}")), bucket: Some(bucket) }
    }

    /// Refuses a bucket that cannot be written.
    pub fn probe(&self) -> Result<(), TrainingError> {
        match &self.bucket {
            Some(bucket) => Ok(bucket.probe()?),
            None => Ok(()),
        }
    }

    /// Where a result is, or is made.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What a result is called in messages.
    pub(super) fn named(&self, name: &str) -> PathBuf {
        match &self.bucket {
            Some(bucket) => PathBuf::from(format!("{}/{name}", bucket.uri().trim_end_matches('/'))),
            None => self.path(name),
        }
    }

    /// A document that was published; none where there is none.
    pub(super) fn published(&self, name: &str) -> Result<Option<Vec<u8>>, TrainingError> {
        if let Some(bucket) = &self.bucket {
            return Ok(bucket.read(name)?.map(Vec::from));
        }
        let path = self.path(name);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            content => content.map(Some).map_err(|error| TrainingError::Read { path, problem: error.to_string() }),
        }
    }

    /// The run's checkpoints, as a rank of an attempt sees them.
    pub(super) fn checkpoints(&self, rank: usize, attempt: Attempt) -> Kept {
        match &self.bucket {
            Some(bucket) => {
                let scratch = self.folder.join(format!("rank-{rank:04}"));
                Kept::There(Box::new(Shipped::new(Arc::clone(bucket), scratch, attempt)))
            }
            None => Kept::Here(Checkpoints::new(&self.folder.join(CHECKPOINTS), attempt)),
        }
    }

    /// Brings results that were made to where they go.
    pub(super) fn send(&self, names: &[String]) -> Result<(), TrainingError> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        for name in names {
            let path = self.path(name);
            tracing::info!(object = name, "goes to the store");
            bucket.carry(|shipper| async move { shipper.file(name, &path).await })?;
        }
        Ok(())
    }

    /// Writes down the document that makes all others count.
    pub(super) fn publish(&self, name: &str, document: Vec<u8>) -> Result<(), TrainingError> {
        let path = self.path(name);
        let Some(bucket) = &self.bucket else {
            return durable::write(&path, &document).map_err(|source| TrainingError::Write { path, source });
        };
        let document = Bytes::from(document);
        Ok(bucket.carry(|shipper| async move { shipper.create(name, document).await })?)
    }

    /// Puts something into the bucket beside the steps that is of use now and worthless later; none where there is no bucket.
    pub(super) fn tell(&self, name: &'static str, document: Vec<u8>) -> Option<Shipment> {
        let bucket = self.bucket.as_ref()?;
        Some(bucket.begin(|shipper| async move {
            if let Err(error) = shipper.document(name, document.into()).await {
                tracing::warn!("{error}");
            }
            Ok::<(), BucketError>(())
        }))
    }

    /// Waits for what was told.
    pub(super) fn wait(&self, shipment: &mut Shipment) {
        if let Some(bucket) = &self.bucket {
            bucket.wait(shipment);
        }
    }

    /// Frees the room on this machine of what is in the bucket.
    pub(super) fn release(&self) {
        if self.bucket.is_some()
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
        {
            tracing::warn!("{} is not removed: {error}", self.folder.display());
        }
    }
}
