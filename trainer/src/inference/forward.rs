//! A forward pass over new tokens of several sequences at once, on processors: keys and values of what came before are in the cache, those of the new
//! tokens are put there. Numbers are f32; a row's result does not depend on the rows beside it.

use rayon::prelude::*;

use super::attention::{Pages, Place};
use super::blocks::BlockId;
use super::weights::{LayerWeights, Weights};
use crate::model::Config;
use crate::ops::inverse_frequencies;

/// New tokens of a sequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'a> {
    /// The new tokens; at least one.
    pub(super) tokens: &'a [u32],
    /// How many tokens came before them.
    pub(super) start: usize,
    /// The blocks of the sequence, enough for the new tokens too.
    pub(super) blocks: &'a [BlockId],
    /// Whether the logits after the last of them are wanted.
    pub(super) wanted: bool,
}

/// A model with its cache.
#[derive(Debug)]
pub(super) struct Runner {
    weights: Weights,
    frequencies: Vec<f32>,
    pages: Vec<Pages>,
}

/// Cosines and sines of some tokens' angles, (n, `head_dim` / 2) each.
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Runner {
    pub(super) fn new(weights: Weights, blocks: u32) -> Self {
        let Config { rope_theta, head_dim, rope_scaling, layers, .. } = &weights.config;
        let frequencies = inverse_frequencies(*rope_theta, *head_dim, rope_scaling.as_ref());
        let pages = (0..*layers).map(|_| Pages::new(&weights.config, blocks)).collect();
        Self { weights, frequencies, pages }
    }

    /// The logits that are wanted, (vocabulary) each, in the order of their spans.
    pub(super) fn forward(&mut self, spans: &[Span]) -> Vec<Vec<f32>> {
        let mut x = self.embed(spans);
        let angles = self.angles(spans);
        for (layer, pages) in self.weights.layers.iter().zip(&mut self.pages) {
            attend(&mut x, layer, &self.weights.config, &angles, pages, spans);
            feed(&mut x, layer, &self.weights.config);
        }
        self.logits(&x, spans)
    }

    fn embed(&self, spans: &[Span]) -> Vec<f32> {
        let hidden = self.weights.config.hidden;
        let tokens: Vec<u32> = spans.iter().flat_map(|span| span.tokens).copied().collect();
        let mut x = vec![0.0; tokens.len() * hidden];
        x.chunks_mut(hidden).zip(tokens).for_each(|(row, token)| self.weights.embedding.row(token as usize, row));
        x
    }

    #[allow(clippy::cast_precision_loss, reason = "positions beyond 2^24 are beyond any context")]
    fn angles(&self, spans: &[Span]) -> Angles {
        let positions = spans.iter().flat_map(|span| span.start..span.start + span.tokens.len());
        let angles = positions.flat_map(|at| self.frequencies.iter().map(move |each| at as f32 * each));
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Angles { cos, sin }
    }

    fn logits(&self, x: &[f32], spans: &[Span]) -> Vec<Vec<f32>> {
        let Config { hidden, rms_eps, vocabulary, .. } = self.weights.config;
        let mut last = Vec::new();
        let mut row = 0;
        for span in spans {
            row += span.tokens.len();
            if span.wanted {
                last.extend_from_slice(&x[(row - 1) * hidden..row * hidden]);
            }
        }
        if last.is_empty() {
            return Vec::new();
        }
        let head = self.weights.head.as_ref().unwrap_or(&self.weights.embedding);
        let logits = head.apply(&normalised(&last, &self.weights.norm, rms_eps));
        logits.chunks(vocabulary).map(<[f32]>::to_vec).collect()
    }
}

/// Adds what attention makes of `x` (n, hidden) to it.
fn attend(x: &mut [f32], layer: &LayerWeights, config: &Config, angles: &Angles, pages: &mut Pages, spans: &[Span]) {
    let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let mut qkv = layer.qkv.apply(&normalised(x, &layer.input_norm, config.rms_eps));
    add_bias(&mut qkv, layer.qkv_bias.as_deref());
    let half = config.head_dim / 2;
    let (mut q, mut row) = (Vec::with_capacity(x.len() / config.hidden * queries), 0);
    for span in spans {
        for at in 0..span.tokens.len() {
            let (of_q, rest) = qkv[row * (queries + 2 * keys)..][..queries + 2 * keys].split_at_mut(queries);
            let (of_k, of_v) = rest.split_at_mut(keys);
            let (cos, sin) = (&angles.cos[row * half..][..half], &angles.sin[row * half..][..half]);
            let (q_norm, k_norm) = layer.qk_norm.as_ref().map(|(q, k)| (q.as_slice(), k.as_slice())).unzip();
            place(of_q, q_norm, config, cos, sin);
            place(of_k, k_norm, config, cos, sin);
            pages.write(span.blocks, span.start + at, of_k, of_v);
            q.extend_from_slice(of_q);
            row += 1;
        }
    }
    let places = spans.iter().map(|span| Place { start: span.start, count: span.tokens.len(), blocks: span.blocks });
    let attended = pages.attend(&q, &places.collect::<Vec<_>>());
    add_to(x, layer.output.apply(&attended), layer.output_bias.as_deref());
}

/// Adds what the feed-forward part makes of `x` (n, hidden) to it.
fn feed(x: &mut [f32], layer: &LayerWeights, config: &Config) {
    let mut gate_up = layer.gate_up.apply(&normalised(x, &layer.post_norm, config.rms_eps));
    add_bias(&mut gate_up, layer.gate_up_bias.as_deref());
    let inner = config.intermediate;
    let mut product = vec![0.0; gate_up.len() / 2];
    product.par_chunks_mut(inner).zip(gate_up.par_chunks(2 * inner)).for_each(|(product, gate_up)| {
        let (gate, up) = gate_up.split_at(inner);
        let each = product.iter_mut().zip(gate.iter().zip(up));
        each.for_each(|(product, (gate, up))| *product = gate / (1.0 + (-gate).exp()) * up);
    });
    add_to(x, layer.down.apply(&product), layer.down_bias.as_deref());
}

/// Normalises a token's heads where the model does, and turns them by its angles: value i with value i + half, as Hugging Face has them.
fn place(heads: &mut [f32], norm: Option<&[f32]>, config: &Config, cos: &[f32], sin: &[f32]) {
    for head in heads.chunks_mut(config.head_dim) {
        if let Some(norm) = norm {
            normalise(head, norm, config.rms_eps);
        }
        let (first, second) = head.split_at_mut(config.head_dim / 2);
        for (at, (a, b)) in first.iter_mut().zip(second).enumerate() {
            (*a, *b) = (*a * cos[at] - *b * sin[at], *b * cos[at] + *a * sin[at]);
        }
    }
}

/// Rows of as many values as `norm` has, normalised.
fn normalised(x: &[f32], norm: &[f32], eps: f64) -> Vec<f32> {
    let mut result = x.to_vec();
    result.chunks_mut(norm.len()).for_each(|row| normalise(row, norm, eps));
    result
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "rows are short, and eps is f32 where it is added"
)]
fn normalise(row: &mut [f32], norm: &[f32], eps: f64) {
    let mean = row.iter().map(|value| value * value).sum::<f32>() / row.len() as f32;
    let scale = 1.0 / (mean + eps as f32).sqrt();
    row.iter_mut().zip(norm).for_each(|(value, norm)| *value = *value * scale * norm);
}

fn add_bias(rows: &mut [f32], bias: Option<&[f32]>) {
    let Some(bias) = bias else { return };
    for row in rows.chunks_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
    }
}

fn add_to(x: &mut [f32], mut rows: Vec<f32>, bias: Option<&[f32]>) {
    add_bias(&mut rows, bias);
    x.iter_mut().zip(rows).for_each(|(value, added)| *value += added);
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Error, Tensor};

    use super::super::blocks::BLOCK;
    use super::*;
    use crate::inference::Kept;
    use crate::model::testing::{config, model, tensors};
    use crate::model::{Batch, hidden_states};
    use crate::ops::Segments;

    fn runner(family: &str, tied: bool) -> Runner {
        let config = config(family, tied);
        let tensors = tensors(&config);
        let weights = Weights::load(&config, Kept::F32, |name| Ok::<_, Error>(tensors[name].clone())).unwrap();
        Runner::new(weights, 16)
    }

    /// The logits after every token, from the forward pass that training uses.
    fn whole(family: &str, tied: bool, ids: &[u32]) -> Vec<Vec<f32>> {
        let model = model(family, tied);
        let segments = Segments::new(&[ids.len()]).unwrap();
        let batch = Batch::new(&model.config, ids, &vec![true; ids.len()], segments, DType::F64, &Device::Cpu).unwrap();
        let logits = hidden_states(&model, &batch).unwrap().matmul(&model.head().value.t().unwrap()).unwrap();
        logits.to_dtype(DType::F32).unwrap().to_vec2().unwrap()
    }

    fn gap(a: &[f32], b: &[f32]) -> f32 {
        let size = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap().abs().unwrap().max_all().unwrap();
        let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        size(&difference).to_scalar::<f32>().unwrap() / size(b).to_scalar::<f32>().unwrap()
    }

    fn ids(count: u32) -> Vec<u32> {
        (0..count).map(|at| at * at % 13).collect()
    }

    #[test]
    fn a_prompt_in_pieces_gives_what_training_computes_in_every_family() {
        for (family, tied) in [("qwen3", true), ("qwen2", false), ("llama", true)] {
            let (ids, mut runner) = (ids(41), runner(family, tied));
            let expected = whole(family, tied, &ids);
            let mut at = 0;
            for count in [3, 1, 20, 1, 1, 15] {
                let span = Span { tokens: &ids[at..at + count], start: at, blocks: &[5, 2, 9], wanted: true };
                let logits = runner.forward(&[span]);
                at += count;
                assert!(gap(&logits[0], &expected[at - 1]) < 1e-5, "{family} after {at} tokens");
            }
            assert_eq!(at, ids.len());
        }
    }

    #[test]
    fn a_sequence_gives_the_same_bits_alone_in_pieces_and_in_company() {
        let (ids, others) = (ids(30), [4, 4, 1, 0, 12, 7]);
        let alone = runner("qwen3", true).forward(&[Span { tokens: &ids, start: 0, blocks: &[0, 1], wanted: true }]);
        let mut runner = runner("qwen3", true);
        let span =
            |from: usize, to: usize| Span { tokens: &ids[from..to], start: from, blocks: &[7, 3], wanted: to == 30 };
        let other =
            |from: usize, to: usize| Span { tokens: &others[from..to], start: from, blocks: &[11], wanted: true };
        runner.forward(&[other(0, 4), span(0, BLOCK + 1)]);
        runner.forward(&[span(BLOCK + 1, 29), other(4, 5)]);
        let together = runner.forward(&[other(5, 6), span(29, 30)]);
        let bits = |logits: &[f32]| logits.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&together[1]), bits(&alone[0]));
    }
}
