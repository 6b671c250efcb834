//! The loss of a packed batch and its gradients, from the last block to the first: each gradient is handed over as soon as it is there, and a
//! block's input is let go once the block has been passed.

use candle_core::{DType, Device, Error, Tensor};

use super::block::{BlockGradients, BlockValues, Tokens, block_bwd, block_fwd};
use super::source::{Head, Source, Unit};
use super::{Config, Layer, Model};
use crate::ops::{
    AttentionBy, HeadLoss, Segments, Weight, embedding_bwd, embedding_fwd, head_loss_bwd, head_loss_fwd, rms_norm_bwd,
    rms_norm_fwd, wide,
};

/// A batch that a model cannot take.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Ids, mask and lengths do not count the same tokens.
    #[error("{ids} token ids, {mask} mask values and sequences of {segments} tokens do not go together")]
    Lengths {
        /// How many ids.
        ids: usize,
        /// How many mask values.
        mask: usize,
        /// The sum of the lengths.
        segments: usize,
    },
    /// A token that the embedding has no row for.
    #[error(
        "token {id} at position {position} is not below the vocabulary of {vocabulary}: is the tokenizer this model's?"
    )]
    Token {
        /// The token.
        id: u32,
        /// Its place in the batch.
        position: usize,
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// The tensors could not be made.
    #[error("the batch does not fit on the device: {0}")]
    Tensor(#[from] Error),
}

/// Sequences, packed one after the other, and which of their tokens are to be learnt.
#[derive(Debug, Clone)]
pub struct Batch {
    ids: Tensor,
    tokens: Tokens,
    head: HeadLoss,
    layers: usize,
    vocabulary: usize,
    rms_eps: f64,
}

impl Batch {
    /// `ids` of all sequences, and whether each token carries loss: it does if the token before it, in its own sequence, is to predict it. The first
    /// token of a sequence is predicted by nothing, and its mask is not looked at.
    pub fn new(
        config: &Config,
        ids: &[u32],
        loss: &[bool],
        segments: Segments,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, BatchError> {
        if ids.len() != loss.len() || ids.len() != segments.tokens() {
            return Err(BatchError::Lengths { ids: ids.len(), mask: loss.len(), segments: segments.tokens() });
        }
        let vocabulary = config.vocabulary;
        let foreign = |(_, id): &(usize, &u32)| usize::try_from(**id).is_ok_and(|id| id >= vocabulary);
        if let Some((position, id)) = ids.iter().enumerate().find(foreign) {
            return Err(BatchError::Token { id: *id, position, vocabulary });
        }
        let mut targets = vec![None; ids.len()];
        for range in segments.ranges() {
            for next in range.skip(1).filter(|next| loss[*next]) {
                targets[next - 1] = Some(ids[next]);
            }
        }
        Ok(Self {
            ids: Tensor::from_slice(ids, ids.len(), device)?,
            tokens: Tokens::new(config, segments, dtype, device)?,
            head: HeadLoss::new(&targets),
            layers: config.layers,
            vocabulary,
            rms_eps: config.rms_eps,
        })
    }

    /// Adds z-loss (arXiv 2204.02311) to what each trained token loses: `z` times the square of the logarithm of its logits' summed exponentials, which
    /// keeps these from drifting off together.
    #[must_use]
    pub fn penalise(mut self, z: f64) -> Self {
        self.head = self.head.penalise(z);
        self
    }

    /// The same with attention computed as asked for.
    pub fn attend(mut self, by: AttentionBy) -> Result<Self, BatchError> {
        self.tokens = self.tokens.attend(by, self.ids.device())?;
        Ok(self)
    }

    /// How many tokens are predicted: what the summed loss is divided by.
    pub fn trained(&self) -> usize {
        self.head.trained()
    }
}

/// What of the forward pass waits for the backward pass: of each block its input, from which the rest is computed again, unless it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// Of how many blocks, the last ones, all that the backward needs is kept: the same results, in less time and more memory.
    pub blocks: usize,
    /// Whether the inputs of the others wait in the host's memory.
    pub offload: bool,
}

/// What the output projection is applied to: (T, hidden), after the last normalisation.
pub fn hidden_states(model: &Model, batch: &Batch) -> Result<Tensor, Error> {
    let mut source = Whole { model, take: |_, _| Ok::<_, Error>(()) };
    let x = forward(&mut source, batch, |_, x, layer| block_fwd(&x, layer, &batch.tokens))?;
    rms_norm_fwd(&x, &model.norm.value, batch.rms_eps)
}

/// The loss, summed over the batch's trained tokens.
pub fn loss(model: &Model, batch: &Batch) -> Result<f64, Error> {
    evaluate(&mut Whole { model, take: |_, _| Ok::<_, Error>(()) }, batch)
}

/// The loss, summed, and the gradient of `scale` times it by everything that is trained: `take` gets each by its Hugging Face name, wide, in the
/// order in which they are done with (output first, embedding last), and may reduce or store it before the next is computed.
pub fn loss_and_gradients<E: From<Error>>(
    model: &Model,
    batch: &Batch,
    scale: f64,
    take: impl FnMut(String, Tensor) -> Result<(), E>,
) -> Result<f64, E> {
    train(&mut Whole { model, take }, batch, scale, Keep::default())
}

/// The loss, summed over the batch's trained tokens, of whatever weights `source` gives.
pub fn evaluate<S: Source>(source: &mut S, batch: &Batch) -> Result<f64, S::Error> {
    let x = forward(source, batch, |_, x, layer| block_fwd(&x, layer, &batch.tokens))?;
    let head = source.head()?;
    let normed = rms_norm_fwd(&x, &head.norm.value, batch.rms_eps)?;
    Ok(head_loss_fwd(&normed, &head.weight.value, &batch.head)?)
}

/// The loss, summed, of whatever weights `source` gives; it gets the gradients of `scale` times it, a unit at a time, output first and embedding last.
/// What waits for the backward pass, and where, says `keep`.
pub fn train<S: Source>(source: &mut S, batch: &Batch, scale: f64, keep: Keep) -> Result<f64, S::Error> {
    let device = batch.ids.device();
    let mut waiting = Vec::with_capacity(batch.layers);
    let x = forward(source, batch, |index, x, layer| {
        let values = BlockValues::new(&x, layer, &batch.tokens)?;
        let y = values.output(layer)?;
        let values = (index + keep.blocks >= batch.layers).then_some(values);
        let x = if keep.offload && values.is_none() { x.to_device(&Device::Cpu)? } else { x };
        waiting.push((x, values));
        Ok(y)
    })?;
    let head = source.head()?;
    let normed = rms_norm_fwd(&x, &head.norm.value, batch.rms_eps)?;
    let by_loss = head_loss_bwd(&normed, &head.weight.value, &batch.head, scale, head.weight.trained)?;
    let (mut gy, gradient) = rms_norm_bwd(&x, &by_loss.hidden, &head.norm.value, batch.rms_eps, head.norm.trained)?;
    let tied = head.tied;
    drop((head, normed, x));
    let mut by_head = by_loss.weight;
    let mut done = Vec::new();
    done.extend(by_head.take_if(|_| !tied).map(|gradient| ("lm_head.weight".to_owned(), gradient)));
    done.extend(gradient.map(|gradient| ("model.norm.weight".to_owned(), gradient)));
    source.take(Unit::Head, done)?;
    for (index, (x, values)) in waiting.into_iter().enumerate().rev() {
        let layer = source.layer(index)?;
        let x = x.to_device(device)?;
        let (gx, gradients) = match values {
            Some(values) => values.backward(&x, &gy, &layer, &batch.tokens)?,
            None => block_bwd(&x, &gy, &layer, &batch.tokens)?,
        };
        gy = gx;
        let named = |(name, gradient)| (format!("model.layers.{index}.{name}"), gradient);
        drop(layer);
        source.take(Unit::Layer(index), gradients.into_iter().map(named).collect())?;
    }
    let mut done = Vec::new();
    if source.trains_embedding() {
        let shape = (batch.vocabulary, gy.dim(1)?);
        let by_head = by_head.map_or_else(|| Tensor::zeros(shape, wide(gy.dtype()), device), Ok)?;
        done.push(("model.embed_tokens.weight".to_owned(), embedding_bwd(&batch.ids, &gy, by_head)?));
    }
    source.take(Unit::Embedding, done)?;
    Ok(by_loss.loss)
}

/// The last block's result, of blocks that `block` computes from their number and input.
fn forward<S: Source>(
    source: &mut S,
    batch: &Batch,
    mut block: impl FnMut(usize, Tensor, &Layer) -> Result<Tensor, Error>,
) -> Result<Tensor, S::Error> {
    let mut x = embedding_fwd(&batch.ids, &source.embedding()?.value)?;
    for index in 0..batch.layers {
        x = block(index, x, &source.layer(index)?)?;
    }
    Ok(x)
}

/// A model that is there as a whole.
struct Whole<'a, F> {
    model: &'a Model,
    take: F,
}

impl<E: From<Error>, F: FnMut(String, Tensor) -> Result<(), E>> Source for Whole<'_, F> {
    type Error = E;

    fn embedding(&mut self) -> Result<Weight, E> {
        Ok(self.model.embedding.clone())
    }

    fn layer(&mut self, index: usize) -> Result<Layer, E> {
        Ok(self.model.layers[index].clone())
    }

    fn head(&mut self) -> Result<Head, E> {
        let (norm, weight) = (self.model.norm.clone(), self.model.head().clone());
        Ok(Head { norm, weight, tied: self.model.lm_head.is_none() })
    }

    fn trains_embedding(&self) -> bool {
        self.model.embedding.trained
    }

    fn take(&mut self, _: Unit, gradients: BlockGradients) -> Result<(), E> {
        gradients.into_iter().try_for_each(|(name, gradient)| (self.take)(name, gradient))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::testing::{batch, config, model, tensors};
    use super::*;
    use crate::ops::finite_differences::{noise, values};

    fn gradients(model: &Model, scale: f64) -> (f64, HashMap<String, Tensor>) {
        let mut gradients = HashMap::new();
        let loss = loss_and_gradients(model, &batch(&model.config), scale, |name, gradient| {
            assert!(gradients.insert(name, gradient).is_none(), "handed over twice");
            Ok::<_, Error>(())
        });
        (loss.unwrap(), gradients)
    }

    /// The loss of the model with one tensor moved along a direction.
    fn moved(config: &Config, name: &str, direction: &Tensor, by: f64) -> f64 {
        let mut tensors = tensors(config);
        let at = (&tensors[name] + (direction * by).unwrap()).unwrap();
        tensors.insert(name.to_owned(), at);
        loss(&Model::from_tensors(config.clone(), tensors, true).unwrap(), &batch(config)).unwrap()
    }

    #[test]
    fn the_directional_derivative_of_every_tensor_is_right_in_every_family() {
        for (family, tied) in [("qwen3", true), ("qwen3", false), ("qwen2", false), ("llama", true)] {
            let model = model(family, tied);
            let (both, gradients) = gradients(&model, 0.25);
            assert_eq!(both.to_bits(), loss(&model, &batch(&model.config)).unwrap().to_bits());
            let config = &model.config;
            assert_eq!(gradients.len(), tensors(config).len(), "every tensor has a gradient, and nothing else has");
            for (name, gradient) in gradients {
                let direction = noise(gradient.dims(), 60);
                let analytic: f64 = values(&(gradient * &direction).unwrap()).iter().sum();
                // Fourth-order differences: the weights are large, and so is the loss's curvature.
                let step = 1e-4;
                let slope = |by: f64| {
                    (moved(config, &name, &direction, by) - moved(config, &name, &direction, -by)) / (2.0 * by)
                };
                let numeric = (4.0 * slope(step) - slope(2.0 * step)) / 3.0 * 0.25;
                let gap = (analytic - numeric).abs() / numeric.abs();
                assert!(gap < 1e-6, "{family} {name}: {analytic} is not {numeric}, {gap:e}");
            }
        }
    }

    #[test]
    fn gradients_come_output_first_and_embedding_last() {
        let model = model("qwen2", false);
        let mut names = Vec::new();
        loss_and_gradients(&model, &batch(&model.config), 1.0, |name, _| {
            names.push(name);
            Ok::<_, Error>(())
        })
        .unwrap();
        assert_eq!(names[..2], ["lm_head.weight", "model.norm.weight"]);
        let layer = |name: &String| name.split('.').nth(2).and_then(|index| index.parse::<usize>().ok());
        assert!(names[2..].windows(2).all(|pair| layer(&pair[0]) >= layer(&pair[1])));
        assert_eq!(names.last().unwrap(), "model.embed_tokens.weight");
    }

    #[test]
    fn a_frozen_model_has_a_loss_and_no_gradient() {
        let config = config("qwen3", true);
        let model = Model::from_tensors(config.clone(), tensors(&config), false).unwrap();
        let refuse = |name: String, _| Err(Error::Msg(name));
        assert!(loss_and_gradients(&model, &batch(&config), 1.0, refuse).unwrap() > 0.0);
    }

    #[test]
    fn what_takes_the_gradients_can_stop_it() {
        let model = model("qwen3", false);
        let stopped = loss_and_gradients(&model, &batch(&model.config), 1.0, |name, _| Err(Error::Msg(name)));
        assert!(stopped.unwrap_err().to_string().contains("lm_head.weight"));
    }

    #[test]
    fn the_first_token_of_a_sequence_is_never_predicted() {
        let config = config("qwen3", true);
        let of = |loss: &[bool; 4], lengths: &[usize]| {
            let segments = Segments::new(lengths).unwrap();
            Batch::new(&config, &[1, 2, 3, 4], loss, segments, DType::F64, &Device::Cpu).unwrap().trained()
        };
        assert_eq!(of(&[true; 4], &[4]), 3);
        assert_eq!(of(&[true; 4], &[2, 2]), 2);
        assert_eq!(of(&[true, false, false, true], &[3, 1]), 0);
    }

    #[test]
    fn a_batch_that_does_not_fit_is_refused_with_its_numbers() {
        let config = config("qwen3", true);
        let of = |ids: &[u32], lengths: &[usize]| {
            Batch::new(&config, ids, &[true; 3], Segments::new(lengths).unwrap(), DType::F64, &Device::Cpu).unwrap_err()
        };
        assert!(matches!(of(&[1, 2, 3], &[4]), BatchError::Lengths { ids: 3, mask: 3, segments: 4 }));
        assert!(matches!(of(&[1, 13, 3], &[3]), BatchError::Token { id: 13, position: 1, vocabulary: 13 }));
    }
}
