//! The engine that takes optimizer steps: a model, its optimizer and what the ranks share of both (`ZeRO`, arXiv 1910.02054), in full or by adapters.
//! It is given tokens and gives back numbers; no files, no conversations, no schedule.

mod ahead;
mod flat;
mod layout;
mod packs;
mod parts;
mod pass;
mod settings;
mod state;
mod stepped;
mod trained;
mod unit;

pub use parts::{Keeping, Parts, Share, UnitPlace, Values};
pub use settings::{EngineError, Evaluation, Held, Line, Method, Normalise, Residence, Settings, StepReport, Turn};
pub use state::{StateError, UnitState, needed, reshard};

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use crate::device;
use crate::model::{Batch, Config, Model, Supply, Unit as Id, evaluate, train};
use crate::ops::{Segments, Weight};
use crate::optim::clip_factor;
use crate::ranks::{Collective, RankError};
use ahead::Ahead;
use flat::{Finite, Home};
use packs::Pack;
use parts::states;
use pass::{Dropping, Pass, Peak, Units};
use trained::{Shared, Trained};
use unit::{Tail, Unit};

/// A model in training, or this rank's part of one.
pub struct Engine {
    config: Config,
    settings: Settings,
    shared: Shared,
    units: Units,
    ranks: Ahead,
    peak: Peak,
}

/// What all ranks' lines come to.
struct Census {
    trained: f64,
    tokens: f64,
    /// Lines in which something is to be learnt.
    lines: f64,
    /// How many sequences of them the rank with the most has.
    rounds: usize,
}

impl Engine {
    /// Takes a model, the same on every rank, and keeps this rank's part of it.
    pub fn new(model: Model, settings: Settings, ranks: Box<dyn Collective>) -> Result<Self, EngineError> {
        let device = model.embedding.value.device().clone();
        Self::of(model, settings, &device, ranks)
    }

    /// Takes a model, the same on every rank, to compute with it on `device`: a unit at a time, of which this rank's part is kept before the next one is
    /// asked for. All of it, where weights are not divided.
    pub fn of<S: Supply, E: From<EngineError> + From<S::Error>>(
        mut model: S,
        settings: Settings,
        device: &Device,
        ranks: Box<dyn Collective>,
    ) -> Result<Self, E> {
        if !matches!(settings.compute, DType::F32 | DType::BF16) {
            return Err(EngineError::Compute(settings.compute).into());
        }
        settings.attention.check_device(device).map_err(EngineError::from)?;
        settings.attention.check_heads(settings.compute, model.config().head_dim).map_err(EngineError::from)?;
        let shared = Shared {
            home: match settings.residence {
                Residence::Host => Home::Host,
                Residence::Device => Home::Device(device.clone()),
            },
            sharding: settings.sharding,
            world: ranks.world(),
            rank: ranks.rank(),
            decay: settings.decay,
            compute: settings.compute,
            device: device.clone(),
        };
        let full = settings.method == Method::Full;
        let as_asked = |weight: Weight| Weight { trained: full, ..weight };
        let config = model.config().clone();
        let embedding = Unit::new(Id::Embedding, as_asked(model.embedding()?), &shared)?;
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let mut layer = model.layer(index)?;
            match &settings.method {
                Method::Full => layer.set_trained(true),
                Method::Lora(lora) => {
                    if index == 0 {
                        lora.check(layer.clone()).map_err(EngineError::from)?;
                    }
                    lora.adapt(&mut layer, index).map_err(EngineError::from)?;
                }
            }
            layers.push(Unit::new(Id::Layer(index), layer, &shared)?);
        }
        let (norm, head) = model.tail()?;
        let tail = Tail { norm: as_asked(norm), weight: head.map(as_asked) };
        let units = Units { embedding, layers, head: Unit::new(Id::Head, tail, &shared)? };
        Ok(Self { config, settings, shared, units, ranks: Ahead::new(ranks), peak: Peak::default() })
    }

    /// One optimizer step, number `step` from 1 at learning rate `rate`, over the global batch. Each rank gives its own lines, possibly none; they are
    /// taken one sequence at a time, and their gradients summed. Every rank calls it.
    pub fn step(&mut self, mine: &[Line], step: u32, rate: f64) -> Result<StepReport, EngineError> {
        self.step_as(Turn { step, taken: step, rate, limit: f64::INFINITY }, mine)
    }

    /// The same, of a training that may have left steps out, and may leave out this one. Every rank is told the same.
    pub fn step_as(&mut self, turn: Turn, mine: &[Line]) -> Result<StepReport, EngineError> {
        let Turn { step, taken, rate, limit } = turn;
        let packs = self.packs(mine);
        let census = self.census(mine, &packs)?;
        if census.trained == 0.0 {
            let ids = self.everyones(mine.iter().map(|line| line.id.as_str()))?;
            return Err(EngineError::NothingTrained(ids));
        }
        // What a step that failed half-way has left.
        self.units.trained_mut().into_iter().for_each(|unit| unit.trained_mut().forget());
        let (loss_sum, suspects) = self.gradients(&packs, &census, step)?;
        let mut sums = [loss_sum, 0.0];
        for unit in self.units.trained_mut() {
            sums[1] += unit.trained_mut().reduce(&self.shared, &mut self.ranks)?;
        }
        self.ranks.all_reduce_f64(&mut sums)?;
        let (loss, gradient_norm) = (sums[0] / census.trained, sums[1].sqrt());
        let finite = loss.is_finite() && gradient_norm.is_finite();
        let skipped = if finite && loss <= limit {
            None
        } else if finite {
            let ids = self.everyones(mine.iter().map(|line| line.id.as_str()))?;
            Some(format!("the loss is {loss:.4}, where at most {limit:.4} is taken; it is that of {ids}"))
        } else {
            Some(self.reason(loss, gradient_norm, &suspects)?)
        };
        let factor = clip_factor(gradient_norm, self.settings.clip_norm);
        for unit in self.units.trained_mut() {
            if skipped.is_some() {
                unit.trained_mut().forget();
            } else {
                unit.trained_mut().step(&self.settings.optimizer, (taken, rate, factor))?;
                unit.refresh(&self.shared, &mut self.ranks)?;
            }
        }
        let (trained, tokens) = (whole(census.trained), whole(census.tokens));
        Ok(StepReport { loss, trained, tokens, gradient_norm, clipped: factor < 1.0, skipped })
    }

    /// The loss over all ranks' lines, without dropout. Every rank calls it, whatever lines it has.
    pub fn evaluate(&mut self, mine: &[Line]) -> Result<Evaluation, EngineError> {
        let packs = self.packs(mine);
        let census = self.census(mine, &packs)?;
        let mut packs = packs.iter();
        let mut sum = [0.0];
        for _ in 0..census.rounds {
            let batch = packs.next().map(|pack| self.batch(pack)).transpose()?;
            let mut pass = self.pass(None, false);
            match batch {
                Some(batch) => sum[0] += evaluate(&mut pass, &batch)?,
                None => pass.idle()?,
            }
        }
        self.ranks.all_reduce_f64(&mut sum)?;
        Ok(Evaluation { loss_sum: sum[0], trained: whole(census.trained) })
    }

    /// This rank's part of what is trained. All ranks' together are the state of the training, however it is divided; see [`Share`].
    pub fn state(&self) -> Result<Vec<UnitState>, EngineError> {
        states(&Keeping::new(self.units.trained(), &self.shared))
    }

    /// The same a unit at a time, and the ranks, which keep it together.
    pub fn keeping(&mut self) -> (Keeping<'_>, &mut dyn Collective) {
        (Keeping::new(self.units.trained(), &self.shared), &mut self.ranks)
    }

    /// Goes on from this rank's part of a state, a unit at a time. Every rank calls it, each with its own; nothing is changed where one is refused.
    pub fn restore<P: Parts>(&mut self, state: &P) -> Result<(), P::Error> {
        let order = self.order(state.places()?).map_err(EngineError::from)?;
        for (unit, (at, range)) in self.units.trained_mut().into_iter().zip(order) {
            let values = state.values(at, &range)?;
            unit.trained_mut().restore(values, &self.shared, &mut self.ranks)?;
            unit.refresh(&self.shared, &mut self.ranks)?;
        }
        Ok(())
    }

    /// In which place of a state each trained unit has its part, and which values that is. A state of anything else is refused.
    fn order(&self, places: Vec<UnitPlace>) -> Result<Vec<(usize, Range<usize>)>, StateError> {
        let mut by_name: HashMap<String, (usize, UnitPlace)> = HashMap::new();
        for (at, place) in places.into_iter().enumerate() {
            if let Some((_, UnitPlace { unit, range, total })) = by_name.insert(place.unit.clone(), (at, place)) {
                return Err(StateError::Joint { unit, at: range.start, total });
            }
        }
        let mut order = Vec::new();
        for unit in self.units.trained() {
            let found = by_name.remove(unit.name());
            let (at, place) = found.ok_or_else(|| StateError::Missing(unit.name().to_owned()))?;
            unit.check(&place, &self.shared)?;
            order.push((at, place.range));
        }
        by_name.into_keys().min().map_or(Ok(order), |foreign| Err(StateError::Unknown(foreign)))
    }

    /// Hands over every trained tensor, whole, in f32 and on the CPU, one at a time, by its Hugging Face name; adapters as
    /// `model.layers.0.self_attn.q_proj.lora_A.weight`. Every rank calls it, and every rank is handed all of them.
    pub fn trained_tensors<E: From<EngineError>>(
        &mut self,
        take: &mut dyn FnMut(&str, Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        for unit in self.units.trained() {
            unit.trained_tensors(&self.shared, &mut self.ranks, take)?;
        }
        Ok(())
    }

    /// What this rank holds; peaks are those of the steps so far.
    pub fn held(&self) -> Held {
        let optimizer = self.units.trained().into_iter().map(Trained::stepped_bytes).sum();
        let weights = self.units.resident_bytes() + self.peak.gathered;
        Held { weights, gradients: self.peak.gradients, optimizer }
    }

    /// What is computed on.
    pub fn device(&self) -> &Device {
        &self.shared.device
    }

    /// The ranks, for what a training does together beside its steps.
    pub fn ranks(&mut self) -> &mut dyn Collective {
        &mut self.ranks
    }

    fn pass<'a>(&'a mut self, dropping: Option<Dropping<'a>>, backward: bool) -> Pass<'a> {
        let Self { settings, units, shared, ranks, peak, .. } = self;
        let ahead = settings.ahead && ranks.world() > 1 && shared.divides_weights();
        let to_come = if ahead { units.walk(backward) } else { VecDeque::new() };
        Pass { units, shared, ranks, to_come, backward, dropping, finite: Finite::from(true), peak }
    }

    /// The sequences that this rank's lines are made.
    fn packs<'a>(&self, mine: &'a [Line]) -> Vec<Pack<'a>> {
        let longest = self.settings.packing.filter(|_| self.settings.normalise == Normalise::PerToken);
        packs::of(mine, longest)
    }

    /// Counts all ranks' lines.
    fn census(&mut self, mine: &[Line], packs: &[Pack<'_>]) -> Result<Census, EngineError> {
        let trained: usize = packs.iter().map(Pack::trained).sum();
        let tokens: usize = mine.iter().map(|line| line.ids.len()).sum();
        // Trained tokens, tokens and lines, and then how many sequences each rank has.
        let mut counts = vec![0.0; 3 + self.shared.world];
        let lines = packs.iter().map(|pack| pack.lines().len()).sum();
        for (count, mine) in counts.iter_mut().zip([trained, tokens, lines]) {
            *count = number(mine);
        }
        counts[3 + self.shared.rank] = number(packs.len());
        self.ranks.all_reduce_f64(&mut counts)?;
        let rounds = whole(counts[3..].iter().copied().fold(0.0, f64::max));
        let rounds = usize::try_from(rounds).unwrap_or(usize::MAX);
        Ok(Census { trained: counts[0], tokens: counts[1], lines: counts[2], rounds })
    }

    fn batch(&self, pack: &Pack<'_>) -> Result<Batch, EngineError> {
        device::hold_sequence(&self.shared.device, &self.config, pack.lengths().iter().sum())?;
        let segments =
            Segments::new(&pack.lengths()).map_err(|source| EngineError::Sequence { id: pack.names(), source })?;
        Batch::new(&self.config, &pack.ids(), &pack.loss(), segments, self.settings.compute, &self.shared.device)
            .and_then(|batch| batch.attend(self.settings.attention))
            .map_err(|source| EngineError::Line { id: pack.names(), source })
    }

    /// Sums the gradients of this rank's lines; gives their summed loss, and the ids of those that are not finite.
    fn gradients(&mut self, packs: &[Pack<'_>], census: &Census, step: u32) -> Result<(f64, Vec<String>), EngineError> {
        let mut packs = packs.iter();
        let (mut sum, mut suspects) = (0.0, Vec::new());
        for _ in 0..census.rounds {
            let Some(pack) = packs.next() else {
                self.pass(None, true).idle()?;
                continue;
            };
            let scale = match self.settings.normalise {
                Normalise::PerToken => 1.0 / census.trained,
                Normalise::MeanOfMeans => 1.0 / (number(pack.trained()) * census.lines),
            };
            let (batch, lines) = (self.batch(pack)?.penalise(self.settings.z_loss), pack.lines());
            let (keep, seed, method) = (self.settings.keep, self.settings.seed, self.settings.method.clone());
            let dropping = match &method {
                Method::Lora(of) if of.dropout > 0.0 => Some(Dropping { of, seed, step, lines: &lines }),
                _ => None,
            };
            let mut pass = self.pass(dropping, true);
            let loss = train(&mut pass, &batch, scale, keep)?;
            if !loss.is_finite() || !pass.finite.known()? {
                suspects.extend(lines.iter().map(|(id, _)| (*id).to_owned()));
            }
            sum += loss;
        }
        Ok((sum, suspects))
    }

    /// Why a step is skipped, in the same words on every rank.
    fn reason(&mut self, loss: f64, norm: f64, suspects: &[String]) -> Result<String, EngineError> {
        let suspects = self.everyones(suspects.iter().map(String::as_str))?;
        let whose = if suspects.is_empty() { "no line alone".to_owned() } else { suspects };
        Ok(format!("the loss is {loss} and the gradient's norm {norm}; not finite in {whose}"))
    }

    /// All ranks' words, in the order of ranks.
    fn everyones<'a>(&mut self, words: impl Iterator<Item = &'a str>) -> Result<String, RankError> {
        let mine = words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let mut all = Vec::new();
        for rank in 0..self.shared.world {
            let mut bytes = if rank == self.shared.rank { mine.clone().into_bytes() } else { Vec::new() };
            self.ranks.broadcast(rank, &mut bytes)?;
            all.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        all.retain(|words| !words.is_empty());
        Ok(all.join(", "))
    }
}

/// A count that is summed over ranks with other numbers.
#[allow(clippy::cast_precision_loss, reason = "fewer than 2^53 tokens")]
fn number(count: usize) -> f64 {
    count as f64
}

/// Such a sum, as a count again.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was made of whole numbers")]
fn whole(sum: f64) -> u64 {
    sum as u64
}
