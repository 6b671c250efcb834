//! A unit of the model on this rank: its tensors, or this rank's part of them, which are gathered when they are to be computed with. What is trained of
//! it lies next door.

use candle_core::{DType, Device, Error, Tensor};

use super::EngineError;
use super::ahead::{Ahead, Part};
use super::flat::Flat;
use super::layout::{Layout, bounds, intersection};
use super::trained::{Shared, Trained};
use crate::model::{Layer, Unit as Id};
use crate::ops::Weight;
use crate::ranks::Collective;

/// The tensors of a unit: the embedding's is a [`Weight`].
pub(super) trait Tensors: Clone {
    /// Every tensor by its Hugging Face name, and whether it is trained, in an order that depends on the model's configuration alone.
    fn tensors_mut(&mut self, id: Id) -> Vec<(String, &mut Tensor, bool)>;
}

/// What comes after the last block; no weight where the embedding is it.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    pub(super) norm: Weight,
    pub(super) weight: Option<Weight>,
}

impl Tensors for Weight {
    fn tensors_mut(&mut self, id: Id) -> Vec<(String, &mut Tensor, bool)> {
        vec![(format!("{id}.weight"), &mut self.value, self.trained)]
    }
}

impl Tensors for Layer {
    fn tensors_mut(&mut self, id: Id) -> Vec<(String, &mut Tensor, bool)> {
        let tensors = Layer::tensors_mut(self).into_iter();
        tensors.map(|(name, tensor, trained)| (format!("{id}.{name}"), tensor, trained)).collect()
    }
}

impl Tensors for Tail {
    fn tensors_mut(&mut self, _: Id) -> Vec<(String, &mut Tensor, bool)> {
        let mut tensors = vec![("model.norm.weight".to_owned(), &mut self.norm.value, self.norm.trained)];
        tensors.extend(self.weight.as_mut().map(|head| ("lm_head.weight".to_owned(), &mut head.value, head.trained)));
        tensors
    }
}

/// A unit, whatever tensors it has.
pub(super) trait AnyUnit {
    /// What is trained of it.
    fn trained(&self) -> &Trained;

    /// The same, to step.
    fn trained_mut(&mut self) -> &mut Trained;

    /// Bytes of the tensors that are there between passes.
    fn resident_bytes(&self) -> usize;

    /// Puts the master weights where they are computed with.
    fn refresh(&mut self, shared: &Shared, ranks: &mut dyn Collective) -> Result<(), EngineError>;
}

/// See the module.
#[derive(Debug)]
pub(super) struct Unit<T> {
    id: Id,
    /// The tensors in the type that is computed in; empty ones where weights are divided.
    content: T,
    trained: Trained,
    frozen: Layout,
    /// This rank's part of the frozen values where weights are divided, in the type that is computed in.
    kept: Option<Tensor>,
}

impl<T: Tensors> Unit<T> {
    /// Takes a unit's tensors apart, as they are in a whole model.
    pub(super) fn new(id: Id, mut content: T, shared: &Shared) -> Result<Self, EngineError> {
        let (mut trained, mut frozen) = (Layout::default(), Layout::default());
        for (name, tensor, is_trained) in content.tensors_mut(id) {
            let decays = shared.decay.applies_to(&name);
            if is_trained { &mut trained } else { &mut frozen }.push(name, tensor.dims(), decays);
        }
        shared.limit(&format!("the trained values of {id}"), trained.total())?;
        shared.limit(&format!("the frozen values of {id}"), frozen.total())?;
        let (stepped, own) = (shared.stepped(trained.total()), shared.own(frozen.total()));
        let mut masters = Flat::zeros(stepped.len(), DType::F32, &shared.home)?;
        let (mut places, mut frozen_places, mut kept) = (trained.parts.iter(), frozen.parts.iter(), Vec::new());
        for (_, tensor, is_trained) in content.tensors_mut(id) {
            let places = if is_trained { &mut places } else { &mut frozen_places };
            let place = places.next().map_or(0..0, |part| part.range.clone());
            let cut = intersection(&place, if is_trained { &stepped } else { &own });
            let mine = || tensor.flatten_all()?.narrow(0, cut.start - place.start, cut.len());
            if is_trained && !cut.is_empty() {
                masters.put(cut.start - stepped.start, &mine()?)?;
            }
            if !shared.divides_weights() {
                *tensor = tensor.to_dtype(shared.compute)?.to_device(&shared.device)?;
                continue;
            }
            if !is_trained && !cut.is_empty() {
                kept.push(mine()?.to_dtype(shared.compute)?.to_device(&shared.device)?);
            }
            *tensor = Tensor::zeros(0, shared.compute, &Device::Cpu)?;
        }
        let kept = if kept.is_empty() { None } else { Some(Tensor::cat(&kept, 0)?.force_contiguous()?) };
        Ok(Self { id, content, trained: Trained::new(id.to_string(), trained, &masters, shared)?, frozen, kept })
    }

    /// The tensors as they are kept: empty ones where weights are divided.
    pub(super) fn content(&self) -> &T {
        &self.content
    }

    /// The whole unit to compute with, gathered from all ranks where weights are divided, and how many bytes that took.
    pub(super) fn fetch(&self, shared: &Shared, ranks: &mut Ahead) -> Result<(T, usize), EngineError> {
        let mut content = self.content.clone();
        if !shared.divides_weights() {
            return Ok((content, 0));
        }
        let parts = if let Some(gathered) = ranks.take(self.id)? {
            gathered
        } else {
            let mut parts = self.parts(shared)?;
            parts.iter_mut().try_for_each(|Part { values, bounds }| values.all_gather(bounds, ranks))?;
            parts
        };
        let mut flats = parts.into_iter().map(|part| part.values);
        // What is trained comes first, if anything is.
        for trained in [true, false] {
            let total = if trained { self.trained.layout.total() } else { self.frozen.total() };
            if let Some(flat) = (total > 0).then(|| flats.next()).flatten() {
                self.fill(&mut content, trained, &flat, shared)?;
            }
        }
        let gathered = bytes(content.clone(), self.id);
        Ok((content, gathered))
    }

    /// What is trained and what is frozen of a divided unit, as far as there is any, with this rank's values in their places, to be gathered.
    pub(super) fn parts(&self, shared: &Shared) -> Result<Vec<Part>, EngineError> {
        let mut parts = Vec::new();
        if self.trained.any() {
            let values = self.trained.own_weights(shared.compute, shared)?;
            parts.push(Part { values, bounds: bounds(self.trained.layout.total(), shared.world) });
        }
        let total = self.frozen.total();
        if total > 0 {
            let mut values = Flat::zeros(total, shared.compute, &shared.home)?;
            if let Some(kept) = &self.kept {
                values.put(shared.own(total).start, kept)?;
            }
            parts.push(Part { values, bounds: bounds(total, shared.world) });
        }
        Ok(parts)
    }

    /// Puts flat values into the trained or the frozen tensors of `content`.
    fn fill(&self, content: &mut T, trained: bool, flat: &Flat, shared: &Shared) -> Result<(), Error> {
        let tensors = content.tensors_mut(self.id).into_iter().filter(|(_, _, is_trained)| *is_trained == trained);
        let layout = if trained { &self.trained.layout } else { &self.frozen };
        for ((_, tensor, _), part) in tensors.zip(&layout.parts) {
            *tensor = flat.tensor(&part.range, &part.shape, shared.compute, &shared.device)?;
        }
        Ok(())
    }
}

/// Bytes of a unit's tensors.
fn bytes(mut content: impl Tensors, id: Id) -> usize {
    content.tensors_mut(id).iter().map(|(_, tensor, _)| tensor_bytes(tensor)).sum()
}

fn tensor_bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

impl<T: Tensors> AnyUnit for Unit<T> {
    fn trained(&self) -> &Trained {
        &self.trained
    }

    fn trained_mut(&mut self) -> &mut Trained {
        &mut self.trained
    }

    fn resident_bytes(&self) -> usize {
        bytes(self.content.clone(), self.id) + self.kept.as_ref().map_or(0, tensor_bytes)
    }

    fn refresh(&mut self, shared: &Shared, ranks: &mut dyn Collective) -> Result<(), EngineError> {
        if self.trained.any() && !shared.divides_weights() {
            let flat = self.trained.weights(shared.compute, shared, ranks)?;
            let mut content = self.content.clone();
            self.fill(&mut content, true, &flat, shared)?;
            self.content = content;
        }
        Ok(())
    }
}
