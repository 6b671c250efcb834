//! Puts an engine where the newest checkpoint left it, whatever the number of ranks that wrote it.

use super::error::TrainingError;
use crate::checkpoint::{Kept, Sums};
use crate::engine::{Engine, Share};

/// Where a training goes on.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    /// The step that was done last; 0 where it begins.
    pub(super) step: u32,
    /// What was counted.
    pub(super) sums: Sums,
    /// The losses so far.
    pub(super) losses: Vec<u8>,
    /// The step of the checkpoint; none where it begins.
    pub(super) checkpoint: Option<u32>,
}

/// Restores the newest checkpoint, if there is one. All ranks call it together.
pub(super) fn newest(checkpoints: &mut Kept, engine: &mut Engine) -> Result<Resumed, TrainingError> {
    let Some(checkpoint) = checkpoints.newest(engine.ranks())? else { return Ok(Resumed::default()) };
    let (rank, world) = (engine.ranks().rank(), engine.ranks().world());
    let stored = checkpoint.stored(rank, world)?;
    engine.restore(&Share::new(&stored, rank, world)?)?;
    let losses = checkpoint.losses()?;
    checkpoints.release();
    let step = checkpoint.manifest.step;
    tracing::info!(step, from = checkpoint.from, "goes on");
    Ok(Resumed { step, sums: checkpoint.manifest.sums, losses, checkpoint: Some(step) })
}
