//! Writes a checkpoint: every rank its part into a folder beside, rank 0 the manifest when all parts are there, and then the name that makes it
//! count.

use std::path::{Path, PathBuf};

use sera_crds::contract::FileDigest;
use serde::{Deserialize, Serialize};

use super::manifest::{MANIFEST, VERSION, unsealed};
use super::{CheckpointError, Checkpoints, Manifest, Origin, Sums, folder, part};
use crate::durable;
use crate::engine::{EngineError, Parts};
use crate::ranks::{Collective, RankError};

/// The losses' file.
pub(super) const LOSSES: &str = "losses.jsonl";

/// How far a training has come: what is kept beside the state.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The step that was done last.
    pub step: u32,
    /// How many there are in all.
    pub total_steps: u32,
    /// What was counted.
    pub sums: &'a Sums,
    /// The losses of all steps so far, a line each.
    pub losses: &'a [u8],
}

/// What a rank says after its turn: a digest, or why there is none.
#[derive(Serialize, Deserialize)]
enum Word {
    Done(FileDigest),
    Failed(String),
}

impl Moment<'_> {
    /// The manifest of a checkpoint of this moment, as it is written.
    pub(super) fn manifest(
        &self,
        origin: &Origin,
        state: &dyn Parts<Error = EngineError>,
        parts: Vec<FileDigest>,
        losses: FileDigest,
    ) -> std::io::Result<Vec<u8>> {
        let places = state.places().map_err(std::io::Error::other)?;
        let manifest = Manifest {
            seal: unsealed(),
            version: VERSION,
            step: self.step,
            total_steps: self.total_steps,
            world: parts.len(),
            origin: origin.clone(),
            sums: self.sums.clone(),
            units: places.into_iter().map(|place| (place.unit, place.total)).collect(),
            parts,
            losses,
        };
        Ok(manifest.sealed()?)
    }
}

impl Checkpoints {
    /// Writes a checkpoint; all ranks call it together, each with its own state. Returns its folder.
    pub fn write(
        &self,
        moment: Moment<'_>,
        state: &dyn Parts<Error = EngineError>,
        ranks: &mut dyn Collective,
    ) -> Result<PathBuf, CheckpointError> {
        let attempt = folder::of_attempt(&self.root, self.attempt.number);
        let unfinished = attempt.join(folder::unfinished(moment.step));
        let target = attempt.join(folder::name(moment.step));
        let written = self.write_whole(moment, state, (&unfinished, &target), ranks);
        if ranks.rank() == 0 {
            match written {
                Ok(()) => self.prune(moment.step),
                Err(_) => give_up(&unfinished),
            }
        }
        written.map(|()| target)
    }

    fn write_whole(
        &self,
        moment: Moment<'_>,
        state: &dyn Parts<Error = EngineError>,
        (unfinished, target): (&Path, &Path),
        ranks: &mut dyn Collective,
    ) -> Result<(), CheckpointError> {
        let (rank, world) = (ranks.rank(), ranks.world());
        let failed = |source| CheckpointError::Write { folder: target.to_owned(), source };
        let begun = if rank == 0 { self.begin(unfinished) } else { Ok(nothing()) };
        agree(begun.map_err(failed), target, &[0], ranks)?;
        let own = part::write(&unfinished.join(folder::part(rank, world)), state);
        let everybody: Vec<usize> = (0..world).collect();
        let parts = agree(own.map_err(failed), target, &everybody, ranks)?;
        let finished = if rank == 0 { self.finish(moment, state, parts, unfinished, target) } else { Ok(nothing()) };
        agree(finished.map_err(failed), target, &[0], ranks)?;
        Ok(())
    }

    /// An empty folder, whatever an earlier process left there. What is unfinished beside it goes first: it may have taken the room that is needed.
    pub(super) fn begin(&self, unfinished: &Path) -> std::io::Result<FileDigest> {
        self.make_room();
        if unfinished.exists() {
            std::fs::remove_dir_all(unfinished)?;
        }
        std::fs::create_dir_all(unfinished)?;
        Ok(nothing())
    }

    fn finish(
        &self,
        moment: Moment<'_>,
        state: &dyn Parts<Error = EngineError>,
        parts: Vec<FileDigest>,
        unfinished: &Path,
        target: &Path,
    ) -> std::io::Result<FileDigest> {
        let losses = unfinished.join(LOSSES);
        durable::write(&losses, moment.losses)?;
        let manifest = moment.manifest(&self.attempt.origin, state, parts, durable::digest(&losses)?)?;
        durable::write(&unfinished.join(MANIFEST), &manifest)?;
        durable::sync_folder(unfinished)?;
        // One that is there already was passed over as torn: this is the step again.
        if target.exists() {
            std::fs::remove_dir_all(target)?;
        }
        std::fs::rename(unfinished, target)?;
        durable::sync_folder(target.parent().unwrap_or(target))?;
        Ok(nothing())
    }
}

/// Takes away what was written of a checkpoint that failed, so that there is room for the next.
fn give_up(unfinished: &Path) {
    match std::fs::remove_dir_all(unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!("{} is not removed: {error}", unfinished.display());
        }
        _ => {}
    }
}

/// What a rank has to say that has nothing to say.
pub(super) fn nothing() -> FileDigest {
    FileDigest { name: String::new(), bytes: 0, sha256: String::new() }
}

/// What the `speakers` did becomes known to all, so that all end, or none.
pub(super) fn agree(
    own: Result<FileDigest, CheckpointError>,
    folder: &Path,
    speakers: &[usize],
    ranks: &mut dyn Collective,
) -> Result<Vec<FileDigest>, CheckpointError> {
    let word = match &own {
        Ok(digest) => Word::Done(digest.clone()),
        Err(error) => Word::Failed(error.reason()),
    };
    let mut words = Vec::with_capacity(speakers.len());
    for speaker in speakers {
        let mut bytes = serde_json::to_vec(&word).unwrap_or_default();
        ranks.broadcast(*speaker, &mut bytes)?;
        words.push((*speaker, bytes));
    }
    own?;
    let rank = ranks.rank();
    words
        .into_iter()
        .map(|(speaker, bytes)| match serde_json::from_slice(&bytes) {
            Ok(Word::Done(digest)) => Ok(digest),
            Ok(Word::Failed(reason)) => {
                Err(CheckpointError::Elsewhere { folder: folder.to_owned(), rank: speaker, reason })
            }
            Err(error) => Err(CheckpointError::Ranks(RankError::Diverged {
                rank: speaker,
                theirs: format!("something else ({error})"),
                own: rank,
                ours: "a checkpoint".to_owned(),
            })),
        })
        .collect()
}
