//! An attempt at a training, and which checkpoints it goes on from.

use std::path::Path;

use super::{CheckpointError, Manifest, Origin, folder};

/// One attempt at a training, as it looks at checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// The first attempt that has had the present plan for certain: earlier ones may have had another, which was put right since.
    pub since: u32,
    /// What is trained, and how.
    pub origin: Origin,
}

impl Attempt {
    /// Refuses the checkpoint in `folder` where nothing goes on from it: it is of another training, or of an earlier attempt by another plan.
    pub(super) fn accept(&self, manifest: &Manifest, folder: &Path) -> Result<(), CheckpointError> {
        let Some((what, found, expected)) = manifest.origin.difference(&self.origin) else { return Ok(()) };
        if folder::attempt(folder).is_some_and(|number| self.has_replaced(number, manifest)) {
            return Err(CheckpointError::Replaced { since: self.since });
        }
        let (found, expected) = (short(found), short(expected));
        Err(CheckpointError::Foreign { folder: folder.to_owned(), what, found, expected })
    }

    /// Whether what attempt `number` has left is of a plan that was put right since.
    pub(super) fn has_replaced(&self, number: u32, manifest: &Manifest) -> bool {
        number < self.since && manifest.origin.differs_by_plan_alone(&self.origin)
    }
}

/// Enough of a digest to tell two apart.
pub(super) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
