//! Taking over the stages of an earlier run: what its manifests and records name is copied into this run's folder, each file checked by its sha256 on
//! the way. Nothing of the earlier run is changed, and nothing of it is needed afterwards.

mod dataset;
mod rollouts;
mod snapshot;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use sera_crds::contract::{AdoptedDataset, AdoptedRollouts, StageResult, VerificationPlan};
use sera_crds::values::{AdoptableStage, ToolCallFormat};
use serde::{Deserialize, Serialize};

use crate::failure::{Cause, Explain, Field};
use crate::progress::{Progress, Step};
use crate::redact::Redactor;
use crate::snapshot::committed;
use crate::store::{self, Copied, Creation, Digest, Store, StoreError};

/// What is written last, and found by whoever does this again: what was taken over.
const ADOPTION: &str = "adoption.json";

/// `adoption.json`: where it came from, for whoever asks later, and what is reported again.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Adoption {
    /// The earlier run's folder.
    from: String,
    /// The last stage that was taken over.
    through: AdoptableStage,
    /// What was reported.
    result: StageResult,
}

/// What is asked for.
pub(crate) struct Request {
    /// The earlier run's folder.
    pub from: String,
    /// What it is called where it is not mounted.
    pub address: String,
    /// The repository that its snapshot has to be of; none: any.
    pub repository: Option<String>,
    /// The last stage that is taken over.
    pub through: AdoptableStage,
    /// This run's folder.
    pub store: String,
    /// This run's name, which its batches are named after.
    pub run: String,
    /// A folder with the keys of both stores.
    pub store_credentials: Option<PathBuf>,
    /// How lines are to be written for the student; none: as they are.
    pub verification: Option<VerificationPlan>,
}

/// Why nothing, or not everything, was taken over. What was copied stays, and is not copied again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptionError {
    /// A store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The earlier run's store fails.
    #[error("the earlier run cannot be read: {0}")]
    Earlier(#[source] StoreError),
    /// This run has taken over something else before.
    #[error(
        "this run's folder already has what {from} has through {through}, and cannot take over anything else: ask for that again, or create another run"
    )]
    AdoptedBefore {
        /// The folder that it is from.
        from: String,
        /// The last stage that was taken over.
        through: AdoptableStage,
    },
    /// The earlier run has none of that stage.
    #[error(
        "{from} has no {file}: that run has not finished the stage {stage}; adopt through an earlier stage, or name another run's status.store"
    )]
    NotFinished {
        /// The earlier run's folder.
        from: String,
        /// What is missing.
        file: &'static str,
        /// The stage that writes it.
        stage: AdoptableStage,
    },
    /// It has no batch that is finished.
    #[error(
        "{from} has no batch whose samples are all finished: adopt its snapshot alone, or name another run's status.store"
    )]
    NoBatch {
        /// The earlier run's folder.
        from: String,
    },
    /// A manifest or a record is none.
    #[error("{file} of the earlier run is not one of this release ({source}): use images of the release that wrote it")]
    Malformed {
        /// The file's name.
        file: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The snapshot's manifest cannot be read.
    #[error(transparent)]
    Snapshot(#[from] committed::CommittedError),
    /// A file is gone.
    #[error("{file} of the earlier run is not there any more, and its manifest or record names it")]
    Gone {
        /// The file's name.
        file: String,
    },
    /// A file is something else.
    #[error("{file} of the earlier run is not what its manifest or record says: it was damaged or replaced")]
    Damaged {
        /// The file's name.
        file: String,
    },
    /// It is of another repository.
    #[error(
        "{from} is of the repository {there}, and spec.source names {asked}: adopt a run of that repository, or name the earlier one's"
    )]
    OtherRepository {
        /// The earlier run's folder.
        from: String,
        /// Its repository.
        there: String,
        /// The one that was asked for.
        asked: String,
    },
    /// The dataset was made of another snapshot than the one beside it.
    #[error("the dataset of the earlier run was made from another snapshot than the one beside it")]
    OtherSnapshot,
    /// This run's folder has something else already.
    #[error(
        "{file} is in this run's folder already, and is another one: create a run of its own to adopt something else"
    )]
    Taken {
        /// The file's name.
        file: String,
    },
    /// The dataset's lines are written in another way.
    #[error(
        "the earlier dataset has tool calls in the format {there}, and spec.dataset.toolCallFormat says {asked}: change it, or adopt through Generation to have the dataset made anew"
    )]
    OtherFormat {
        /// Its format.
        there: ToolCallFormat,
        /// The one that was asked for.
        asked: ToolCallFormat,
    },
    /// The dataset's lines are too long.
    #[error(
        "the earlier dataset has lines of up to {there} tokens, and spec.dataset.contextLength says {asked}: raise it, or adopt through Generation to have the dataset made anew"
    )]
    TooLong {
        /// Its longest line.
        there: u32,
        /// What was asked for.
        asked: u32,
    },
}

impl Explain for AdoptionError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Earlier(error) => match error.explain() {
                cause if cause.field == Some(Field::Store) => cause.at(Field::Adopted),
                cause => cause,
            },
            Self::AdoptedBefore { .. } => Cause::conflict("AdoptedBefore").at(Field::Adopted),
            Self::NotFinished { .. } | Self::NoBatch { .. } => Cause::configuration("NothingToAdopt", Field::Adopted),
            Self::Malformed { .. } | Self::Snapshot(_) => Cause::configuration("ManifestMalformed", Field::Adopted),
            Self::Gone { .. } | Self::Damaged { .. } | Self::OtherSnapshot => {
                Cause::configuration("AdoptedDamaged", Field::Adopted)
            }
            Self::OtherRepository { .. } => Cause::configuration("OtherRepository", Field::Adopted),
            Self::Taken { .. } => Cause::conflict("FolderTaken"),
            Self::OtherFormat { .. } | Self::TooLong { .. } => {
                Cause::configuration("OtherDataset", Field::AdoptedThrough)
            }
        }
    }
}

/// Takes the stages over; done once, it reports what it did.
pub(crate) async fn run(
    request: &Request,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<StageResult, AdoptionError> {
    let secret = store::secret(request.store_credentials.as_deref(), redactor)?;
    let store = Store::open(&request.store, secret.as_ref())?;
    if let Some(done) = store.read(ADOPTION).await? {
        let malformed = |source| AdoptionError::Malformed { file: ADOPTION.to_owned(), source };
        let Adoption { from, through, result } = serde_json::from_slice(&done).map_err(malformed)?;
        if (&from, through) != (&request.address, request.through) {
            return Err(AdoptionError::AdoptedBefore { from, through });
        }
        tracing::info!("the earlier run's stages are in the store already");
        return Ok(result);
    }
    let from = Store::open(&request.from, secret.as_ref()).map_err(AdoptionError::Earlier)?;
    store.probe().await?;
    let courier = Courier { from: &from, address: &request.address, to: &store, progress };
    let result = courier.carry(request).await?;
    let adoption = Adoption { from: request.address.clone(), through: request.through, result };
    let document = serde_json::to_vec_pretty(&adoption).unwrap_or_default();
    courier.commit(ADOPTION, document.into()).await?;
    Ok(adoption.result)
}

/// Who carries files from the one folder to the other.
struct Courier<'a> {
    from: &'a Store,
    /// What the folder that it takes from is called.
    address: &'a str,
    to: &'a Store,
    progress: &'a Progress,
}

impl Courier<'_> {
    async fn carry(&self, request: &Request) -> Result<StageResult, AdoptionError> {
        // What cannot be taken over is said before anything is copied.
        let dataset = match request.through {
            AdoptableStage::Dataset => Some(dataset::find(self, request.verification.as_ref()).await?),
            AdoptableStage::Snapshot | AdoptableStage::Generation => None,
        };
        let snapshot = snapshot::adopt(self, request.repository.as_deref()).await?;
        let rollouts: Option<AdoptedRollouts> = match request.through {
            AdoptableStage::Generation => Some(rollouts::adopt(self, &request.run).await?),
            AdoptableStage::Snapshot | AdoptableStage::Dataset => None,
        };
        let dataset: Option<AdoptedDataset> = match dataset {
            Some(found) => Some(found.adopt(self, &snapshot.manifest.sha256).await?),
            None => None,
        };
        let snapshot::Adopted { manifest, commit, commits } = snapshot;
        Ok(StageResult::Adoption { snapshot: manifest, commit, commits, rollouts, dataset })
    }

    /// A manifest or a record of the earlier run, whole.
    async fn document(&self, file: &'static str, stage: AdoptableStage) -> Result<bytes::Bytes, AdoptionError> {
        let missing = || AdoptionError::NotFinished { from: self.address.to_owned(), file, stage };
        self.read(file).await?.ok_or_else(missing)
    }

    async fn read(&self, name: &str) -> Result<Option<bytes::Bytes>, AdoptionError> {
        self.from.read(name).await.map_err(AdoptionError::Earlier)
    }

    /// Copies a file under its own name.
    async fn file(&self, name: &str, expected: &Digest, step: &Step) -> Result<(), AdoptionError> {
        self.file_as(name, name, expected, step).await
    }

    async fn file_as(&self, name: &str, to: &str, expected: &Digest, step: &Step) -> Result<(), AdoptionError> {
        match self.to.copy_from(self.from, name, to, expected, step).await? {
            Copied::Whole => Ok(()),
            Copied::Missing => Err(AdoptionError::Gone { file: name.to_owned() }),
            Copied::Different => Err(AdoptionError::Damaged { file: name.to_owned() }),
        }
    }

    /// Creates a document, which makes what it names count; one that is there already must be the same.
    async fn commit(&self, name: &str, document: bytes::Bytes) -> Result<(), AdoptionError> {
        match self.to.create(name, document.clone()).await? {
            Creation::Created => Ok(()),
            Creation::Existed if self.to.read(name).await?.as_ref() == Some(&document) => Ok(()),
            Creation::Existed => Err(AdoptionError::Taken { file: name.to_owned() }),
        }
    }

    /// Whether this run's folder has the document already, and with it all that it names.
    async fn has(&self, name: &str, document: &bytes::Bytes) -> Result<bool, AdoptionError> {
        match self.to.read(name).await? {
            None => Ok(false),
            Some(there) if there == *document => Ok(true),
            Some(_) => Err(AdoptionError::Taken { file: name.to_owned() }),
        }
    }
}
