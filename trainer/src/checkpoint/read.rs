//! Finds the newest checkpoint that is whole, and reads it.

use std::path::{Path, PathBuf};

use sera_crds::contract::FileDigest;

use super::manifest::MANIFEST;
use super::{CheckpointError, Checkpoints, Manifest, folder, found};
use crate::durable;
use crate::ranks::Collective;

/// A checkpoint that is whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Where it is from, for people.
    pub from: String,
    /// Where it lies, or where what this rank needs of it was brought to.
    pub folder: PathBuf,
    /// What its manifest says.
    pub manifest: Manifest,
}

impl Checkpoints {
    /// The newest checkpoint of any attempt that is whole; the ranks find it together, and each verifies its share of the files. What is torn, or of a
    /// plan that was put right since, is passed over with a word; what is whole and of another training is refused.
    pub fn newest(&self, ranks: &mut dyn Collective) -> Result<Option<Checkpoint>, CheckpointError> {
        let all = if ranks.rank() == 0 { folder::all(&self.root)? } else { Vec::new() };
        let mut candidates = all.into_iter();
        loop {
            // Rank 0 says which: a rank that looks a moment later could see another.
            let mut next =
                candidates.next().map(|(_, _, path)| path.display().to_string().into_bytes()).unwrap_or_default();
            ranks.broadcast(0, &mut next)?;
            if next.is_empty() {
                return Ok(None);
            }
            let folder = PathBuf::from(String::from_utf8_lossy(&next).into_owned());
            if let Some(checkpoint) = self.whole(&folder, ranks)? {
                return Ok(Some(checkpoint));
            }
        }
    }

    fn whole(&self, folder: &Path, ranks: &mut dyn Collective) -> Result<Option<Checkpoint>, CheckpointError> {
        let found = Checkpoint::open(folder).and_then(|checkpoint| {
            self.attempt.accept(&checkpoint.manifest, folder)?;
            checkpoint.verify(ranks.rank(), ranks.world())?;
            Ok(checkpoint)
        });
        found::together(found, folder, ranks)
    }
}

impl Checkpoint {
    /// Reads the manifest of the checkpoint in `folder`; the other files are looked at by [`Self::verify`].
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(MANIFEST);
        let content = std::fs::read(&path).map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
        let manifest = found::manifest(&content, &path)?;
        Ok(Self { from: folder.display().to_string(), folder: folder.to_owned(), manifest })
    }

    /// Checks every `world`th file, from number `rank` on, against the manifest: alone, all of them.
    pub fn verify(&self, rank: usize, world: usize) -> Result<(), CheckpointError> {
        self.manifest.files().skip(rank).step_by(world.max(1)).try_for_each(|expected| self.verify_file(expected))
    }

    /// Every file that the manifest names, and what is wrong with it, if anything is.
    pub fn files(&self) -> impl Iterator<Item = (&FileDigest, Option<CheckpointError>)> {
        self.manifest.files().map(move |expected| (expected, self.verify_file(expected).err()))
    }

    fn verify_file(&self, expected: &FileDigest) -> Result<(), CheckpointError> {
        let path = self.folder.join(&expected.name);
        let found = durable::digest(&path).map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
        found::is_as_said(&found, expected, &path)
    }

    /// The losses of all steps so far, as they were given.
    pub fn losses(&self) -> Result<Vec<u8>, CheckpointError> {
        let path = self.folder.join(&self.manifest.losses.name);
        std::fs::read(&path).map_err(|source| CheckpointError::Read { path, source })
    }
}
