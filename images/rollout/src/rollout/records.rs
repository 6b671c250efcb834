//! A sample's records in the store: files in this process's own folder, and beside it the documents, each created once, that say which folder counts.
//! Whoever comes second adopts what the first one committed.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use sera_crds::contract::{CONTRACT_VERSION, FileDigest};

use crate::failure::{Cause, Explain};
use crate::store::{Creation, Digest, Store, StoreError, persist};

/// How much zstd tries; 3 is its own default, and trajectories shrink to a fifth with it.
const LEVEL: i32 = 3;

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is there is no record of this version.
    #[error(
        "{name} in the store is no record of this release ({problem}): use another batch name, or images of one release"
    )]
    Malformed {
        /// The record.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that a record names is not what it says.
    #[error(
        "{name} in the store is missing or is not what its record says: delete the sample's folder, and run this again"
    )]
    Damaged {
        /// The file.
        name: String,
    },
    /// Something cannot be compressed.
    #[error("a trajectory cannot be written: {0}")]
    Encode(#[source] std::io::Error),
}

impl Explain for RecordError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Malformed { .. } => Cause::conflict("RecordMalformed"),
            Self::Damaged { .. } => Cause::conflict("RecordDamaged"),
            Self::Encode(_) => Cause::internal("TrajectoryUnwritable"),
        }
    }
}

/// The records of one sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shelf<'a> {
    pub(crate) store: &'a Store,
    /// The folder that has a folder for each sample, such as `rollouts/<batch>`.
    pub(crate) place: &'a str,
    pub(crate) sample: u64,
    /// This process's own folder.
    pub(crate) folder: &'a str,
}

/// The store is asked again what it cannot say for now: an error ends this process, and with it every rollout that is under way.
impl Shelf<'_> {
    fn name(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.place, self.sample)
    }

    /// A record, where it was committed.
    pub(crate) async fn read<T: DeserializeOwned>(&self, record: &str) -> Result<Option<T>, RecordError> {
        let name = self.name(record);
        let Some(bytes) = persist(&name, StoreError::passes, || self.store.read(&name)).await? else { return Ok(None) };
        decode(&name, &bytes).map(Some)
    }

    /// That a record is not there which must be.
    pub(crate) fn lacks(&self, record: &str) -> RecordError {
        RecordError::Damaged { name: self.name(record) }
    }

    /// Commits a record, and returns the one that counts: this, or what another process committed before.
    pub(crate) async fn commit<T: Serialize + DeserializeOwned>(
        &self,
        record: &str,
        value: T,
    ) -> Result<T, RecordError> {
        let name = self.name(record);
        let mut text = serde_json::to_vec(&value).map_err(|error| RecordError::Encode(error.into()))?;
        text.push(b'\n');
        let text = Bytes::from(text);
        match persist(&name, StoreError::passes, || self.store.create(&name, text.clone())).await? {
            Creation::Created => Ok(value),
            Creation::Existed => {
                tracing::info!(sample = self.sample, record, "another process has committed this already: adopted");
                self.read(record).await?.ok_or(RecordError::Damaged { name })
            }
        }
    }

    /// Puts a record into this process's own folder, in place of an earlier one.
    pub(crate) async fn note(&self, record: &str, value: &impl Serialize) -> Result<(), RecordError> {
        let mut text = serde_json::to_vec(value).map_err(|error| RecordError::Encode(error.into()))?;
        text.push(b'\n');
        let (name, text) = (self.name(&format!("{}/{record}", self.folder)), Bytes::from(text));
        Ok(persist(&name, StoreError::passes, || self.store.put(&name, text.clone())).await?)
    }

    /// The files of this name in the folders of all processes, by their names within the sample.
    pub(crate) async fn files_named(&self, file: &str) -> Result<Vec<String>, RecordError> {
        let (sample, end) = (self.name(""), format!("/{file}"));
        let found =
            persist(&sample, StoreError::passes, || self.store.list(sample.trim_end_matches('/'))).await?.into_iter();
        Ok(found
            .filter_map(|(name, _)| Some(name.strip_prefix(&sample)?.to_owned()))
            .filter(|name| name.ends_with(&end))
            .collect())
    }

    /// Puts a file into this process's own folder. It counts when a record names it.
    pub(crate) async fn put(&self, file: &str, content: Bytes) -> Result<FileDigest, RecordError> {
        let Digest { bytes, sha256 } = Digest::of(&content);
        let name = self.name(&format!("{}/{file}", self.folder));
        persist(&name, StoreError::passes, || self.store.put(&name, content.clone())).await?;
        Ok(FileDigest { name: file.to_owned(), bytes, sha256 })
    }

    /// Puts a value as compressed JSON.
    pub(crate) async fn put_compressed(&self, file: &str, value: &impl Serialize) -> Result<FileDigest, RecordError> {
        let json = serde_json::to_vec(value).map_err(|error| RecordError::Encode(error.into()))?;
        let content = zstd::encode_all(&json[..], LEVEL).map_err(RecordError::Encode)?;
        self.put(file, content.into()).await
    }

    /// A file that a record names, in the folder that it names.
    pub(crate) async fn get(&self, folder: &str, file: &FileDigest) -> Result<Bytes, RecordError> {
        let name = self.name(&format!("{folder}/{}", file.name));
        let content = self.store.read_data(&name).await?;
        let whole = |content: &Bytes| Digest::of(content) == Digest::from(file);
        content.filter(whole).ok_or(RecordError::Damaged { name })
    }

    /// The same, of compressed JSON.
    pub(crate) async fn get_compressed<T: DeserializeOwned>(
        &self,
        folder: &str,
        file: &FileDigest,
    ) -> Result<T, RecordError> {
        let content = self.get(folder, file).await?;
        let json = zstd::decode_all(&content[..]).map_err(RecordError::Encode)?;
        decode(&self.name(&format!("{folder}/{}", file.name)), &json)
    }
}

/// Reads a document whose version is known.
fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, RecordError> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let malformed = |problem: String| RecordError::Malformed { name: name.to_owned(), problem };
    let Version { version } = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if version != CONTRACT_VERSION {
        return Err(malformed(format!("its version is {version}, not {CONTRACT_VERSION}")));
    }
    serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use sera_crds::contract::{PullRequestRecord, Usage};

    use super::*;
    use crate::testing::local;

    fn record(folder: &str) -> PullRequestRecord {
        PullRequestRecord {
            version: CONTRACT_VERSION,
            sample: 7,
            folder: folder.to_owned(),
            pull_request: None,
            usage: Usage::default(),
            rehearsal: false,
        }
    }

    #[tokio::test]
    async fn of_two_processes_the_second_adopts_what_the_first_committed() {
        let folder = tempfile::tempdir().unwrap();
        let store = local(folder.path());
        let [first, second] =
            ["uid-1", "uid-2"].map(|folder| Shelf { store: &store, place: "rollouts/b3", sample: 7, folder });
        assert_eq!(first.read::<PullRequestRecord>("pr.json").await.unwrap(), None);
        assert_eq!(first.commit("pr.json", record("uid-1")).await.unwrap().folder, "uid-1");
        assert_eq!(second.commit("pr.json", record("uid-2")).await.unwrap().folder, "uid-1");
        assert!(folder.path().join("rollouts/b3/7/pr.json").exists());
    }

    #[tokio::test]
    async fn a_file_is_only_taken_when_it_is_what_its_record_says() {
        let folder = tempfile::tempdir().unwrap();
        let store = local(folder.path());
        let shelf = Shelf { store: &store, place: "rollouts/b3", sample: 7, folder: "uid-1" };
        let digest = shelf.put_compressed("t1.json.zst", &record("x")).await.unwrap();
        assert_eq!(shelf.get_compressed::<PullRequestRecord>("uid-1", &digest).await.unwrap(), record("x"));
        std::fs::write(folder.path().join("rollouts/b3/7/uid-1/t1.json.zst"), "other").unwrap();
        assert!(matches!(shelf.get("uid-1", &digest).await, Err(RecordError::Damaged { .. })));
        assert!(matches!(shelf.get("uid-2", &digest).await, Err(RecordError::Damaged { .. })));
    }

    #[tokio::test]
    async fn a_record_of_another_version_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = local(folder.path());
        let shelf = Shelf { store: &store, place: "rollouts/b3", sample: 7, folder: "uid-1" };
        store.create("rollouts/b3/7/t1.json", r#"{"version": 99}"#.into()).await.unwrap();
        let error = shelf.read::<PullRequestRecord>("t1.json").await.unwrap_err().to_string();
        assert!(error.contains("rollouts/b3/7/t1.json") && error.contains("99"), "{error}");
    }
}
