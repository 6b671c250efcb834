//! The trained values of a unit that this rank steps: f32 weights with their moments, in stretches that decay and stretches that do not.

use std::ops::Range;

use candle_core::{DType, Error};

use super::flat::{Flat, Home};
use super::layout::{Layout, intersection};
use super::{EngineError, Values};
use crate::optim::{AdamW, Shard, TensorShard};

/// Values `range` of a unit.
#[derive(Debug, Default)]
pub(super) struct Stepped {
    range: Range<usize>,
    runs: Vec<(Range<usize>, Run)>,
}

/// A stretch of values, where they live.
#[derive(Debug)]
enum Run {
    Host(Shard),
    Device(TensorShard),
}

impl Stepped {
    /// These values of `layout`, beginning with `weights`, which are as many as `range`, and with moments of zero.
    pub(super) fn fresh(layout: &Layout, range: Range<usize>, weights: &Flat, home: &Home) -> Result<Self, Error> {
        let zeros = |count| Flat::zeros(count, DType::F32, home);
        Self::of(layout, range, |run| Ok([weights.cut(run)?, zeros(run.len())?, zeros(run.len())?]))
    }

    /// These values of `layout`, which are as many as `range`, brought home.
    pub(super) fn new(layout: &Layout, range: Range<usize>, values: &Values, home: &Home) -> Result<Self, Error> {
        let cut = |of: &[f32], run: &Range<usize>| Flat::from_host(of[run.clone()].to_vec(), home);
        Self::of(layout, range, |run| {
            Ok([cut(&values.weights, run)?, cut(&values.mean, run)?, cut(&values.square, run)?])
        })
    }

    /// The stretches of `range`, of whose values `cut` gives weights and moments, counted from its beginning.
    fn of(
        layout: &Layout,
        range: Range<usize>,
        cut: impl Fn(&Range<usize>) -> Result<[Flat; 3], Error>,
    ) -> Result<Self, Error> {
        let begin = range.start;
        let runs = layout.runs(&range).into_iter().map(|(run, decays)| {
            let values = cut(&(run.start - begin..run.end - begin))?;
            Ok((run, Run::new(values, decays)?))
        });
        Ok(Self { runs: runs.collect::<Result<_, Error>>()?, range })
    }

    /// Which of the unit's values these are.
    pub(super) fn range(&self) -> &Range<usize> {
        &self.range
    }

    /// One step along `gradient`, which is that of `range`.
    pub(super) fn step(
        &mut self,
        how: &AdamW,
        gradient: &Flat,
        step: u32,
        rate: f64,
        factor: f32,
    ) -> Result<(), EngineError> {
        let begin = self.range.start;
        for (range, run) in &mut self.runs {
            let range = range.start - begin..range.end - begin;
            match run {
                Run::Host(shard) => {
                    gradient.read(&range, |gradient| shard.step(how, gradient, step, rate, factor))??;
                }
                Run::Device(shard) => {
                    let device = shard.weights().device();
                    let gradient = gradient.tensor(&range, &[range.len()], DType::F32, device)?;
                    shard.step(how, &gradient, step, rate, factor)?;
                }
            }
        }
        Ok(())
    }

    /// Puts the weights into their places among all values of the unit.
    pub(super) fn write(&self, flat: &mut Flat) -> Result<(), Error> {
        for (range, run) in &self.runs {
            match run {
                Run::Host(shard) => flat.put_slice(range.start, shard.weights())?,
                Run::Device(shard) => flat.put(range.start, shard.weights())?,
            }
        }
        Ok(())
    }

    /// Adds a part of the values, with their moments, to `values`, which are in the host's memory.
    pub(super) fn read(&self, range: &Range<usize>, values: &mut Values) -> Result<(), Error> {
        for (run, shard) in &self.runs {
            let cut = intersection(run, range);
            if !cut.is_empty() {
                shard.read(&(cut.start - run.start..cut.end - run.start), values)?;
            }
        }
        Ok(())
    }
}

impl Run {
    fn new(values: [Flat; 3], decays: bool) -> Result<Self, Error> {
        match values {
            [Flat::Device(weights), Flat::Device(mean), Flat::Device(square)] => {
                Ok(Self::Device(TensorShard::with_moments(weights, mean, square, decays)))
            }
            [weights, mean, square] => {
                let (weights, mean, square) = (weights.into_host()?, mean.into_host()?, square.into_host()?);
                Ok(Self::Host(Shard::with_moments(weights, mean, square, decays)))
            }
        }
    }

    /// Adds weights, mean and mean square of some values.
    fn read(&self, range: &Range<usize>, values: &mut Values) -> Result<(), Error> {
        let kinds = values.kinds_mut().into_iter();
        match self {
            Self::Host(shard) => {
                for (values, all) in kinds.zip([shard.weights(), shard.mean(), shard.square()]) {
                    values.extend_from_slice(&all[range.clone()]);
                }
            }
            Self::Device(shard) => {
                for (values, all) in kinds.zip([shard.weights(), shard.mean(), shard.square()]) {
                    values.extend(all.narrow(0, range.start, range.len())?.to_vec1::<f32>()?);
                }
            }
        }
        Ok(())
    }
}
