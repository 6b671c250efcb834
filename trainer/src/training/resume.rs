//! Puts an engine where the newest checkpoint left it, whatever the number of ranks that wrote it.

use super::error::TrainingError;
use crate::checkpoint::{Checkpoint, CheckpointError, Kept, Sums};
use crate::engine::{Engine, EngineError, UnitState, share};

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
    engine.restore(part(&checkpoint, rank, world)?)?;
    let losses = checkpoint.losses()?;
    checkpoints.release();
    let step = checkpoint.manifest.step;
    tracing::info!(step, from = checkpoint.from, "goes on");
    Ok(Resumed { step, sums: checkpoint.manifest.sums, losses, checkpoint: Some(step) })
}

/// What rank `rank` of `world` goes on with: what it wrote itself, or its share of what some of another number of ranks wrote.
fn part(checkpoint: &Checkpoint, rank: usize, world: usize) -> Result<Vec<UnitState>, TrainingError> {
    if checkpoint.manifest.world == world {
        return Ok(checkpoint.part(rank)?);
    }
    let needed = checkpoint.manifest.needed(rank, world);
    let parts: Result<Vec<_>, CheckpointError> = needed.into_iter().map(|rank| checkpoint.part(rank)).collect();
    Ok(share(parts?.concat(), rank, world).map_err(EngineError::State)?)
}
