//! Checkpoints of a training, in a folder or a bucket: `a<attempt>/step-000123/` with a part from each rank and `manifest.json` last. One is there
//! whole or it does not count; the newest that counts is where a training goes on. What is in a part is the engine's business.

mod attempt;
mod folder;
mod found;
mod kept;
mod manifest;
mod part;
mod prune;
mod read;
mod shipped;
mod stored;
mod write;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::bucket::BucketError;
use crate::engine::EngineError;
use crate::ranks::RankError;

pub use attempt::Attempt;
pub use kept::Kept;
pub use manifest::{Manifest, Origin, Sums};
pub use read::Checkpoint;
pub use shipped::Shipped;
pub use stored::Stored;
pub use write::Moment;

/// Why a checkpoint cannot be written, or no training can go on from one.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It cannot be written: no space, or no permission.
    #[error(
        "the checkpoint {} cannot be written: {source}; those that are complete are untouched, and the training goes on from the newest of them",
        folder.display()
    )]
    Write {
        /// The checkpoint's folder.
        folder: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another rank could not write its part.
    #[error("the checkpoint {} is not complete, since rank {rank} could not write its part: {reason}", folder.display())]
    Elsewhere {
        /// The checkpoint's folder.
        folder: PathBuf,
        /// The rank.
        rank: usize,
        /// What it says.
        reason: String,
    },
    /// The folder of checkpoints, or a file in it, cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is there and is not what its manifest says.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that shows.
        problem: String,
    },
    /// It belongs to another training.
    #[error(
        "the checkpoint {} is of another {what} ({found}, and not {expected}): give another --out, or put the folder of checkpoints away to begin anew",
        folder.display()
    )]
    Foreign {
        /// The checkpoint's folder.
        folder: PathBuf,
        /// What differs: plan, base model, dataset.
        what: &'static str,
        /// What it was made with, by digest.
        found: String,
        /// What is asked for, by digest.
        expected: String,
    },
    /// It is of a plan that was put right since.
    #[error("it is of an attempt before attempt {since}, and of another plan")]
    Replaced {
        /// The first attempt by the present plan.
        since: u32,
    },
    /// Another rank could not have its share.
    #[error(
        "another rank could not have its share of the checkpoint {name}: its own log says why; the checkpoint is untouched"
    )]
    NotBrought {
        /// The checkpoint.
        name: String,
    },
    /// What it has is not what the engine takes, or the ranks lost each other over it.
    #[error(transparent)]
    Engine(Box<EngineError>),
    /// A transfer to the bucket, or from it.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The ranks lost each other.
    #[error(transparent)]
    Ranks(#[from] RankError),
}

impl From<EngineError> for CheckpointError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl CheckpointError {
    /// Whether a training goes on from the checkpoint before: this one is not whole, or not of its plan. A file that is there and cannot be read for now
    /// tells neither.
    fn is_passed_over(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Replaced { .. } => true,
            Self::Read { source, .. } => matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::UnexpectedEof
            ),
            _ => false,
        }
    }

    /// What another rank is told of it.
    fn reason(&self) -> String {
        match self {
            Self::Write { source, .. } => source.to_string(),
            error => error.to_string(),
        }
    }
}

/// The checkpoints of one training, as one of its attempts sees them.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    root: PathBuf,
    attempt: Attempt,
}

impl Checkpoints {
    /// Those in `root`; an attempt writes its own into `a<number>`, and goes on from those of any.
    pub fn new(root: &Path, attempt: Attempt) -> Self {
        Self { root: root.to_owned(), attempt }
    }
}

#[cfg(test)]
mod tests;
