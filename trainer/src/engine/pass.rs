//! One sequence through the model, forward or forward and backward, over the units of this rank; and the same walk without one, for a rank that has
//! none left while others still gather and reduce.

use std::collections::VecDeque;

use super::EngineError;
use super::ahead::{Ahead, Part};
use super::flat::Finite;
use super::trained::{Shared, Trained};
use super::unit::{AnyUnit, Tail, Unit};
use crate::model::{BlockGradients, Head, Layer, LoraSettings, Source, Unit as Id};
use crate::ops::{Dropout, Weight};

/// The units of a model, in the order of the forward pass.
#[derive(Debug)]
pub(super) struct Units {
    pub(super) embedding: Unit<Weight>,
    pub(super) layers: Vec<Unit<Layer>>,
    pub(super) head: Unit<Tail>,
}

impl Units {
    /// All of them that train something.
    pub(super) fn trained(&self) -> Vec<&Trained> {
        let layers = self.layers.iter().map(|layer| layer as &dyn AnyUnit);
        let all = std::iter::once(&self.embedding as &dyn AnyUnit).chain(layers).chain([&self.head as &dyn AnyUnit]);
        all.map(AnyUnit::trained).filter(|trained| trained.any()).collect()
    }

    /// Bytes of the tensors that are there between passes.
    pub(super) fn resident_bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(AnyUnit::resident_bytes).sum();
        self.embedding.resident_bytes() + layers + self.head.resident_bytes()
    }

    /// The units that a pass asks for, one after the other.
    pub(super) fn walk(&self, backward: bool) -> VecDeque<Id> {
        let layers = (0..self.layers.len()).map(Id::Layer);
        let mut walk: VecDeque<Id> = std::iter::once(Id::Embedding).chain(layers.clone()).chain([Id::Head]).collect();
        walk.extend(self.is_tied().then_some(Id::Embedding));
        if backward {
            walk.extend(layers.rev());
        }
        walk
    }

    /// Whether the output projection is the embedding.
    fn is_tied(&self) -> bool {
        self.head.content().weight.is_none()
    }

    /// This rank's part of a unit, to be gathered.
    fn parts(&self, unit: Id, shared: &Shared) -> Result<Vec<Part>, EngineError> {
        match unit {
            Id::Embedding => self.embedding.parts(shared),
            Id::Layer(index) => self.layers[index].parts(shared),
            Id::Head => self.head.parts(shared),
        }
    }

    /// All that train something, to step and refresh.
    pub(super) fn trained_mut(&mut self) -> Vec<&mut dyn AnyUnit> {
        let layers = self.layers.iter_mut().map(|layer| layer as &mut dyn AnyUnit);
        let ends = [&mut self.head as &mut dyn AnyUnit];
        let all = std::iter::once(&mut self.embedding as &mut dyn AnyUnit).chain(layers).chain(ends);
        all.filter(|unit| unit.trained().any()).collect()
    }
}

/// What is dropped of adapters' inputs in this pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dropping<'a> {
    pub(super) of: &'a LoraSettings,
    pub(super) seed: u64,
    pub(super) step: u32,
    pub(super) lines: &'a [(&'a str, usize)],
}

/// See the module.
pub(super) struct Pass<'a> {
    pub(super) units: &'a mut Units,
    pub(super) shared: &'a Shared,
    pub(super) ranks: &'a mut Ahead,
    /// The units that it has yet to ask for, where the next is gathered meanwhile.
    pub(super) to_come: VecDeque<Id>,
    pub(super) backward: bool,
    pub(super) dropping: Option<Dropping<'a>>,
    /// Whether all gradients so far are finite.
    pub(super) finite: Finite,
    pub(super) peak: &'a mut Peak,
}

/// The most bytes that were there at once in passes, beside what is there between them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Peak {
    /// Of weights that were gathered.
    pub(super) gathered: usize,
    /// Of gradients.
    pub(super) gradients: usize,
}

impl Pass<'_> {
    /// Takes part in what the others do for their lines.
    pub(super) fn idle(mut self) -> Result<(), EngineError> {
        let layers = self.units.layers.len();
        drop(self.embedding()?);
        for index in 0..layers {
            drop(self.layer(index)?);
        }
        drop(self.head()?);
        if self.backward {
            self.take(Id::Head, Vec::new())?;
            for index in (0..layers).rev() {
                drop(self.layer(index)?);
                self.take(Id::Layer(index), Vec::new())?;
            }
            self.take(Id::Embedding, Vec::new())?;
        }
        Ok(())
    }

    /// A unit has been fetched, and so many bytes are there that were gathered: the next one is begun.
    fn fetched(&mut self, unit: Id, gathered: usize) -> Result<(), EngineError> {
        self.to_come.pop_front_if(|next| *next == unit);
        if let Some(next) = self.to_come.front() {
            self.ranks.begin(*next, self.units.parts(*next, self.shared)?)?;
        }
        self.peak.gathered = self.peak.gathered.max(gathered + self.ranks.bytes());
        Ok(())
    }
}

impl Source for Pass<'_> {
    type Error = EngineError;

    fn embedding(&mut self) -> Result<Weight, EngineError> {
        let (embedding, gathered) = self.units.embedding.fetch(self.shared, self.ranks)?;
        self.fetched(Id::Embedding, gathered)?;
        Ok(embedding)
    }

    fn layer(&mut self, index: usize) -> Result<Layer, EngineError> {
        let (mut layer, gathered) = self.units.layers[index].fetch(self.shared, self.ranks)?;
        self.fetched(Id::Layer(index), gathered)?;
        if let Some(Dropping { of, seed, step, lines }) = self.dropping {
            for (name, linear) in layer.apart().1 {
                if let Some(lora) = &mut linear.lora {
                    let module = format!("{}.{name}", Id::Layer(index));
                    lora.dropout = Some(Dropout::new(of.dropout, seed, step, lines, &module));
                }
            }
        }
        Ok(layer)
    }

    fn head(&mut self) -> Result<Head, EngineError> {
        let (Tail { norm, weight }, gathered) = self.units.head.fetch(self.shared, self.ranks)?;
        self.fetched(Id::Head, gathered)?;
        let tied = weight.is_none();
        let weight = if let Some(weight) = weight {
            weight
        } else {
            let (embedding, as_well) = self.units.embedding.fetch(self.shared, self.ranks)?;
            self.fetched(Id::Embedding, gathered + as_well)?;
            embedding
        };
        Ok(Head { norm, weight, tied })
    }

    fn trains_embedding(&self) -> bool {
        self.units.embedding.trained().any()
    }

    fn take(&mut self, unit: Id, gradients: BlockGradients) -> Result<(), EngineError> {
        let unit = match unit {
            Id::Embedding => self.units.embedding.trained_mut(),
            Id::Layer(index) => self.units.layers[index].trained_mut(),
            Id::Head => self.units.head.trained_mut(),
        };
        let finite = unit.add(&gradients, self.shared, self.ranks)?;
        self.finite = self.finite.clone().and(finite)?;
        let passing = unit.passing_bytes(self.shared);
        let there: usize = self.units.trained().into_iter().map(Trained::gradient_bytes).sum();
        self.peak.gradients = self.peak.gradients.max(there + passing);
        Ok(())
    }
}
