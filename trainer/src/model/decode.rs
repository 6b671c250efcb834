//! A model's next token, with the keys and values of what it has seen kept: a step costs what one token costs. For smoke tests and small models; there
//! is no backward here.

use candle_core::{D, DType, Device, Result, Tensor};

use super::{Config, Layer, Model};
use crate::ops::{
    RopeTable, Weight, embedding_fwd, inverse_frequencies, linear_fwd, rms_norm_fwd, rope_fwd, swiglu_fwd, wide,
};

/// How many tokens are taken at once: what bounds the scores, which grow with it times the tokens before.
const CHUNK: usize = 256;

/// A sequence that a model has read, and can go on with.
#[derive(Debug)]
pub struct Decoder<'a> {
    model: &'a Model,
    frequencies: Vec<f32>,
    /// Keys and values of each layer, (kv heads, tokens, `head_dim`).
    cache: Vec<Option<(Tensor, Tensor)>>,
    /// How many tokens have been read.
    seen: usize,
}

impl<'a> Decoder<'a> {
    /// A model that has read nothing yet.
    pub fn new(model: &'a Model) -> Self {
        let Config { rope_theta, head_dim, rope_scaling, .. } = &model.config;
        let frequencies = inverse_frequencies(*rope_theta, *head_dim, rope_scaling.as_ref());
        Self { model, frequencies, cache: vec![None; model.layers.len()], seen: 0 }
    }

    /// How many tokens it has read.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Reads `ids`, and returns the logits of what comes after the last of them: (vocabulary), wide. Without any ids there are none to return.
    pub fn read(&mut self, ids: &[u32]) -> Result<Option<Tensor>> {
        let mut last = None;
        for chunk in ids.chunks(CHUNK) {
            last = Some(self.hidden(chunk)?);
        }
        let Some(last) = last else { return Ok(None) };
        let last = last.narrow(0, last.dim(0)? - 1, 1)?;
        let normed = rms_norm_fwd(&last, &self.model.norm.value, self.model.config.rms_eps)?;
        let logits = normed.matmul(&self.model.head().value.t()?)?.squeeze(0)?;
        logits.to_dtype(wide(logits.dtype())).map(Some)
    }

    /// The last block's result for some more tokens, (n, hidden).
    fn hidden(&mut self, ids: &[u32]) -> Result<Tensor> {
        let embedding = &self.model.embedding.value;
        let mut x = embedding_fwd(&Tensor::from_slice(ids, ids.len(), embedding.device())?, embedding)?;
        let first = u32::try_from(self.seen).map_err(candle_core::Error::wrap)?;
        let positions: Vec<u32> = (first..).take(ids.len()).collect();
        let rope = RopeTable::new(&self.frequencies, &positions, x.dtype(), x.device())?;
        for (layer, cache) in self.model.layers.iter().zip(&mut self.cache) {
            x = block(&x, layer, &self.model.config, &rope, cache)?;
        }
        self.seen += ids.len();
        Ok(x)
    }
}

/// A block's result for new tokens `x` (n, hidden); their keys and values are added to the cache.
fn block(
    x: &Tensor,
    layer: &Layer,
    config: &Config,
    rope: &RopeTable,
    cache: &mut Option<(Tensor, Tensor)>,
) -> Result<Tensor> {
    let normed = rms_norm_fwd(x, &layer.input_norm.value, config.rms_eps)?;
    let split = |x: Tensor, heads: usize| x.reshape((x.dim(0)?, heads, config.head_dim));
    let placed = |x: Tensor, norm: Option<&Weight>| match norm {
        Some(norm) => rope_fwd(&rms_norm_fwd(&x, &norm.value, config.rms_eps)?, rope),
        None => rope_fwd(&x, rope),
    };
    let q = split(linear_fwd(&normed, &layer.q)?, config.heads)?;
    let k = split(linear_fwd(&normed, &layer.k)?, config.kv_heads)?;
    let v = split(linear_fwd(&normed, &layer.v)?, config.kv_heads)?;
    let q = placed(q, layer.qk_norm.as_ref().map(|norm| &norm.q))?;
    let k = placed(k, layer.qk_norm.as_ref().map(|norm| &norm.k))?;
    let (k, v) = extend(cache, &k, &v)?;
    let attended = linear_fwd(&attention(&q, &k, &v)?, &layer.o)?;
    let residual = (x + attended)?;
    let normed = rms_norm_fwd(&residual, &layer.post_norm.value, config.rms_eps)?;
    let fed = swiglu_fwd(&linear_fwd(&normed, &layer.gate)?, &linear_fwd(&normed, &layer.up)?)?;
    &residual + linear_fwd(&fed, &layer.down)?
}

/// Adds new keys and values (n, kv heads, d) to the cache, and returns all of them (kv heads, m, d).
fn extend(cache: &mut Option<(Tensor, Tensor)>, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
    let (k, v) = (k.transpose(0, 1)?.contiguous()?, v.transpose(0, 1)?.contiguous()?);
    let all = match cache.take() {
        Some((keys, values)) => (Tensor::cat(&[keys, k], 1)?, Tensor::cat(&[values, v], 1)?),
        None => (k, v),
    };
    Ok(cache.insert(all).clone())
}

/// What the last n of m tokens attend to: `q` (n, heads, d), keys and values (kv heads, m, d); (n, heads · d).
fn attention(q: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
    let ((new, heads, size), (kv_heads, all, _)) = (q.dims3()?, keys.dims3()?);
    let rows = heads / kv_heads * new;
    let grouped = q.transpose(0, 1)?.contiguous()?.reshape((kv_heads, rows, size))?;
    #[allow(clippy::cast_precision_loss, reason = "a head's size is small")]
    let scale = 1.0 / (size as f64).sqrt();
    let scores = (grouped.matmul(&keys.t()?)?.to_dtype(wide(q.dtype()))? * scale)?;
    let mut scores = scores.reshape((heads, new, all))?;
    if new > 1 {
        scores = scores.broadcast_add(&mask(new, all, scores.dtype(), scores.device())?)?;
    }
    scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    scores = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
    let output = scores.to_dtype(q.dtype())?.reshape((kv_heads, rows, all))?.matmul(values)?;
    output.reshape((heads, new, size))?.transpose(0, 1)?.contiguous()?.flatten_from(1)
}

/// 0 where the last n of m tokens may look, −∞ where a key comes after the query: (n, m).
fn mask(new: usize, all: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let row = |query: usize| (0..all).map(move |key| if key > all - new + query { f32::NEG_INFINITY } else { 0.0 });
    Tensor::from_vec((0..new).flat_map(row).collect(), (new, all), device)?.to_dtype(dtype)
}

#[cfg(test)]
mod tests {
    use super::super::testing::model;
    use super::super::{Batch, hidden_states};
    use super::*;
    use crate::ops::Segments;
    use crate::ops::finite_differences::distance;

    /// The logits after every token, from the forward pass that training uses.
    fn whole(model: &Model, ids: &[u32]) -> Tensor {
        let segments = Segments::new(&[ids.len()]).unwrap();
        let batch = Batch::new(&model.config, ids, &vec![true; ids.len()], segments, DType::F64, &Device::Cpu).unwrap();
        hidden_states(model, &batch).unwrap().matmul(&model.head().value.t().unwrap()).unwrap()
    }

    #[test]
    fn a_token_at_a_time_gives_what_the_whole_sequence_gives() {
        for (family, tied) in [("qwen3", true), ("qwen2", false), ("llama", true)] {
            let model = model(family, tied);
            let ids = [2, 7, 1, 12, 7, 2, 0, 2, 9];
            let expected = whole(&model, &ids);
            let mut decoder = Decoder::new(&model);
            let mut at = 0;
            for count in [3, 1, 1, 2, 1, 1] {
                let logits = decoder.read(&ids[at..at + count]).unwrap().unwrap();
                at += count;
                let expected = expected.get(at - 1).unwrap();
                assert!(distance(&logits, &expected) < 1e-13, "{family} after {at} tokens");
            }
            assert_eq!(decoder.seen(), ids.len());
        }
    }

    #[test]
    fn a_prompt_that_takes_several_chunks_is_read_whole() {
        let model = model("qwen3", true);
        let ids: Vec<u32> = (0..u32::try_from(CHUNK).unwrap() + 5).map(|at| at * at % 13).collect();
        let expected = whole(&model, &ids).get(ids.len() - 1).unwrap();
        let logits = Decoder::new(&model).read(&ids).unwrap().unwrap();
        assert!(distance(&logits, &expected) < 1e-12);
        assert!(Decoder::new(&model).read(&[]).unwrap().is_none());
    }
}
