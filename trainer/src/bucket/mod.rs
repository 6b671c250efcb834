//! A bucket as a training sees it: calls that wait, transfers that go on beside the steps, and folders brought to this machine. How a store is spoken
//! to is `sera_program`'s business; what is put there, the checkpoints' and the training's.

mod shipping;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sera_program::address::Address;
use sera_program::failure::{Cause, Explain, Field};
use sera_program::fetch::{FetchError, Kind, fetch};
use sera_program::progress::Progress;
use sera_program::redact::Redactor;
use sera_program::store::{Digest, Store, StoreError, secret};
use tokio::runtime::Runtime;

pub use shipping::{Shipment, Shipper};

/// Why something is not in a bucket, or not here.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The threads that speak to it.
    #[error("the threads for the store cannot be started: {0}")]
    Threads(#[source] std::io::Error),
    /// It cannot be used at all.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// An object did not get there.
    #[error(
        "{object} cannot be put into the store: {source}; what is complete there is untouched, and a restart goes on from it"
    )]
    Put {
        /// The object, within the run's folder.
        object: String,
        /// What is wrong.
        source: Box<StoreError>,
    },
    /// An object cannot be had.
    #[error("{object} cannot be read from the store: {source}")]
    Get {
        /// The object.
        object: String,
        /// What is wrong.
        source: Box<StoreError>,
    },
    /// Somebody else has put something there meanwhile.
    #[error("{object} in the store is another process's: end the other training of this run, and run this again")]
    Occupied {
        /// The object.
        object: String,
    },
    /// A folder was not brought here.
    #[error("{source}")]
    Fetch {
        /// What it should have been.
        kind: Kind,
        /// What is wrong.
        source: Box<FetchError>,
    },
    /// A transfer failed, and no rank says why.
    #[error("a checkpoint did not come to the store, and no rank says why: a restart goes on from the one before it")]
    Lost,
    /// A transfer ended without a word.
    #[error("a transfer ended by a mistake in the program: {0}")]
    Broken(#[source] tokio::task::JoinError),
}

impl From<StoreError> for BucketError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl BucketError {
    /// The same, of a bucket that something of this kind is in: another field of a run names that.
    #[must_use]
    pub fn of(self, kind: Kind) -> Self {
        match self {
            Self::Store(error) => Self::Fetch { kind, source: Box::new(FetchError::Store(*error)) },
            error => error,
        }
    }

    /// What keeps an object from being read.
    fn get(object: &str) -> impl FnOnce(StoreError) -> Self + '_ {
        |source| Self::Get { object: object.to_owned(), source: Box::new(source) }
    }

    /// What keeps one from being put there.
    fn put(object: &str) -> impl FnOnce(StoreError) -> Self + '_ {
        |source| Self::Put { object: object.to_owned(), source: Box::new(source) }
    }
}

impl Explain for BucketError {
    fn explain(&self) -> Cause {
        match self {
            Self::Threads(_) => Cause::unavailable("ThreadsUnavailable"),
            Self::Store(error) => error.explain(),
            // It worked when the training began: whatever it is, the checkpoint that is there is worth another try.
            Self::Put { source, .. } | Self::Get { source, .. } => Cause::unavailable(source.explain().reason),
            Self::Occupied { .. } => Cause::conflict("StoreOccupied"),
            Self::Fetch { kind: Kind::Dataset, source } => source.cause(Field::Store, Field::StoreCredentials),
            Self::Fetch { source, .. } => source.cause(Field::Student, Field::StudentCredentials),
            Self::Lost => Cause::unavailable("StoreUnavailable"),
            Self::Broken(_) => Cause::internal("TransferBroken"),
        }
    }
}

/// Opens buckets; what they share is one thread that speaks to them all.
#[derive(Debug, Clone)]
pub struct Opener {
    runtime: Arc<Runtime>,
}

impl Opener {
    /// Starts the thread.
    pub fn new() -> Result<Self, BucketError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bucket")
            .enable_all()
            .build()
            .map_err(BucketError::Threads)?;
        Ok(Self { runtime: Arc::new(runtime) })
    }

    /// Opens the folder at `uri`, with the keys of the Secret that is mounted at `credentials`, where there is one. Nothing is asked of it yet.
    pub fn open(&self, uri: &str, credentials: Option<&Path>, redactor: &Redactor) -> Result<Arc<Bucket>, BucketError> {
        let secret = secret(credentials, redactor)?;
        let shipper = Shipper::new(Store::open(uri, secret.as_ref())?);
        Ok(Arc::new(Bucket { runtime: Arc::clone(&self.runtime), shipper }))
    }
}

/// A folder of a bucket.
#[derive(Debug)]
pub struct Bucket {
    runtime: Arc<Runtime>,
    shipper: Shipper,
}

impl Bucket {
    /// Its URI.
    pub fn uri(&self) -> &str {
        self.shipper.store().uri()
    }

    /// Refuses one that cannot be written, or that lets two writers create one object.
    pub fn probe(&self) -> Result<(), BucketError> {
        Ok(self.runtime.block_on(self.shipper.store().probe())?)
    }

    /// A document, whole; none where there is none.
    pub fn read(&self, name: &str) -> Result<Option<Bytes>, BucketError> {
        self.runtime.block_on(self.shipper.read(name))
    }

    /// The names of all objects below a folder.
    pub fn names(&self, folder: &str) -> Result<Vec<String>, BucketError> {
        self.runtime.block_on(self.shipper.names(folder))
    }

    /// Writes an object to a file, and returns its digest; none where there is none.
    pub fn download(&self, name: &str, file: &Path) -> Result<Option<Digest>, BucketError> {
        self.runtime.block_on(self.shipper.download(name, file))
    }

    /// Begins something that goes on beside the steps.
    pub fn begin<W: Future<Output = Result<(), BucketError>> + Send + 'static>(
        &self,
        work: impl FnOnce(Shipper) -> W,
    ) -> Shipment {
        Shipment::new(self.runtime.spawn(work(self.shipper.clone())))
    }

    /// Waits for something that was begun.
    pub fn wait(&self, shipment: &mut Shipment) {
        self.runtime.block_on(shipment.arrive());
    }

    /// Does something, and waits for it.
    pub fn carry<W: Future<Output = Result<(), BucketError>>>(
        &self,
        work: impl FnOnce(Shipper) -> W,
    ) -> Result<(), BucketError> {
        self.runtime.block_on(work(self.shipper.clone()))
    }

    /// Brings its files of a kind into a folder of their own in `scratch`; see [`sera_program::fetch::fetch`].
    pub fn fetch(&self, kind: Kind, scratch: &Path, progress: &Progress) -> Result<PathBuf, BucketError> {
        let fetched = self.runtime.block_on(fetch(self.shipper.store(), kind, scratch, progress));
        fetched.map_err(|source| BucketError::Fetch { kind, source: Box::new(source) })
    }
}

/// The folder on this machine with the model at `address`: the folder itself, that of one that is built in, or one in `scratch` that it is fetched
/// to, once for as long as it stays the same. `credentials` is where the Secret for its bucket is mounted.
pub fn fetch_model(
    address: &Address,
    credentials: Option<&Path>,
    scratch: &Path,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<PathBuf, BucketError> {
    match address {
        Address::Folder(folder) => Ok(sera_chat::student_folder(folder)),
        Address::Store(uri) => Opener::new()?.open(uri, credentials, redactor)?.fetch(Kind::Model, scratch, progress),
    }
}
