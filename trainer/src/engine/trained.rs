//! What is trained of a unit: the master weights and moments that this rank steps, and the gradient that comes together for them. Which of these are
//! whole and which are divided is what `ZeRO` (arXiv 1910.02054) is about.

use std::ops::Range;

use candle_core::{DType, Device, Error, Tensor};
use sera_crds::values::Sharding;

use super::flat::{Finite, Flat, Home};
use super::layout::{Layout, bounds, own};
use super::stepped::Stepped;
use super::{EngineError, StateError, UnitPlace, Values};
use crate::device;
use crate::model::BlockGradients;
use crate::optim::{AdamW, DecayRule};
use crate::ranks::Collective;

/// What all units of an engine have in common.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) sharding: Sharding,
    pub(super) world: usize,
    pub(super) rank: usize,
    pub(super) decay: DecayRule,
    /// What is computed in.
    pub(super) compute: DType,
    pub(super) device: Device,
    /// Where what is stepped and its gradients live.
    pub(super) home: Home,
}

impl Shared {
    pub(super) fn own(&self, total: usize) -> Range<usize> {
        own(total, self.world, self.rank)
    }

    /// Refuses so many values in one tensor where the device that computes could not count them.
    pub(super) fn limit(&self, what: &str, values: usize) -> Result<(), EngineError> {
        Ok(device::hold_unit(&self.device, what, values)?)
    }

    /// Which of `total` values this rank steps.
    pub(super) fn stepped(&self, total: usize) -> Range<usize> {
        if self.sharding == Sharding::None { 0..total } else { self.own(total) }
    }

    /// Whether gradients are divided as soon as they are there.
    fn divides_gradients(&self) -> bool {
        matches!(self.sharding, Sharding::Zero2 | Sharding::Zero3)
    }

    pub(super) fn divides_weights(&self) -> bool {
        self.sharding == Sharding::Zero3
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Trained {
    /// The unit's, in states.
    name: String,
    pub(super) layout: Layout,
    stepped: Stepped,
    /// Of all values; of those that this rank steps where gradients are divided. Empty between steps.
    gradient: Flat,
}

impl Trained {
    /// Of a unit's trained values those that this rank steps, [`Shared::stepped`].
    pub(super) fn new(name: String, layout: Layout, values: &Flat, shared: &Shared) -> Result<Self, Error> {
        let range = shared.stepped(layout.total());
        let stepped = Stepped::fresh(&layout, range, values, &shared.home)?;
        Ok(Self { name, stepped, layout, gradient: Flat::default() })
    }

    /// The unit's name in states.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether anything in it is trained.
    pub(super) fn any(&self) -> bool {
        self.layout.total() > 0
    }

    /// Bytes of master weights and moments.
    pub(super) fn stepped_bytes(&self) -> usize {
        3 * self.stepped.range().len() * size_of::<f32>()
    }

    /// Bytes of the gradient as it is now.
    pub(super) fn gradient_bytes(&self) -> usize {
        self.gradient.len() * size_of::<f32>()
    }

    /// Bytes that one line's gradients take beside that: of the whole unit where they are divided as soon as they are there.
    pub(super) fn passing_bytes(&self, shared: &Shared) -> usize {
        if shared.divides_gradients() { self.layout.total() * size_of::<f32>() } else { 0 }
    }

    /// All master weights of the unit, from all ranks; on a device rounded to `dtype` before they are sent.
    pub(super) fn weights(
        &self,
        dtype: DType,
        shared: &Shared,
        ranks: &mut dyn Collective,
    ) -> Result<Flat, EngineError> {
        let mut flat = self.own_weights(dtype, shared)?;
        if self.any() && shared.sharding != Sharding::None {
            flat.all_gather(&bounds(self.layout.total(), shared.world), ranks)?;
        }
        Ok(flat)
    }

    /// The same before they are gathered: this rank's in their places, and zeros in the others'.
    pub(super) fn own_weights(&self, dtype: DType, shared: &Shared) -> Result<Flat, Error> {
        let mut flat = Flat::zeros(self.layout.total(), dtype, &shared.home)?;
        self.stepped.write(&mut flat)?;
        Ok(flat)
    }

    /// Adds the gradients of one line, none for a line that another rank has, and says whether they are finite.
    pub(super) fn add(
        &mut self,
        gradients: &BlockGradients,
        shared: &Shared,
        ranks: &mut dyn Collective,
    ) -> Result<Finite, EngineError> {
        let total = self.layout.total();
        if shared.divides_gradients() && total > 0 {
            let mut flat = Flat::zeros(total, DType::F32, &shared.home)?;
            let finite = self.scatter(gradients, &mut flat)?;
            flat.reduce_scatter(&bounds(total, shared.world), ranks)?;
            let own = shared.own(total);
            self.gradient.grow(own.len(), &shared.home)?;
            self.gradient.add_part(&flat, &own)?;
            return Ok(finite);
        }
        let mut flat = std::mem::take(&mut self.gradient);
        flat.grow(total, &shared.home)?;
        let finite = self.scatter(gradients, &mut flat);
        self.gradient = flat;
        Ok(finite?)
    }

    /// Adds gradients in their places among all trained values.
    fn scatter(&self, gradients: &BlockGradients, flat: &mut Flat) -> Result<Finite, Error> {
        let mut finite = Finite::from(true);
        for (name, gradient) in gradients {
            if let Some(part) = self.layout.find(name) {
                finite = finite.and(flat.add(part.range.clone(), gradient)?)?;
            }
        }
        Ok(finite)
    }

    /// Sums the gradient over ranks where that is still to do, and gives this rank's part of the square of its norm.
    pub(super) fn reduce(&mut self, shared: &Shared, ranks: &mut dyn Collective) -> Result<f64, EngineError> {
        let total = self.layout.total();
        if total == 0 {
            return Ok(0.0);
        }
        let own = shared.own(total);
        self.gradient.grow(if shared.divides_gradients() { own.len() } else { total }, &shared.home)?;
        match shared.sharding {
            Sharding::None => self.gradient.all_reduce(ranks)?,
            Sharding::Zero1 => {
                self.gradient.reduce_scatter(&bounds(total, shared.world), ranks)?;
                self.gradient.keep(&own)?;
            }
            Sharding::Zero2 | Sharding::Zero3 => {}
        }
        // The same values on the same rank however things are divided, so that the norm is the same to the bit.
        let part = if shared.sharding == Sharding::None { own } else { 0..own.len() };
        Ok(self.gradient.sum_of_squares(&part)?)
    }

    /// Steps along the reduced gradient times `factor`, and lets it go.
    pub(super) fn step(&mut self, how: &AdamW, (step, rate, factor): (u32, f64, f32)) -> Result<(), EngineError> {
        let gradient = std::mem::take(&mut self.gradient);
        self.stepped.step(how, &gradient, step, rate, factor)
    }

    /// Lets the gradient go.
    pub(super) fn forget(&mut self) {
        self.gradient = Flat::default();
    }

    /// Which values are this rank's part of a state; the same however things are divided.
    pub(super) fn place(&self, shared: &Shared) -> UnitPlace {
        let total = self.layout.total();
        UnitPlace { unit: self.name.clone(), range: shared.own(total), total }
    }

    /// Adds the values of `range`, which is in this rank's part of a state, to `values`, which are in the host's memory.
    pub(super) fn read(&self, range: &Range<usize>, values: &mut Values) -> Result<(), Error> {
        self.stepped.read(range, values)
    }

    /// Refuses what is not this rank's part of this unit.
    pub(super) fn check(&self, found: &UnitPlace, shared: &Shared) -> Result<(), StateError> {
        let UnitPlace { unit, range, total } = self.place(shared);
        if found.total != total {
            return Err(StateError::Size { unit, found: found.total, expected: total });
        }
        if found.range != range {
            return Err(StateError::Range { unit, found: found.range.clone(), expected: range });
        }
        Ok(())
    }

    /// Goes on from the values of this rank's part of a state.
    pub(super) fn restore(
        &mut self,
        mut values: Values,
        shared: &Shared,
        ranks: &mut dyn Collective,
    ) -> Result<(), EngineError> {
        if shared.sharding == Sharding::None && shared.world > 1 {
            let total = self.layout.total();
            let own = shared.own(total);
            for part in values.kinds_mut() {
                let mut flat = vec![0.0; total];
                flat[own.clone()].copy_from_slice(part);
                *part = flat;
                ranks.all_gather(part, &bounds(total, shared.world))?;
            }
        }
        // What was there goes first: both need not have room beside what was read.
        let range = std::mem::take(&mut self.stepped).range().clone();
        self.stepped = Stepped::new(&self.layout, range, &values, &shared.home)?;
        self.forget();
        Ok(())
    }

    /// Hands over every trained tensor, whole and in f32.
    pub(super) fn trained_tensors<E: From<EngineError>>(
        &self,
        shared: &Shared,
        ranks: &mut dyn Collective,
        take: &mut dyn FnMut(&str, Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        let flat = self.weights(DType::F32, shared, ranks)?.into_host().map_err(EngineError::from)?;
        for part in &self.layout.parts {
            let tensor = Tensor::from_slice(&flat[part.range.clone()], part.shape.as_slice(), &Device::Cpu);
            take(&part.name, tensor.map_err(EngineError::from)?)?;
        }
        Ok(())
    }
}
