//! Where a training's checkpoints are kept, in one shape for both: those in a folder are complete when they are written, those in a bucket some steps
//! later.

use super::{Checkpoint, CheckpointError, Checkpoints, Moment, Shipped};
use crate::engine::{EngineError, Parts};
use crate::ranks::Collective;

/// The checkpoints of a training, wherever they are kept. All ranks call the same in the same order.
#[derive(Debug)]
pub enum Kept {
    /// In a folder that all ranks see.
    Here(Checkpoints),
    /// In a bucket.
    There(Box<Shipped>),
}

impl Kept {
    /// The newest that is whole.
    pub fn newest(&mut self, ranks: &mut dyn Collective) -> Result<Option<Checkpoint>, CheckpointError> {
        match self {
            Self::Here(checkpoints) => checkpoints.newest(ranks),
            Self::There(shipped) => shipped.newest(ranks),
        }
    }

    /// Frees what was taken for reading one.
    pub fn release(&self) {
        if let Self::There(shipped) = self {
            shipped.release();
        }
    }

    /// Whether one is on its way, so that another has to wait.
    pub fn is_under_way(&self) -> bool {
        matches!(self, Self::There(shipped) if shipped.is_under_way())
    }

    /// Writes one while none is on its way. Returns its step if it is complete at once.
    pub fn write(
        &mut self,
        moment: Moment<'_>,
        state: &dyn Parts<Error = EngineError>,
        ranks: &mut dyn Collective,
    ) -> Result<Option<u32>, CheckpointError> {
        match self {
            Self::Here(checkpoints) => {
                let folder = checkpoints.write(moment, state, ranks)?;
                tracing::debug!(step = moment.step, folder = %folder.display(), "checkpoint");
                Ok(Some(moment.step))
            }
            Self::There(shipped) => {
                shipped.write(moment, state, ranks)?;
                Ok(None)
            }
        }
    }

    /// What this rank has to say of what is on its way: whether it is through with its share, and whether that failed.
    pub fn vote(&mut self) -> [f64; 2] {
        match self {
            Self::Here(_) => [0.0, 0.0],
            Self::There(shipped) => shipped.vote(),
        }
    }

    /// Goes on after the votes of all ranks were added up. Returns the step of a checkpoint that is complete now.
    pub fn turn(&mut self, votes: [f64; 2], ranks: &mut dyn Collective) -> Result<Option<u32>, CheckpointError> {
        match self {
            Self::Here(_) => Ok(None),
            Self::There(shipped) => shipped.turn(votes, ranks),
        }
    }

    /// Waits for what is on its way. Returns the step of a checkpoint that became complete.
    pub fn finish(&mut self, ranks: &mut dyn Collective) -> Result<Option<u32>, CheckpointError> {
        match self {
            Self::Here(_) => Ok(None),
            Self::There(shipped) => shipped.finish(ranks),
        }
    }
}
