//! A unit of the model on this rank: its tensors, or this rank's part of them, which are gathered when they are to be computed with. What is trained of
//! it lies next door.

use candle_core::{Error, Tensor};

use super::EngineError;
use super::layout::{Layout, bounds, with_values};
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
    pub(super) fn new(id: Id, mut content: T, shared: &Shared) -> Result<Self, Error> {
        let (mut trained, mut frozen) = (Layout::default(), Layout::default());
        let (mut masters, mut kept) = (Vec::new(), Vec::new());
        for (name, tensor, is_trained) in content.tensors_mut(id) {
            let decays = shared.decay.applies_to(&name);
            if is_trained {
                trained.push(name, tensor.dims(), decays);
                with_values(tensor, |values| masters.extend_from_slice(values))?;
            } else {
                frozen.push(name, tensor.dims(), decays);
            }
            *tensor = tensor.to_dtype(shared.compute)?.to_device(&shared.device)?;
            if shared.divides_weights() {
                let whole = std::mem::replace(tensor, Tensor::zeros(0, shared.compute, &shared.device)?);
                kept.extend((!is_trained).then(|| whole.flatten_all()).transpose()?);
            }
        }
        let own = shared.own(frozen.total());
        let kept = match kept.as_slice() {
            [] => None,
            parts => Some(Tensor::cat(parts, 0)?.narrow(0, own.start, own.len())?.force_contiguous()?),
        };
        Ok(Self { id, content, trained: Trained::new(id.to_string(), trained, &masters, shared), frozen, kept })
    }

    /// The whole unit to compute with, gathered from all ranks where weights are divided, and how many bytes that took.
    pub(super) fn fetch(&self, shared: &Shared, ranks: &mut dyn Collective) -> Result<(T, usize), EngineError> {
        let mut content = self.content.clone();
        if shared.divides_weights() {
            self.fill(&mut content, true, &self.trained.weights(shared, ranks)?, shared)?;
            if let Some(kept) = &self.kept {
                let mut flat = vec![0.0; self.frozen.total()];
                let own = shared.own(flat.len());
                with_values(kept, |values| flat[own].copy_from_slice(values))?;
                let bounds = bounds(flat.len(), shared.world);
                ranks.all_gather(&mut flat, &bounds)?;
                self.fill(&mut content, false, &flat, shared)?;
            }
            let gathered = bytes(content.clone(), self.id);
            return Ok((content, gathered));
        }
        Ok((content, 0))
    }

    /// Puts flat values into the trained or the frozen tensors of `content`.
    fn fill(&self, content: &mut T, trained: bool, flat: &[f32], shared: &Shared) -> Result<(), Error> {
        let tensors = content.tensors_mut(self.id).into_iter().filter(|(_, _, is_trained)| *is_trained == trained);
        let layout = if trained { &self.trained.layout } else { &self.frozen };
        for ((_, tensor, _), part) in tensors.zip(&layout.parts) {
            let values = Tensor::from_slice(&flat[part.range.clone()], part.shape.as_slice(), &shared.device)?;
            *tensor = values.to_dtype(shared.compute)?;
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
            let flat = self.trained.weights(shared, ranks)?;
            let mut content = self.content.clone();
            self.fill(&mut content, true, &flat, shared)?;
            self.content = content;
        }
        Ok(())
    }
}
