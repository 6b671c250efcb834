//! The trained values of a unit that this rank steps: f32 weights with their moments, in stretches that decay and stretches that do not.

use std::ops::Range;

use super::layout::{Layout, intersection};
use crate::optim::{AdamW, Shard, ShardError};

/// Values `range` of a unit.
#[derive(Debug)]
pub(super) struct Stepped {
    range: Range<usize>,
    runs: Vec<(Range<usize>, Shard)>,
}

/// Weights, mean and mean square of the same values.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) weights: Vec<f32>,
    pub(super) mean: Vec<f32>,
    pub(super) square: Vec<f32>,
}

impl Stepped {
    /// These values of `layout`, which are as many as `range`.
    pub(super) fn new(layout: &Layout, range: Range<usize>, values: &Values) -> Self {
        let runs = layout.runs(&range).into_iter().map(|(run, decays)| {
            let cut = |of: &[f32]| of[run.start - range.start..run.end - range.start].to_vec();
            let shard = Shard::with_moments(cut(&values.weights), cut(&values.mean), cut(&values.square), decays);
            (run, shard)
        });
        Self { runs: runs.collect(), range }
    }

    /// Which of the unit's values these are.
    pub(super) fn range(&self) -> &Range<usize> {
        &self.range
    }

    /// One step along `gradient`, which is that of `range`.
    pub(super) fn step(
        &mut self,
        how: &AdamW,
        gradient: &[f32],
        step: u32,
        rate: f64,
        factor: f32,
    ) -> Result<(), ShardError> {
        let begin = self.range.start;
        let each = |(run, shard): &mut (Range<usize>, Shard)| {
            shard.step(how, &gradient[run.start - begin..run.end - begin], step, rate, factor)
        };
        self.runs.iter_mut().try_for_each(each)
    }

    /// Puts the weights into their places among all values of the unit.
    pub(super) fn write(&self, flat: &mut [f32]) {
        for (run, shard) in &self.runs {
            flat[run.clone()].copy_from_slice(shard.weights());
        }
    }

    /// A part of the values, with their moments.
    pub(super) fn cut(&self, range: &Range<usize>) -> Values {
        let mut values = Values::default();
        for (run, shard) in &self.runs {
            let cut = intersection(run, range);
            let within = cut.start - run.start..cut.end - run.start;
            if !cut.is_empty() {
                values.weights.extend_from_slice(&shard.weights()[within.clone()]);
                values.mean.extend_from_slice(&shard.mean()[within.clone()]);
                values.square.extend_from_slice(&shard.square()[within]);
            }
        }
        values
    }
}
