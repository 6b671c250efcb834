//! Files from one store to another, a piece at a time, and only such as are what somebody says that they are.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::{Error, ObjectStoreExt};

use super::transfer::MIN_PART;
use super::{Digest, Digester, Store, StoreError};
use crate::progress::Step;

/// What became of copying a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// It is there, and is what it should be.
    Whole,
    /// The other store has none of that name.
    Missing,
    /// The other store has something else by that name; nothing was put in its place.
    Different,
}

impl Store {
    /// Copies the file `from` of another store to `to`, in place of what is there, if it is what `expected` says. It appears whole or not at all.
    pub async fn copy_from(
        &self,
        other: &Self,
        from: &str,
        to: &str,
        expected: &Digest,
        step: &Step,
    ) -> Result<Copied, StoreError> {
        let got = match other.objects.get(&other.path(from)).await {
            Err(Error::NotFound { .. }) => return Ok(Copied::Missing),
            got => got.map_err(|error| other.explain(error))?,
        };
        if got.meta.size != expected.bytes {
            return Ok(Copied::Different);
        }
        if expected.bytes <= MIN_PART {
            let content = got.bytes().await.map_err(|error| other.explain(error))?;
            if Digest::of(&content) != *expected {
                return Ok(Copied::Different);
            }
            self.put(to, content).await?;
            return Ok(Copied::Whole);
        }

        let mut upload = self.objects.put_multipart(&self.path(to)).await.map_err(|error| self.explain(error))?;
        let part_bytes = usize::try_from(Self::part_bytes(expected.bytes)).unwrap_or(usize::MAX);
        let mut pieces = got.into_stream();
        let mut digester = Digester::default();
        let sent = async {
            let mut part = BytesMut::new();
            loop {
                let piece: Option<Bytes> = pieces.try_next().await.map_err(|error| other.explain(error))?;
                let is_last = piece.is_none();
                if let Some(piece) = piece {
                    digester.update(&piece);
                    part.extend_from_slice(&piece);
                }
                while part.len() >= part_bytes || (is_last && !part.is_empty()) {
                    let next = part.split_to(part.len().min(part_bytes)).freeze();
                    upload.put_part(next.into()).await.map_err(|error| self.explain(error))?;
                }
                step.update("copying", digester.bytes(), expected.bytes);
                if is_last {
                    break Ok(());
                }
            }
        }
        .await;
        let outcome = match sent {
            Ok(()) if digester.finish() == *expected => {
                upload.complete().await.map(|_| Copied::Whole).map_err(|error| self.explain(error))
            }
            Ok(()) => Ok(Copied::Different),
            Err(error) => Err(error),
        };
        if !matches!(outcome, Ok(Copied::Whole))
            && let Err(error) = upload.abort().await
        {
            // Its parts stay, and are paid for; what failed the copy may fail this too, and is what counts.
            tracing::debug!("the unfinished copy cannot be aborted: {error}");
        }
        outcome
    }
}
