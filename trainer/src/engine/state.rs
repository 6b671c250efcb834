//! What an engine knows beside its settings, a part of each unit a rank, and the same divided among another number of ranks. No files.

use std::ops::Range;

use super::EngineError;
use super::layout::{intersection, own};
use super::parts::{Share, UnitPlace, states};

/// State that does not belong to this model, or is not whole.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StateError {
    /// A unit that the model does not have, or does not train.
    #[error("the state has `{0}`, which is not trained here: is it another model's, or another method's?")]
    Unknown(String),
    /// A unit that the state does not have.
    #[error("the state has nothing of `{0}`: is it another model's, or another method's?")]
    Missing(String),
    /// A unit of another size.
    #[error("`{unit}` has {found} values in the state and {expected} in the model: is it another model's?")]
    Size {
        /// Which unit.
        unit: String,
        /// How many values the state says it has.
        found: usize,
        /// How many there are.
        expected: usize,
    },
    /// Another part than this rank's.
    #[error(
        "the state has values {found:?} of `{unit}`, where this rank needs {expected:?}; divide it among the ranks first"
    )]
    Range {
        /// Which unit.
        unit: String,
        /// What there is.
        found: Range<usize>,
        /// What should be there.
        expected: Range<usize>,
    },
    /// Values that no part has, or that two have.
    #[error("the parts of `{unit}` do not join: value {at} of {total} is in none of them or in two")]
    Joint {
        /// Which unit.
        unit: String,
        /// The first value that is not there exactly once.
        at: usize,
        /// How many there should be.
        total: usize,
    },
    /// A part whose vectors are not as long as it says.
    #[error("values {range:?} of `{unit}` come with {weights} weights and {mean} and {square} moments")]
    Length {
        /// Which unit.
        unit: String,
        /// What the part says it is.
        range: Range<usize>,
        /// How many weights.
        weights: usize,
        /// How many first moments.
        mean: usize,
        /// How many second moments.
        square: usize,
    },
}

/// The part of a unit's trained values that one rank steps. A unit is a layer, the embedding, or what comes after the last layer: what is reduced
/// together.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitState {
    /// `model.layers.3`, `model.embed_tokens` or `head`.
    pub unit: String,
    /// Which of the unit's values, as they lie one after the other without padding.
    pub range: Range<usize>,
    /// How many values the unit has.
    pub total: usize,
    /// Master weights.
    pub weights: Vec<f32>,
    /// `AdamW`'s mean of gradients.
    pub mean: Vec<f32>,
    /// `AdamW`'s mean of squared gradients.
    pub square: Vec<f32>,
}

impl UnitState {
    /// Which values these are. Vectors that are not as long as the range are refused.
    pub(super) fn place(&self) -> Result<UnitPlace, StateError> {
        let (weights, mean, square) = (self.weights.len(), self.mean.len(), self.square.len());
        let (unit, range, total) = (self.unit.clone(), self.range.clone(), self.total);
        if [weights, mean, square] == [range.len(); 3] {
            Ok(UnitPlace { unit, range, total })
        } else {
            Err(StateError::Length { unit, range, weights, mean, square })
        }
    }
}

/// The state of all ranks of one world, in any order, as the ranks of a world of `world` have it: a list each, in which units are in the order of
/// their names.
pub fn reshard(parts: &[UnitState], world: usize) -> Result<Vec<Vec<UnitState>>, EngineError> {
    let parts = parts.to_vec();
    (0..world).map(|rank| states(&Share::new(&parts, rank, world)?)).collect()
}

/// Which ranks of a world of `from` have values that rank `rank` of a world of `world` needs, where units have so many values each. There is one
/// at least, since every part names all units.
pub fn needed(totals: &[usize], from: usize, rank: usize, world: usize) -> Vec<usize> {
    let has = |other: &usize| {
        totals.iter().any(|total| !intersection(&own(*total, from, *other), &own(*total, world, rank)).is_empty())
    };
    let found: Vec<usize> = (0..from).filter(has).collect();
    if found.is_empty() { vec![0] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    fn part(unit: &str, range: Range<usize>, total: usize) -> UnitState {
        let values = |offset: usize| range.clone().map(|at| (at + offset) as f32).collect::<Vec<_>>();
        let (weights, mean, square) = (values(0), values(100), values(200));
        UnitState { unit: unit.to_owned(), range, total, weights, mean, square }
    }

    /// What rank `rank` of `world` has of these parts.
    fn share(parts: &Vec<UnitState>, rank: usize, world: usize) -> Result<Vec<UnitState>, EngineError> {
        states(&Share::new(parts, rank, world)?)
    }

    fn refusal(parts: &[UnitState]) -> StateError {
        match reshard(parts, 2).unwrap_err() {
            EngineError::State(error) => error,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn four_ranks_to_two_and_back_to_four_changes_no_value() {
        let whole = vec![part("head", 0..5, 5), part("model.layers.0", 0..11, 11), part("model.layers.1", 0..2, 2)];
        let four = reshard(&whole, 4).unwrap();
        assert_eq!(four[1][1], part("model.layers.0", 3..6, 11));
        assert_eq!(four[3][2], part("model.layers.1", 2..2, 2), "a rank may have nothing of a unit");
        let two = reshard(&four.iter().rev().flatten().cloned().collect::<Vec<_>>(), 2).unwrap();
        assert_eq!(two[0][1], part("model.layers.0", 0..6, 11));
        assert_eq!(reshard(&two.into_iter().flatten().collect::<Vec<_>>(), 4).unwrap(), four);
    }

    #[test]
    fn a_rank_needs_no_more_than_it_has_in_the_end_and_has_it_from_that_alone() {
        let totals = [5, 11, 2, 0, 150];
        let whole = totals.map(|total| part(&format!("unit-{total}"), 0..total, total)).to_vec();
        for (from, world) in [(1, 4), (4, 1), (2, 4), (4, 2), (3, 4), (100, 2), (7, 7)] {
            let (before, after) = (reshard(&whole, from).unwrap(), reshard(&whole, world).unwrap());
            for (rank, expected) in after.into_iter().enumerate() {
                let needed = needed(&totals, from, rank, world);
                let parts: Vec<UnitState> = needed.iter().flat_map(|other| before[*other].clone()).collect();
                assert_eq!(share(&parts, rank, world).unwrap(), expected, "rank {rank} of {world}, from {from}");
                for other in &needed {
                    let others = needed.iter().filter(|kept| *kept != other).flat_map(|kept| before[*kept].clone());
                    let without = share(&others.collect(), rank, world);
                    assert!(needed.len() == 1 || without.is_err(), "part {other} was not needed");
                }
            }
        }
    }

    #[test]
    fn a_gap_an_overlap_and_a_missing_end_are_refused() {
        let joint = |parts: &[UnitState]| match refusal(parts) {
            StateError::Joint { at, .. } => at,
            other => panic!("{other}"),
        };
        assert_eq!(joint(&[part("a", 0..3, 8), part("a", 4..8, 8)]), 3);
        assert_eq!(joint(&[part("a", 0..5, 8), part("a", 4..8, 8)]), 4);
        assert_eq!(joint(&[part("a", 0..5, 8)]), 5);
        assert_eq!(joint(&[part("a", 0..9, 8)]), 0);
    }

    #[test]
    fn parts_of_another_total_and_vectors_of_another_length_are_refused() {
        let other = refusal(&[part("a", 0..3, 8), part("a", 3..8, 9)]);
        assert_eq!(other, StateError::Size { unit: "a".to_owned(), found: 9, expected: 8 });
        let mut short = part("a", 0..8, 8);
        short.square.pop();
        assert!(matches!(refusal(&[short]), StateError::Length { square: 7, .. }));
    }
}
