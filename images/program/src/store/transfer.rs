//! Large files to and from the store, a piece at a time: never whole in memory, and with their digest.

use std::path::Path as FilePath;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::{Error, ObjectStoreExt};
use sera_crds::contract::{FileDigest, SnapshotFile};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;

use super::{Store, StoreError};
use crate::progress::Step;

/// The smallest part of an upload, in bytes. S3 wants 5 MiB at least; all parts but the last are of one size, as some of its kin want.
pub(super) const MIN_PART: u64 = 8 << 20;
/// S3 takes 10,000 parts of one object: larger files go in larger parts.
const MAX_PARTS: u64 = 9_000;
/// Parts that are under way at once; together with their size this bounds what an upload holds in memory.
const CONCURRENT_PARTS: usize = 4;

/// A file's size and proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its sha256, in lower-case hexadecimal.
    pub sha256: String,
}

/// A digest in the making.
#[derive(Default)]
pub struct Digester {
    bytes: u64,
    sha256: Sha256,
}

impl Digester {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.sha256.update(piece);
    }

    /// How much it has taken, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest { bytes: self.bytes, sha256: hex::encode(self.sha256.finalize()) }
    }
}

impl Digest {
    /// The digest of what is at hand.
    pub fn of(content: &[u8]) -> Self {
        let mut digester = Digester::default();
        digester.update(content);
        digester.finish()
    }
}

impl From<&FileDigest> for Digest {
    fn from(file: &FileDigest) -> Self {
        Self { bytes: file.bytes, sha256: file.sha256.clone() }
    }
}

impl From<&SnapshotFile> for Digest {
    fn from(file: &SnapshotFile) -> Self {
        Self { bytes: file.bytes, sha256: file.sha256.clone() }
    }
}

impl Store {
    /// The digest of a file as the store has it; none where there is none.
    pub async fn digest(&self, name: &str, step: &Step) -> Result<Option<Digest>, StoreError> {
        let got = match self.objects.get(&self.path(name)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(|error| self.explain(error))?,
        };
        let total = got.meta.size;
        let mut digester = Digester::default();
        let mut pieces = got.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(|error| self.explain(error))? {
            digester.update(&piece);
            step.update("reading", digester.bytes, total);
        }
        Ok(Some(digester.finish()))
    }

    /// Puts a file of this machine into the store, in place of what is there. It appears whole or not at all.
    pub async fn upload(&self, name: &str, file: &FilePath, step: &Step) -> Result<(), StoreError> {
        let local = |source| StoreError::Local { path: file.to_owned(), source };
        let mut input = tokio::fs::File::open(file).await.map_err(local)?;
        let total = input.metadata().await.map_err(local)?.len();
        let path = self.path(name);
        if total <= MIN_PART {
            let content = tokio::fs::read(file).await.map_err(local)?;
            self.objects.put(&path, content.into()).await.map_err(|error| self.explain(error))?;
            return Ok(());
        }

        let part_bytes = Self::part_bytes(total);
        let mut upload = self.objects.put_multipart(&path).await.map_err(|error| self.explain(error))?;
        let mut sent = 0;
        let outcome = async {
            // The parts are read in order, and sent a few at a time.
            let mut parts = stream::FuturesUnordered::new();
            while sent < total || !parts.is_empty() {
                if sent < total && parts.len() < CONCURRENT_PARTS {
                    let part = read_part(&mut input, part_bytes.min(total - sent)).await.map_err(local)?;
                    sent += part.len() as u64;
                    parts.push(upload.put_part(part.into()));
                    step.update("uploading", sent, total);
                } else if let Some(done) = parts.next().await {
                    done.map_err(|error| self.explain(error))?;
                }
            }
            upload.complete().await.map_err(|error| self.explain(error))
        }
        .await;
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => {
                // Or its parts stay, and are paid for; what failed the upload may fail this too, and is what counts.
                if let Err(error) = upload.abort().await {
                    tracing::debug!("the failed upload cannot be aborted: {error}");
                }
                Err(error)
            }
        }
    }

    /// How large the parts of so many bytes are.
    pub(super) fn part_bytes(total: u64) -> u64 {
        MIN_PART.max(total.div_ceil(MAX_PARTS))
    }

    /// Deletes what killed uploads of a file left beside it: `<name>#<number>`, on local stores only (remote ones show no unfinished upload, and
    /// have lifecycle rules for it). Only for who has committed what refers to the file: nobody else's upload of it matters any more.
    pub async fn sweep_unfinished(&self, name: &str) {
        let Some(target) = self.local.as_ref().map(|folder| folder.join(name)) else { return };
        let (Some(folder), Some(stem)) = (target.parent(), target.file_name().and_then(|stem| stem.to_str())) else {
            return;
        };
        let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let found = entry.file_name();
            let number = found.to_str().and_then(|found| found.strip_prefix(stem)?.strip_prefix('#'));
            if number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())) {
                match tokio::fs::remove_file(entry.path()).await {
                    Ok(()) => tracing::info!(file = %entry.path().display(), "deleted an unfinished upload"),
                    Err(error) => {
                        tracing::debug!(file = %entry.path().display(), "cannot delete an unfinished upload: {error}");
                    }
                }
            }
        }
    }
}

/// The next `bytes` of a file, whole: parts of one size need it.
async fn read_part(input: &mut tokio::fs::File, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut part = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    input.take(bytes).read_to_end(&mut part).await?;
    if (part.len() as u64) < bytes {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local;

    #[tokio::test]
    async fn only_unfinished_uploads_of_that_file_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let store = local(folder.path());
        let names = ["b.bundle", "b.bundle#1", "b.bundle#23", "b.bundle#x", "c.bundle#1"];
        for name in names {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        store.sweep_unfinished("b.bundle").await;
        let kept: Vec<_> = names.into_iter().filter(|name| folder.path().join(name).exists()).collect();
        assert_eq!(kept, ["b.bundle", "b.bundle#x", "c.bundle#1"]);
    }

    #[test]
    fn a_digest_is_that_of_sha256sum() {
        let digest = Digest::of(b"abc");
        assert_eq!((digest.bytes, &digest.sha256[..16]), (3, "ba7816bf8f01cfea"));
    }
}
