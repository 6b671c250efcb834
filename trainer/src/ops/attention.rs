//! Causal grouped-query attention over packed sequences, a chunk of queries at a time: no buffer grows with the square of a sequence.

use candle_core::{D, DType, Device, Result, Tensor};

use super::flash::Flash;
use super::{AttentionBy, Segments, fused, wide};

/// How many scores are held at once, unless asked otherwise: 64 MiB of f32 a buffer, a handful of which live at a time.
const SCORES: usize = 1 << 24;

/// How many queries a CPU takes at once: few enough that their scores stay in its caches, enough that a product with all keys is worth its set-up.
const QUERIES: usize = 64;

/// What attention has to know beside its tensors.
#[derive(Debug, Clone)]
pub struct Attention {
    /// What scores are multiplied with: `1 / sqrt(head_dim)` in every model here.
    pub scale: f64,
    /// Upper bound of heads × queries × keys in one chunk; a single query is computed whatever it takes.
    pub scores: usize,
    /// Upper bound of queries in one chunk.
    pub queries: usize,
    /// What computes it in the place of chunks, where that was asked for.
    flash: Option<Flash>,
}

impl Attention {
    /// Attention as all supported models scale it.
    #[allow(clippy::cast_precision_loss, reason = "a head's size is small")]
    pub fn of_head(head_dim: usize) -> Self {
        Self { scale: 1.0 / (head_dim as f64).sqrt(), scores: SCORES, queries: usize::MAX, flash: None }
    }

    /// The same in chunks that suit where it is computed.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        if device.is_cpu() { Self { queries: QUERIES, ..self } } else { self }
    }

    /// The same of these sequences, computed as asked for. `device` is that of the tensors.
    pub fn by(self, by: AttentionBy, segments: &Segments, device: &Device) -> Result<Self> {
        let flash = match by {
            AttentionBy::Chunked => None,
            AttentionBy::Flash => Some(Flash::new(segments, device)?),
        };
        Ok(Self { flash, ..self })
    }

    /// What the operation for f32 on a CPU is given.
    #[allow(clippy::cast_possible_truncation, reason = "scores are f32")]
    fn fused<'a>(&self, [q, k, v]: [&'a Tensor; 3], segments: &'a Segments) -> fused::attention::Inputs<'a> {
        fused::attention::Inputs { q, k, v, segments, scale: self.scale as f32 }
    }

    /// How many queries from `begin` on are taken together, of `length` in the sequence.
    fn chunk(&self, heads: usize, begin: usize, length: usize) -> usize {
        let fits = |queries: usize| heads * queries * (begin + queries) <= self.scores;
        let rest = length - begin;
        let (mut low, mut high) = (1, rest.clamp(1, self.queries.max(1)));
        while low < high {
            let middle = usize::midpoint(low, high + 1);
            if fits(middle) { low = middle } else { high = middle - 1 }
        }
        low
    }

    /// The chunks of a sequence: the first query of each, and how many.
    fn chunks(&self, heads: usize, length: usize) -> Vec<(usize, usize)> {
        let mut chunks = Vec::new();
        let mut begin = 0;
        while begin < length {
            let queries = self.chunk(heads, begin, length);
            chunks.push((begin, queries));
            begin += queries;
        }
        chunks
    }
}

/// What [`attention_fwd`] gives.
#[derive(Debug, Clone)]
pub struct Attended {
    /// (T, heads, d).
    pub output: Tensor,
    /// The logarithm of each query's sum of exponentials, where the backward has a use for it: (T, heads), and of `FlashAttention` (heads, T).
    logs: Option<Tensor>,
}

/// Attention of `q` (T, heads, d) over `k` and `v` (T, kv heads, d), each token over its own sequence up to itself.
/// Query head h reads key and value head h · kv heads / heads, as transformers' `repeat_kv` lays them out.
pub fn attention_fwd(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, how: &Attention) -> Result<Attended> {
    if let Some(flash) = &how.flash {
        let (output, logs) = flash.forward([q, k, v], how.scale)?;
        return Ok(Attended { output, logs: Some(logs) });
    }
    if fused::serves(&[q, k, v]) {
        let (output, logs) = fused::attention::forward(&how.fused([q, k, v], segments))?;
        return Ok(Attended { output, logs: Some(logs) });
    }
    let heads = q.dim(1)?;
    let mut outputs = Vec::new();
    for range in segments.ranges() {
        let sequence = Sequence::of([q, k, v], range.start, range.len())?;
        for (begin, queries) in how.chunks(heads, range.len()) {
            let chunk = sequence.chunk(begin, queries, how.scale)?;
            let output = chunk.probabilities.to_dtype(q.dtype())?.matmul(&chunk.values)?;
            outputs.push(by_token(&output, queries)?);
        }
    }
    Ok(Attended { output: Tensor::cat(&outputs, 0)?, logs: None })
}

/// From the gradient `gy` (T, heads, d) of [`attention_fwd`]'s output, those of `q`, `k` and `v`, in their type. Probabilities are computed again.
pub fn attention_bwd(
    [q, k, v]: [&Tensor; 3],
    attended: &Attended,
    gy: &Tensor,
    segments: &Segments,
    how: &Attention,
) -> Result<(Tensor, Tensor, Tensor)> {
    if let (Some(flash), Some(logs)) = (&how.flash, &attended.logs) {
        return flash.backward([q, k, v], [&attended.output, logs, gy], how.scale);
    }
    if let Some(logs) = attended.logs.as_ref().filter(|_| fused::serves(&[q, k, v, gy])) {
        return fused::attention::backward(&how.fused([q, k, v], segments), gy, (&attended.output, logs));
    }
    let (heads, kv_heads, dtype) = (q.dim(1)?, k.dim(1)?, q.dtype());
    let (mut all_gq, mut all_gk, mut all_gv) = (Vec::new(), Vec::new(), Vec::new());
    for range in segments.ranges() {
        let sequence = Sequence::of([q, k, v], range.start, range.len())?;
        let gy = gy.narrow(0, range.start, range.len())?;
        let zeros = || Tensor::zeros((kv_heads, range.len(), q.dim(2)?), wide(dtype), q.device());
        let (gk, gv) = (zeros()?, zeros()?);
        for (begin, queries) in how.chunks(heads, range.len()) {
            let chunk = sequence.chunk(begin, queries, how.scale)?;
            let gy = by_group(&gy.narrow(0, begin, queries)?, kv_heads)?;
            let probabilities = chunk.probabilities.to_dtype(dtype)?;
            add_to_front(&gv, &probabilities.t()?.matmul(&gy)?)?;
            let g_probabilities = gy.matmul(&chunk.values.t()?)?.to_dtype(wide(dtype))?;
            let g_scores = scores_back(&chunk.probabilities, &g_probabilities, how.scale)?.to_dtype(dtype)?;
            add_to_front(&gk, &g_scores.t()?.matmul(&chunk.queries)?)?;
            all_gq.push(by_token(&g_scores.matmul(&chunk.keys)?, queries)?);
        }
        all_gk.push(gk.transpose(0, 1)?.to_dtype(dtype)?);
        all_gv.push(gv.transpose(0, 1)?.to_dtype(dtype)?);
    }
    Ok((Tensor::cat(&all_gq, 0)?, Tensor::cat(&all_gk, 0)?, Tensor::cat(&all_gv, 0)?))
}

/// The gradient of scores, before they were scaled, from that of their probabilities; both wide.
fn scores_back(probabilities: &Tensor, gradient: &Tensor, scale: f64) -> Result<Tensor> {
    let g_scores = (probabilities * gradient)?;
    let along = g_scores.sum_keepdim(D::Minus1)?;
    (g_scores - probabilities.broadcast_mul(&along)?)? * scale
}

/// One sequence: queries (L, heads, d), keys and values (kv heads, L, d).
struct Sequence {
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
}

/// Some queries of a sequence, those of one kv head's group below one another: `queries` (kv heads, group · n, d), the keys and values that the last
/// of them sees (kv heads, m, d), and what they attend to, wide: (kv heads, group · n, m).
struct Chunk {
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    probabilities: Tensor,
}

impl Sequence {
    fn of(tensors: [&Tensor; 3], begin: usize, length: usize) -> Result<Self> {
        let [queries, keys, values] = tensors.map(|tensor| tensor.narrow(0, begin, length));
        let by_head = |tensor: Tensor| tensor.transpose(0, 1)?.contiguous();
        Ok(Self { queries: queries?, keys: by_head(keys?)?, values: by_head(values?)? })
    }

    fn chunk(&self, begin: usize, queries: usize, scale: f64) -> Result<Chunk> {
        let (kv_heads, seen) = (self.keys.dim(0)?, begin + queries);
        let chunk = by_group(&self.queries.narrow(0, begin, queries)?, kv_heads)?;
        let keys = self.keys.narrow(1, 0, seen)?.contiguous()?;
        let values = self.values.narrow(1, 0, seen)?.contiguous()?;
        // Assigned, not bound again: a buffer is let go as soon as the next one is there.
        let mut scores = chunk.matmul(&keys.t()?)?.to_dtype(wide(chunk.dtype()))?;
        let rows = scores.dim(1)?;
        scores = (scores * scale)?;
        let mask = mask(begin, queries, scores.dtype(), scores.device())?;
        scores = scores.reshape((kv_heads * rows / queries, queries, seen))?.broadcast_add(&mask)?;
        scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?;
        scores = scores.exp()?;
        scores = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
        Ok(Chunk { queries: chunk, keys, values, probabilities: scores.reshape((kv_heads, rows, seen))? })
    }
}

/// (n, heads, d) to (kv heads, group · n, d).
fn by_group(x: &Tensor, kv_heads: usize) -> Result<Tensor> {
    let (tokens, heads, size) = x.dims3()?;
    x.transpose(0, 1)?.reshape((kv_heads, heads / kv_heads * tokens, size))
}

/// (kv heads, group · n, d) back to (n, heads, d).
fn by_token(x: &Tensor, tokens: usize) -> Result<Tensor> {
    let (kv_heads, rows, size) = x.dims3()?;
    x.reshape((kv_heads * rows / tokens, tokens, size))?.transpose(0, 1)?.contiguous()
}

/// Adds `part` (h, m, d) to the first m rows of `total` (h, L, d), in place.
fn add_to_front(total: &Tensor, part: &Tensor) -> Result<()> {
    let sum = (total.narrow(1, 0, part.dim(1)?)? + part.to_dtype(total.dtype())?)?;
    total.slice_set(&sum.contiguous()?, 1, 0)
}

/// 0 where the query `begin` + row may look, −∞ where the key comes after it: (queries, begin + queries).
fn mask(begin: usize, queries: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let seen = begin + queries;
    let row = |query: usize| (0..seen).map(move |key| if key > begin + query { f32::NEG_INFINITY } else { 0.0 });
    Tensor::from_vec((0..queries).flat_map(row).collect(), (queries, seen), device)?.to_dtype(dtype)
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradients, distance, noise, values};
    use super::*;

    const HEADS: usize = 4;
    const KV_HEADS: usize = 2;
    const SIZE: usize = 3;

    fn inputs(tokens: usize) -> Vec<Tensor> {
        let q = (noise(&[tokens, HEADS, SIZE], 1) * 2.0).unwrap();
        vec![q, (noise(&[tokens, KV_HEADS, SIZE], 2) * 2.0).unwrap(), noise(&[tokens, KV_HEADS, SIZE], 3)]
    }

    /// Small enough that sequences of a few tokens take several chunks, the last one smaller.
    fn chunked(scores: usize) -> Attention {
        Attention { scale: 0.7, scores, ..Attention::of_head(SIZE) }
    }

    /// Token by token and head by head, from the definition.
    fn by_definition(inputs: &[Tensor], segments: &Segments, scale: f64) -> Vec<f64> {
        let [q, k, v] = [&inputs[0], &inputs[1], &inputs[2]].map(values);
        let at =
            |x: &[f64], heads: usize, token: usize, head: usize| x[(token * heads + head) * SIZE..][..SIZE].to_vec();
        let mut output = Vec::new();
        for range in segments.ranges() {
            for token in range.clone() {
                for head in 0..HEADS {
                    let shared = head / (HEADS / KV_HEADS);
                    let query = at(&q, HEADS, token, head);
                    let weight = |key: usize| {
                        let key = at(&k, KV_HEADS, key, shared);
                        (query.iter().zip(&key).map(|(q, k)| q * k).sum::<f64>() * scale).exp()
                    };
                    let total: f64 = (range.start..=token).map(weight).sum();
                    output.extend((0..SIZE).map(|i| {
                        let value = |other: usize| weight(other) / total * at(&v, KV_HEADS, other, shared)[i];
                        (range.start..=token).map(value).sum::<f64>()
                    }));
                }
            }
        }
        output
    }

    #[test]
    fn every_token_reads_its_own_sequence_up_to_itself() {
        let segments = Segments::new(&[5, 1, 3]).unwrap();
        let inputs = inputs(9);
        for scores in [1, 40, 1000] {
            let y = attention_fwd(&inputs[0], &inputs[1], &inputs[2], &segments, &chunked(scores)).unwrap().output;
            let gap = values(&y).into_iter().zip(by_definition(&inputs, &segments, 0.7)).map(|(a, b)| (a - b).abs());
            assert!(gap.fold(0.0, f64::max) < 1e-13, "chunks of {scores} scores");
        }
    }

    #[test]
    fn the_gradients_of_queries_keys_and_values_are_right() {
        let segments = Segments::new(&[5, 1, 3]).unwrap();
        for scores in [40, 1000] {
            let how = chunked(scores);
            let attend = |x: &[Tensor]| attention_fwd(&x[0], &x[1], &x[2], &segments, &how);
            let forward = |x: &[Tensor]| Ok(attend(x)?.output);
            let backward = |x: &[Tensor], gy: &Tensor| {
                let (gq, gk, gv) = attention_bwd([&x[0], &x[1], &x[2]], &attend(x)?, gy, &segments, &how)?;
                Ok(vec![gq, gk, gv])
            };
            assert_gradients(forward, backward, &inputs(9));
        }
    }

    #[test]
    fn a_packed_sequence_gives_what_it_gives_alone() {
        let inputs = inputs(7);
        let how = chunked(1000);
        let attend = |x: &[Tensor], lengths: &[usize]| {
            attention_fwd(&x[0], &x[1], &x[2], &Segments::new(lengths).unwrap(), &how).unwrap().output
        };
        let alone: Vec<_> = inputs.iter().map(|x| x.narrow(0, 4, 3).unwrap()).collect();
        assert!(distance(&attend(&inputs, &[4, 3]).narrow(0, 4, 3).unwrap(), &attend(&alone, &[3])) < 1e-14);
    }

    #[test]
    fn chunks_cover_a_sequence_and_keep_the_bound() {
        let how = chunked(1000);
        let chunks = how.chunks(HEADS, 100);
        assert_eq!(chunks.iter().map(|(_, queries)| queries).sum::<usize>(), 100);
        assert!(chunks.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0));
        assert!(chunks.iter().all(|(begin, queries)| HEADS * queries * (begin + queries) <= 1000));
        assert_eq!(chunked(1).chunks(HEADS, 3), [(0, 1), (1, 1), (2, 1)]);
    }
}
