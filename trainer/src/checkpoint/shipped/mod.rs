//! The checkpoints of a training in a bucket: every rank's part goes there beside the steps, one checkpoint at a time, and the manifest when all
//! parts are there. What is in the bucket without a manifest does not count.

mod bring;
mod listing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sera_program::store::Digest;

use super::manifest::MANIFEST;
use super::write::{LOSSES, agree, nothing};
use super::{Attempt, CheckpointError, Moment, folder, part};
use crate::bucket::{Bucket, BucketError, Shipment, Shipper};
use crate::engine::{EngineError, Parts};
use crate::ranks::Collective;
use listing::Listing;
use sera_crds::contract::FileDigest;

/// The folder of checkpoints within the run's.
const CHECKPOINTS: &str = "checkpoints";

/// The checkpoints of one training in a bucket, as one rank of one of its attempts sees them.
#[derive(Debug)]
pub struct Shipped {
    bucket: Arc<Bucket>,
    /// A folder of this machine that this rank alone uses.
    scratch: PathBuf,
    attempt: Attempt,
    voyage: Option<Voyage>,
}

/// A checkpoint on its way.
#[derive(Debug)]
struct Voyage {
    step: u32,
    /// Its folder in the bucket.
    target: String,
    /// What goes there when all parts are there.
    losses: Bytes,
    manifest: Bytes,
    /// Whether they are.
    has_parts: bool,
    /// What this rank has under way; nothing where it is another rank's turn.
    shipment: Option<Shipment>,
}

impl Shipped {
    /// Those in `bucket`, as `attempt` sees them; this rank works in `scratch`, which it empties.
    pub fn new(bucket: Arc<Bucket>, scratch: PathBuf, attempt: Attempt) -> Self {
        Self { bucket, scratch, attempt, voyage: None }
    }

    /// Whether a checkpoint is on its way.
    pub(super) fn is_under_way(&self) -> bool {
        self.voyage.is_some()
    }

    /// Writes this rank's part and begins to send it; all ranks call it together, with nothing under way.
    pub(super) fn write(
        &mut self,
        moment: Moment<'_>,
        state: &dyn Parts<Error = EngineError>,
        ranks: &mut dyn Collective,
    ) -> Result<(), CheckpointError> {
        let (rank, world) = (ranks.rank(), ranks.world());
        let attempt = folder::of_attempt(Path::new(CHECKPOINTS), self.attempt.number);
        let target = attempt.join(folder::name(moment.step)).display().to_string();
        let part = folder::part(rank, world);
        let file = self.scratch.join(&part);
        let own = self.emptied().and_then(|()| part::write(&file, state));
        let everybody: Vec<usize> = (0..world).collect();
        let failed = |source| CheckpointError::Write { folder: PathBuf::from(&target), source };
        let parts = agree(own.map_err(failed), Path::new(&target), &everybody, ranks)?;
        let Digest { bytes, sha256 } = Digest::of(moment.losses);
        let losses = FileDigest { name: LOSSES.to_owned(), bytes, sha256 };
        let manifest = moment.manifest(&self.attempt.origin, state, parts, losses).map_err(failed)?.into();
        let begun = target.clone();
        let shipment = self.bucket.begin(|shipper| send_part(shipper, rank == 0, begun, part, file));
        self.voyage = Some(Voyage {
            step: moment.step,
            target,
            losses: Bytes::copy_from_slice(moment.losses),
            manifest,
            has_parts: false,
            shipment: Some(shipment),
        });
        Ok(())
    }

    /// What this rank has to say of what is under way: whether it is through with its share, and whether that failed.
    pub(super) fn vote(&mut self) -> [f64; 2] {
        let shipment = self.voyage.as_mut().and_then(|voyage| voyage.shipment.as_mut());
        let Some(shipment) = shipment else { return [1.0, 0.0] };
        if shipment.is_over() {
            self.bucket.wait(shipment);
        }
        match shipment.outcome() {
            None => [0.0, 0.0],
            Some(Ok(())) => [1.0, 0.0],
            Some(Err(_)) => [0.0, 1.0],
        }
    }

    /// Goes on after all ranks' votes were added up: from the parts to the manifest, and from that to the end. Returns the step of a checkpoint that
    /// is complete now.
    pub(super) fn turn(
        &mut self,
        [done, failed]: [f64; 2],
        ranks: &mut dyn Collective,
    ) -> Result<Option<u32>, CheckpointError> {
        let (rank, world) = (ranks.rank(), ranks.world());
        if self.voyage.is_some() && failed > 0.0 {
            return Err(self.why(ranks));
        }
        #[allow(clippy::cast_precision_loss, reason = "at most 1,024 ranks")]
        let all = done >= world as f64;
        let Some(voyage) = self.voyage.as_mut().filter(|_| all) else { return Ok(None) };
        if voyage.has_parts {
            let step = voyage.step;
            self.voyage = None;
            return Ok(Some(step));
        }
        voyage.has_parts = true;
        let (target, losses, manifest) = (voyage.target.clone(), voyage.losses.clone(), voyage.manifest.clone());
        let (step, attempt) = (voyage.step, self.attempt.clone());
        let completed = move |shipper| complete(shipper, target, losses, manifest, step, attempt);
        voyage.shipment = (rank == 0).then(|| self.bucket.begin(completed));
        if let Err(error) = self.emptied() {
            tracing::warn!("{} is not emptied: {error}", self.scratch.display());
        }
        Ok(None)
    }

    /// Waits until nothing is under way; all ranks call it together. Returns the step of a checkpoint that became complete.
    pub(super) fn finish(&mut self, ranks: &mut dyn Collective) -> Result<Option<u32>, CheckpointError> {
        while let Some(voyage) = &mut self.voyage {
            if let Some(shipment) = &mut voyage.shipment {
                self.bucket.wait(shipment);
            }
            let mut votes = self.vote();
            ranks.all_reduce_f64(&mut votes)?;
            if let Some(step) = self.turn(votes, ranks)? {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    /// Why a transfer failed: this rank's own, or what the first rank says whose it was.
    fn why(&mut self, ranks: &mut dyn Collective) -> CheckpointError {
        let Some(voyage) = self.voyage.take() else { return BucketError::Lost.into() };
        let failure = voyage.shipment.and_then(Shipment::into_failure);
        let own = failure.map_or_else(|| Ok(nothing()), |error| Err(CheckpointError::from(error)));
        let everybody: Vec<usize> = (0..ranks.world()).collect();
        agree(own, Path::new(&voyage.target), &everybody, ranks).err().unwrap_or_else(|| BucketError::Lost.into())
    }

    /// Empties this rank's scratch folder: what a process left there that is no more, or what is in the bucket.
    fn emptied(&self) -> std::io::Result<()> {
        match std::fs::remove_dir_all(&self.scratch) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&self.scratch)
    }
}

/// Sends a rank's part. Rank 0 first takes the manifest away that a torn checkpoint of the same step may have left.
async fn send_part(
    shipper: Shipper,
    is_first: bool,
    target: String,
    part: String,
    file: PathBuf,
) -> Result<(), BucketError> {
    if is_first {
        shipper.delete(&format!("{target}/{MANIFEST}")).await?;
    }
    shipper.file(&format!("{target}/{part}"), &file).await
}

/// Makes an attempt's checkpoint of a step count whose parts are all there, and then takes away those that are not needed any more.
async fn complete(
    shipper: Shipper,
    target: String,
    losses: Bytes,
    manifest: Bytes,
    step: u32,
    attempt: Attempt,
) -> Result<(), BucketError> {
    shipper.document(&format!("{target}/{LOSSES}"), losses).await?;
    shipper.create(&format!("{target}/{MANIFEST}"), manifest).await?;
    // It counts; what cannot be removed is left with a word.
    let pruned = match Listing::of(&shipper).await {
        Ok(listing) => listing.prune(&shipper, &attempt, step).await,
        Err(error) => Err(error),
    };
    if let Err(error) = pruned {
        tracing::warn!("old checkpoints are not removed: {error}");
    }
    Ok(())
}
