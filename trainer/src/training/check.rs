//! What is looked at before any hour of a GPU is spent: everything is read, the memory is added up, and two steps on one line show that every tensor
//! learns and that the loss falls. Nothing is written.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};

use candle_core::{Device, Tensor};
use sera_crds::contract::TrainingPlan;

use super::error::TrainingError;
use super::inputs::Inputs;
use super::machine::Available;
use super::memory::Bytes;
use super::sources::Sources;
use super::{fit, plan as plans};
use crate::data::{Order, Renderer};
use crate::engine::{Engine, EngineError, Evaluation, Line, Settings};
use crate::ops::AttentionBy;
use crate::ranks::Collective;

/// How many steps are tried: after the first, only one matrix of an adapter has moved, since the other one's gradient is zero as long as it is.
const STEPS: u32 = 2;

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// What was read.
    pub inputs: Inputs,
    /// How many steps there would be.
    pub steps: u32,
    /// What a rank needs.
    pub bytes: Bytes,
    /// What it has; none where the system does not say.
    pub available: Option<u64>,
    /// How many tensors are trained, and how many values they have.
    pub trained: (usize, u64),
    /// The line that was tried.
    pub tried: String,
    /// Its loss before and after.
    pub losses: (f64, f64),
}

/// What two steps showed.
struct Learnt {
    /// How many tensors are trained, and how many values they have.
    trained: (usize, u64),
    /// The loss before and after.
    losses: (f64, f64),
}

/// Checks a training on this rank's device, with attention computed as asked for; every rank calls it. `available` is what this rank may use of the
/// memory.
pub fn check(
    sources: &Sources,
    plan: &TrainingPlan,
    device: &Device,
    attention: AttentionBy,
    mut ranks: Box<dyn Collective>,
    available: Available,
) -> Result<Report, TrainingError> {
    let mut settings = Settings { attention, ..plans::settings(plan, device)? };
    let places = sources.bring(ranks.as_mut())?;
    let inputs = Inputs::read(&places, plan, device)?;
    let order = Order::new(inputs.train.lines.len(), plan.global_batch, plan.epochs, plan.seed)?;
    let world = ranks.world();
    let bytes = fit::into_memory(&inputs, plan, &mut settings, device, world, available)?;
    // Decay would move a tensor that no gradient reaches, and dropout would make the two losses differ.
    settings.optimizer.weight_decay = 0.0;
    let mut engine = Engine::of::<_, TrainingError>(inputs.student.unread(device), settings, device, ranks)?;
    let rate = plan.peak_learning_rate().value();
    let line = inputs.train.lines.iter().min_by_key(|line| line.ids.len());
    let line: Vec<Line> = line.into_iter().cloned().collect();
    let tried = line.first().map(|line| line.id.clone()).unwrap_or_default();
    let mine: &[Line] = if engine.ranks().rank() == 0 { &line } else { &[] };
    let Learnt { trained, losses } = learns(&mut engine, mine, rate)?;
    // Written so that a loss that is no number is refused too.
    if losses.1 < losses.0 {
        let available = available.device;
        return Ok(Report { steps: order.steps(), bytes, available, trained, tried, losses, inputs });
    }
    Err(TrainingError::NotLower { rate, line: tried, before: losses.0, after: losses.1 })
}

/// Takes steps, and looks at which tensors moved and what became of the loss.
fn learns(engine: &mut Engine, mine: &[Line], rate: f64) -> Result<Learnt, TrainingError> {
    // A digest of each, since a rank that has a part of the model may have no room for all of it.
    let mut before: HashMap<String, u64> = HashMap::new();
    engine.trained_tensors::<EngineError>(&mut |name, tensor| {
        before.insert(name.to_owned(), digest(&tensor)?.0);
        Ok(())
    })?;
    let loss_before = mean(engine.evaluate(mine)?);
    for step in 1..=STEPS {
        if let Some(reason) = engine.step(mine, step, rate)?.skipped {
            tracing::error!(reason, "the step is left out");
            return Err(TrainingError::Gradient {
                tensor: "the model".to_owned(),
                problem: "a gradient that is no number",
            });
        }
    }
    let loss_after = mean(engine.evaluate(mine)?);
    let (mut tensors, mut values, mut still) = (0, 0, None);
    engine.trained_tensors::<EngineError>(&mut |name, tensor| {
        tensors += 1;
        values += tensor.elem_count() as u64;
        let (after, are_finite) = digest(&tensor)?;
        let problem = match before.remove(name) {
            _ if !are_finite => Some("a gradient that is no number"),
            Some(before) if before == after => Some("no gradient"),
            _ => None,
        };
        still = still.take().or_else(|| problem.map(|problem| (name.to_owned(), problem)));
        Ok(())
    })?;
    match still {
        Some((tensor, problem)) => Err(TrainingError::Gradient { tensor, problem }),
        None => Ok(Learnt { trained: (tensors, values), losses: (loss_before, loss_after) }),
    }
}

/// A digest of a tensor's values, bit by bit, and whether all of them are finite.
fn digest(tensor: &Tensor) -> Result<(u64, bool), EngineError> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    let mut hasher = DefaultHasher::new();
    values.iter().for_each(|value| hasher.write_u32(value.to_bits()));
    Ok((hasher.finish(), values.iter().all(|value| value.is_finite())))
}

#[allow(clippy::cast_precision_loss, reason = "fewer than 2^53 tokens")]
fn mean(evaluation: Evaluation) -> f64 {
    evaluation.loss_sum / evaluation.trained as f64
}

impl Report {
    /// The first line as it is trained: pieces of text, and whether they carry loss.
    pub fn sample(&self) -> Result<Vec<(String, bool)>, TrainingError> {
        let Some(line) = self.inputs.train.lines.first() else { return Ok(Vec::new()) };
        pieces(&self.inputs.renderer, line)
            .map_err(|source| TrainingError::Chat { folder: self.inputs.student.folder().to_owned(), source })
    }
}

fn pieces(renderer: &Renderer, line: &Line) -> Result<Vec<(String, bool)>, sera_chat::ChatError> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    for piece in line.loss.chunk_by(|a, b| a == b) {
        let end = begin + piece.len();
        pieces.push((renderer.decode(&line.ids[begin..end])?, piece[0]));
        begin = end;
    }
    Ok(pieces)
}
