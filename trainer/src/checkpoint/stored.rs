//! The state that lies in parts of a checkpoint, which is read from them when it is asked for.

use std::ops::Range;

use super::part::Part;
use super::{Checkpoint, CheckpointError, folder};
use crate::engine::{Parts, UnitPlace, Values};

/// What there is of a state in some of a checkpoint's parts.
#[derive(Debug)]
pub struct Stored {
    parts: Vec<Part>,
    /// Of each place the number of its part, and its own within that.
    places: Vec<(usize, usize)>,
}

impl Checkpoint {
    /// What rank `rank` of a world of `world` goes on with, and what else there is in those ranks' parts that have it.
    pub fn stored(&self, rank: usize, world: usize) -> Result<Stored, CheckpointError> {
        let part = |rank| Part::open(&self.folder.join(folder::part(rank, self.manifest.world)));
        let needed = self.manifest.needed(rank, world);
        let parts = needed.into_iter().map(part).collect::<Result<Vec<_>, _>>()?;
        let places = |(number, part): (usize, &Part)| (0..part.places().count()).map(move |at| (number, at));
        let places = parts.iter().enumerate().flat_map(places).collect();
        Ok(Stored { parts, places })
    }
}

impl Parts for Stored {
    type Error = CheckpointError;

    fn places(&self) -> Result<Vec<UnitPlace>, CheckpointError> {
        Ok(self.parts.iter().flat_map(Part::places).cloned().collect())
    }

    fn read(&self, at: usize, range: &Range<usize>, values: &mut Values) -> Result<(), CheckpointError> {
        let (part, at) = self.places[at];
        self.parts[part].read(at, range, values)
    }
}
