//! A state of which a unit can be had at a time, so that no copy of all of it has to be there: an engine's own, a list's, or a rank's share of what
//! other ranks have. No files.

use std::collections::BTreeMap;
use std::ops::Range;

use super::layout::{intersection, own};
use super::trained::{Shared, Trained};
use super::{EngineError, StateError, UnitState};

/// Which of a unit's trained values there are somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPlace {
    /// `model.layers.3`, `model.embed_tokens` or `head`.
    pub unit: String,
    /// Which of the unit's values, as they lie one after the other without padding.
    pub range: Range<usize>,
    /// How many values the unit has.
    pub total: usize,
}

/// Weights and moments of the same values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    /// Master weights.
    pub weights: Vec<f32>,
    /// `AdamW`'s mean of gradients.
    pub mean: Vec<f32>,
    /// `AdamW`'s mean of squared gradients.
    pub square: Vec<f32>,
}

/// See the module.
pub trait Parts {
    /// Why something cannot be had.
    type Error: From<EngineError>;

    /// What there is, in the order in which it is written. A unit may be in several places: one for each rank that has a part of it.
    fn places(&self) -> Result<Vec<UnitPlace>, Self::Error>;

    /// Adds to `values` those of `range`, which are in place number `at`.
    fn read(&self, at: usize, range: &Range<usize>, values: &mut Values) -> Result<(), Self::Error>;

    /// The values of `range`, which are in place number `at`.
    fn values(&self, at: usize, range: &Range<usize>) -> Result<Values, Self::Error> {
        let mut values = Values::with_capacity(range.len());
        self.read(at, range, &mut values)?;
        Ok(values)
    }
}

impl Values {
    /// None yet, and room for so many.
    fn with_capacity(count: usize) -> Self {
        let none = || Vec::with_capacity(count);
        Self { weights: none(), mean: none(), square: none() }
    }

    /// Weights, mean and mean square, in this order.
    pub fn kinds(&self) -> [&[f32]; 3] {
        [&self.weights, &self.mean, &self.square]
    }

    /// The same, to change.
    pub fn kinds_mut(&mut self) -> [&mut Vec<f32>; 3] {
        [&mut self.weights, &mut self.mean, &mut self.square]
    }
}

/// All of a state at once, in the order of its places.
pub(super) fn states<P: Parts>(of: &P) -> Result<Vec<UnitState>, P::Error> {
    let mut states = Vec::new();
    for (at, UnitPlace { unit, range, total }) in of.places()?.into_iter().enumerate() {
        let Values { weights, mean, square } = of.values(at, &range)?;
        states.push(UnitState { unit, range, total, weights, mean, square });
    }
    Ok(states)
}

impl Parts for Vec<UnitState> {
    type Error = EngineError;

    fn places(&self) -> Result<Vec<UnitPlace>, EngineError> {
        self.iter().map(|unit| unit.place().map_err(EngineError::from)).collect()
    }

    fn read(&self, at: usize, range: &Range<usize>, values: &mut Values) -> Result<(), EngineError> {
        let unit = &self[at];
        let within = range.start - unit.range.start..range.end - unit.range.start;
        for (values, all) in values.kinds_mut().into_iter().zip([&unit.weights, &unit.mean, &unit.square]) {
            values.extend_from_slice(&all[within.clone()]);
        }
        Ok(())
    }
}

/// An engine's own state: this rank's part of it.
#[derive(Debug)]
pub struct Keeping<'a> {
    units: Vec<&'a Trained>,
    shared: &'a Shared,
}

impl<'a> Keeping<'a> {
    pub(super) fn new(units: Vec<&'a Trained>, shared: &'a Shared) -> Self {
        Self { units, shared }
    }
}

impl Parts for Keeping<'_> {
    type Error = EngineError;

    fn places(&self) -> Result<Vec<UnitPlace>, EngineError> {
        Ok(self.units.iter().map(|unit| unit.place(self.shared)).collect())
    }

    fn read(&self, at: usize, range: &Range<usize>, values: &mut Values) -> Result<(), EngineError> {
        Ok(self.units[at].read(range, values)?)
    }
}

/// What one rank has of a state that is in the parts of others, however many these are. Units are in the order of their names.
#[derive(Debug)]
pub struct Share<'a, P> {
    of: &'a P,
    units: Vec<(UnitPlace, Vec<Piece>)>,
}

/// Some of a unit's values, and the number of the place that has them.
type Piece = (usize, Range<usize>);

impl<'a, P: Parts> Share<'a, P> {
    /// What rank `rank` of a world of `world` has: all that it needs has to be there, in any order, and there may be more.
    pub fn new(of: &'a P, rank: usize, world: usize) -> Result<Self, P::Error> {
        let mut by_name: BTreeMap<String, Vec<(usize, UnitPlace)>> = BTreeMap::new();
        for (at, place) in of.places()?.into_iter().enumerate() {
            by_name.entry(place.unit.clone()).or_default().push((at, place));
        }
        let mut units = Vec::with_capacity(by_name.len());
        for (unit, places) in by_name {
            units.push(cut(unit, places, rank, world).map_err(EngineError::from)?);
        }
        Ok(Self { of, units })
    }
}

impl<P: Parts> Parts for Share<'_, P> {
    type Error = P::Error;

    fn places(&self) -> Result<Vec<UnitPlace>, P::Error> {
        Ok(self.units.iter().map(|(place, _)| place.clone()).collect())
    }

    fn read(&self, at: usize, range: &Range<usize>, values: &mut Values) -> Result<(), P::Error> {
        for (number, piece) in &self.units[at].1 {
            let both = intersection(piece, range);
            if !both.is_empty() {
                self.of.read(*number, &both, values)?;
            }
        }
        Ok(())
    }
}

/// A rank's part of one unit, and the pieces of it in others' places.
fn cut(
    unit: String,
    mut places: Vec<(usize, UnitPlace)>,
    rank: usize,
    world: usize,
) -> Result<(UnitPlace, Vec<Piece>), StateError> {
    places.sort_by_key(|(_, place)| (place.range.start, place.range.end));
    let total = places.first().map_or(0, |(_, place)| place.total);
    let range = own(total, world, rank);
    let (mut pieces, mut at, mut end) = (Vec::new(), range.start, 0);
    for (number, place) in places {
        if place.total != total {
            return Err(StateError::Size { unit, found: place.total, expected: total });
        }
        if place.range.start < end || place.range.end > total {
            return Err(StateError::Joint { unit, at: place.range.start.min(total), total });
        }
        end = place.range.end;
        let both = intersection(&place.range, &range);
        if both.is_empty() {
            continue;
        }
        if both.start != at {
            return Err(StateError::Joint { unit, at, total });
        }
        at = both.end;
        pieces.push((number, both));
    }
    if at == range.end {
        Ok((UnitPlace { unit, range, total }, pieces))
    } else {
        Err(StateError::Joint { unit, at, total })
    }
}
