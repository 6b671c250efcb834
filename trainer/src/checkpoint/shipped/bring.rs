//! Finds the newest checkpoint in a bucket that is whole, and brings here what this rank needs of it.

use std::path::Path;

use sera_crds::contract::FileDigest;
use sera_program::store::Digest;

use super::super::manifest::MANIFEST;
use super::super::write::LOSSES;
use super::super::{Checkpoint, CheckpointError, Manifest, folder, found};
use super::{CHECKPOINTS, Listing, Shipped};
use crate::ranks::Collective;

impl Shipped {
    /// The newest checkpoint of any attempt that is whole; the ranks find it together, and each brings its share here and verifies it. What is torn,
    /// or of a plan that was put right since, is passed over with a word; what is whole and of another training is refused.
    pub(in super::super) fn newest(
        &mut self,
        ranks: &mut dyn Collective,
    ) -> Result<Option<Checkpoint>, CheckpointError> {
        let first = ranks.rank() == 0;
        let all = if first { Listing::from(self.bucket.names(CHECKPOINTS)?) } else { Listing::default() };
        let mut candidates = all.complete();
        loop {
            // Rank 0 says which, and what it is: a rank that looks a moment later could see another.
            let (mut name, mut manifest) = match candidates.next() {
                Some(name) => {
                    let manifest = self.bucket.read(&format!("{name}/{MANIFEST}"))?;
                    (name.into_bytes(), manifest.unwrap_or_default().to_vec())
                }
                None => (Vec::new(), Vec::new()),
            };
            ranks.broadcast(0, &mut name)?;
            ranks.broadcast(0, &mut manifest)?;
            if name.is_empty() {
                return Ok(None);
            }
            let name = String::from_utf8_lossy(&name).into_owned();
            if let Some(checkpoint) = self.whole(&name, &manifest, ranks)? {
                return Ok(Some(checkpoint));
            }
        }
    }

    /// Frees the room of what was brought here.
    pub(in super::super) fn release(&self) {
        if let Err(error) = self.emptied() {
            tracing::warn!("{} is not emptied: {error}", self.scratch.display());
        }
    }

    fn whole(
        &self,
        name: &str,
        manifest: &[u8],
        ranks: &mut dyn Collective,
    ) -> Result<Option<Checkpoint>, CheckpointError> {
        let path = Path::new(name);
        let brought = found::manifest(manifest, &path.join(MANIFEST)).and_then(|manifest| {
            self.attempt.accept(&manifest, path)?;
            self.bring(name, manifest, ranks.rank(), ranks.world())
        });
        found::together(brought, path, ranks)
    }

    /// Brings what a rank needs.
    fn bring(&self, name: &str, manifest: Manifest, rank: usize, world: usize) -> Result<Checkpoint, CheckpointError> {
        let failed = |source| CheckpointError::Write { folder: self.scratch.clone(), source };
        self.emptied().map_err(failed)?;
        for part in manifest.needed(rank, world) {
            let file = folder::part(part, manifest.world);
            let damaged = || CheckpointError::Damaged {
                path: Path::new(name).join(MANIFEST),
                problem: format!("it has nothing of rank {part} of {}", manifest.world),
            };
            self.file(name, &file, manifest.parts.get(part).ok_or_else(damaged)?)?;
        }
        self.file(name, LOSSES, &manifest.losses)?;
        let from = format!("{}/{name}", self.bucket.uri().trim_end_matches('/'));
        Ok(Checkpoint { from, folder: self.scratch.clone(), manifest })
    }

    fn file(&self, folder: &str, file: &str, expected: &FileDigest) -> Result<(), CheckpointError> {
        let object = format!("{folder}/{file}");
        let path = Path::new(&object);
        let Some(Digest { bytes, sha256 }) = self.bucket.download(&object, &self.scratch.join(file))? else {
            return Err(CheckpointError::Damaged { path: path.to_owned(), problem: "it is not there".to_owned() });
        };
        found::is_as_said(&FileDigest { name: file.to_owned(), bytes, sha256 }, expected, path)
    }
}
