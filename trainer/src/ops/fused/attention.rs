//! Attention a block of queries by a block of keys at a time: scores live in a core's caches and nowhere else, and the backward makes probabilities of
//! them by the logarithms of their sums, which the forward leaves (the way of `FlashAttention`, arXiv 2205.14135 and 2307.08691).

use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::simd::{dot, exp, exponentials, largest};
use super::{add_piece, change, read};
use crate::ops::Segments;
use crate::wide::wide;

/// How many rows of queries a block has, those of the heads that share keys one below another. With [`KEYS`] scores are 256 KiB, half of what a core's
/// second cache holds, and each product is worth its set-up.
const ROWS: usize = 128;
/// How many keys a block has.
const KEYS: usize = 512;
/// How many pieces the backward of a sequence has at least where it is long enough: what each adds to keys and values is kept until all are there.
const PIECES: usize = 12;
/// How many tokens' gradients are put together at a time.
const TOGETHER: usize = 64;

/// Queries (T, heads, size), and keys and values (T, kv heads, size), one value after the other.
pub(in super::super) struct Inputs<'a> {
    pub(in super::super) q: &'a Tensor,
    pub(in super::super) k: &'a Tensor,
    pub(in super::super) v: &'a Tensor,
    pub(in super::super) segments: &'a Segments,
    pub(in super::super) scale: f32,
}

/// As [`attention_fwd`](super::super::attention_fwd), and the logarithm of every query's sum of exponentials, (T, heads).
pub(in super::super) fn forward(inputs: &Inputs<'_>) -> Result<(Tensor, Tensor)> {
    let shape = Shape::of(inputs)?;
    let (mut output, mut logs) = (vec![0.0; inputs.q.elem_count()], vec![0.0; shape.tokens * shape.heads]);
    let blocks: Vec<Block> = inputs.segments.ranges().flat_map(|sequence| shape.blocks(&sequence)).collect();
    let pieces = |values, width: usize| split(values, blocks.iter().map(|block| block.queries.len() * width));
    let (outputs, logs_of) = (pieces(&mut output, shape.heads * shape.size), pieces(&mut logs, shape.heads));
    // The last block of a sequence has the most to read, so that it goes first.
    let work = blocks.par_iter().zip(outputs).zip(logs_of).with_max_len(1).rev();
    work.try_for_each(|((block, output), logs)| {
        (0..shape.kv_heads).try_for_each(|head| attend(inputs, &shape, block, head, output, logs))
    })?;
    let device = inputs.q.device();
    Ok((
        Tensor::from_vec(output, inputs.q.shape(), device)?,
        Tensor::from_vec(logs, (shape.tokens, shape.heads), device)?,
    ))
}

/// As [`attention_bwd`](super::super::attention_bwd), given what [`forward`] has left.
pub(in super::super) fn backward(
    inputs: &Inputs<'_>,
    gy: &Tensor,
    (output, logs): (&Tensor, &Tensor),
) -> Result<(Tensor, Tensor, Tensor)> {
    let shape = Shape::of(inputs)?;
    let pieces: Vec<(usize, Vec<Block>)> = inputs.segments.ranges().flat_map(|of| shape.pieces(&of)).collect();
    let work = pieces.par_iter().with_max_len(1).rev();
    let mut parts: Vec<Gradients> =
        work.map(|(head, blocks)| go_back(inputs, &shape, *head, blocks, [gy, output, logs])).collect::<Result<_>>()?;
    parts.reverse();
    let whole = |which: fn(&Gradients) -> Part<'_>, width: usize, like: &Tensor| {
        let parts: Vec<Part<'_>> = parts.iter().map(which).collect();
        Tensor::from_vec(put_together(&parts, &shape, width), like.shape(), like.device())
    };
    let gq =
        whole(|part| Part { head: part.head, begin: part.begin, values: &part.q }, shape.group * shape.size, inputs.q)?;
    let gk = whole(|part| Part { head: part.head, begin: part.sequence, values: &part.k }, shape.size, inputs.k)?;
    let gv = whole(|part| Part { head: part.head, begin: part.sequence, values: &part.v }, shape.size, inputs.v)?;
    Ok((gq, gk, gv))
}

/// The sizes of a batch.
struct Shape {
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    /// Heads that share keys.
    group: usize,
    size: usize,
}

/// Some queries of a sequence, by their places in the batch.
struct Block {
    /// Where the sequence begins.
    sequence: usize,
    queries: Range<usize>,
}

impl Block {
    /// The blocks of keys that the last of the queries sees.
    fn keys(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let end = self.queries.end;
        (self.sequence..end).step_by(KEYS).map(move |begin| begin..end.min(begin + KEYS))
    }
}

impl Shape {
    fn of(inputs: &Inputs<'_>) -> Result<Self> {
        let ((tokens, heads, size), kv_heads) = (inputs.q.dims3()?, inputs.k.dim(1)?);
        Ok(Self { tokens, heads, kv_heads, group: heads / kv_heads, size })
    }

    /// A sequence's queries, in their order.
    fn blocks(&self, sequence: &Range<usize>) -> Vec<Block> {
        let (start, end, each) = (sequence.start, sequence.end, (ROWS / self.group).max(1));
        let block = |begin| Block { sequence: start, queries: begin..end.min(begin + each) };
        (start..end).step_by(each).map(block).collect()
    }

    /// What of the backward of a sequence is done in one go: a head of keys, and blocks that have about the same number of scores together.
    fn pieces(&self, sequence: &Range<usize>) -> Vec<(usize, Vec<Block>)> {
        let runs = PIECES.div_ceil(self.kv_heads);
        let scores = |block: &Block| (block.queries.end - sequence.start) * block.queries.len();
        let all: usize = self.blocks(sequence).iter().map(scores).sum();
        let mut pieces = Vec::new();
        for head in 0..self.kv_heads {
            let mut by_run: Vec<Vec<Block>> = (0..runs).map(|_| Vec::new()).collect();
            let mut before = 0;
            for block in self.blocks(sequence) {
                let run = before * runs / all;
                before += scores(&block);
                by_run[run].push(block);
            }
            pieces.extend(by_run.into_iter().filter(|blocks| !blocks.is_empty()).map(|blocks| (head, blocks)));
        }
        pieces
    }

    /// The rows of a kv head's group of some tokens of `x` (T, heads, width), one below the other: (tokens · group, width).
    fn rows(&self, x: &Tensor, tokens: &Range<usize>, head: usize, scale: f32) -> Result<Vec<f32>> {
        let width = x.elem_count() / (self.tokens * self.heads);
        read([x], |[x]| {
            let mut rows = Vec::with_capacity(tokens.len() * self.group * width);
            for token in tokens.clone() {
                let begin = (token * self.heads + head * self.group) * width;
                rows.extend(x[begin..begin + self.group * width].iter().map(|value| value * scale));
            }
            rows
        })
    }

    /// The same of `queries`, as a tensor, times their scale.
    fn queries(&self, inputs: &Inputs<'_>, block: &Block, head: usize) -> Result<Tensor> {
        let rows = self.rows(inputs.q, &block.queries, head, inputs.scale)?;
        Tensor::from_vec(rows, (block.queries.len() * self.group, self.size), inputs.q.device())
    }
}

/// Keys or values of one head, (n, size).
fn of_head(x: &Tensor, head: usize, keys: &Range<usize>) -> Result<Tensor> {
    x.narrow(0, keys.start, keys.len())?.narrow(1, head, 1)?.squeeze(1)
}

/// Which scores some rows have: of which queries, and of which keys.
#[derive(Clone, Copy)]
struct Window {
    /// The first query, and how many rows each has.
    query: usize,
    group: usize,
    /// The first key, and how many there are.
    key: usize,
    width: usize,
}

impl Window {
    fn of(shape: &Shape, block: &Block, keys: &Range<usize>) -> Self {
        Self { query: block.queries.start, group: shape.group, key: keys.start, width: keys.len() }
    }

    /// How many of the keys a row sees.
    #[inline(always)]
    fn seen(&self, row: usize) -> usize {
        (self.query + row / self.group + 1).saturating_sub(self.key).min(self.width)
    }
}

/// What the queries of a block make of all that they see, for one head of keys: into the places of its group in `output` and `logs`.
fn attend(
    inputs: &Inputs<'_>,
    shape: &Shape,
    block: &Block,
    head: usize,
    output: &mut [f32],
    logs: &mut [f32],
) -> Result<()> {
    let queries = shape.queries(inputs, block, head)?;
    let rows = block.queries.len() * shape.group;
    let (mut sum, mut heights, mut weights) =
        (vec![0.0; rows * shape.size], vec![f32::NEG_INFINITY; rows], vec![0.0; rows]);
    for keys in block.keys() {
        let scores = queries.matmul(&of_head(inputs.k, head, &keys)?.t()?)?;
        let window = Window::of(shape, block, &keys);
        change(&scores, |scores| weigh(scores, window, &mut heights, &mut weights, &mut sum))?;
        let part = scores.matmul(&of_head(inputs.v, head, &keys)?)?;
        read([&part], |[part]| add_piece(&mut sum, part))?;
    }
    let (each, width) = (shape.group * shape.size, shape.heads * shape.size);
    for (at, weight) in weights.iter().enumerate() {
        let (query, of_group) = (at / shape.group, at % shape.group);
        let place = query * width + head * each + of_group * shape.size;
        let row = sum[at * shape.size..][..shape.size].iter().map(|value| value / weight);
        output[place..][..shape.size].iter_mut().zip(row).for_each(|(place, value)| *place = value);
        logs[query * shape.heads + head * shape.group + of_group] = heights[at] + weight.ln();
    }
    Ok(())
}

// Makes weights of scores, relative to the highest score so far of each row; what came together under a lower one is brought to the same measure.
wide! {
    fn weigh(
        scores: &'w mut [f32],
        window: Window,
        heights: &'w mut [f32],
        weights: &'w mut [f32],
        sum: &'w mut [f32],
    ) -> () {
        let size = sum.len() / heights.len();
        for (row, scores) in scores.chunks_exact_mut(window.width).enumerate() {
            let (seen, hidden) = scores.split_at_mut(window.seen(row));
            hidden.fill(0.0);
            let highest = largest(seen);
            if highest > heights[row] {
                let kept = exp(heights[row] - highest);
                heights[row] = highest;
                weights[row] *= kept;
                for value in &mut sum[row * size..(row + 1) * size] {
                    *value *= kept;
                }
            }
            weights[row] += exponentials(seen, 1.0, heights[row]);
        }
    }
}

/// What a piece adds to the gradients: of its own queries (tokens · group, size), and of all keys and values of its head from the sequence's begin on.
struct Gradients {
    head: usize,
    begin: usize,
    sequence: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

fn go_back(
    inputs: &Inputs<'_>,
    shape: &Shape,
    head: usize,
    blocks: &[Block],
    [gy, output, logs]: [&Tensor; 3],
) -> Result<Gradients> {
    let sequence = blocks[0].sequence;
    let end = blocks[blocks.len() - 1].queries.end;
    let zeros = || vec![0.0; (end - sequence) * shape.size];
    let mut of = Gradients { head, begin: blocks[0].queries.start, sequence, q: Vec::new(), k: zeros(), v: zeros() };
    for block in blocks {
        let queries = shape.queries(inputs, block, head)?;
        let gy = shape.rows(gy, &block.queries, head, 1.0)?;
        let along = alongs(&gy, &shape.rows(output, &block.queries, head, 1.0)?, shape.size);
        let logs = shape.rows(logs, &block.queries, head, 1.0)?;
        let gy = Tensor::from_vec(gy, queries.shape(), queries.device())?;
        let mut g_queries = vec![0.0; queries.elem_count()];
        for keys in block.keys() {
            let (k, v) = (of_head(inputs.k, head, &keys)?, of_head(inputs.v, head, &keys)?);
            let window = Window::of(shape, block, &keys);
            let place = (keys.start - sequence) * shape.size..(keys.end - sequence) * shape.size;
            let probabilities = queries.matmul(&k.t()?)?;
            change(&probabilities, |scores| reweigh(scores, window, &logs))?;
            let part = probabilities.t()?.matmul(&gy)?;
            read([&part], |[part]| add_piece(&mut of.v[place.clone()], part))?;
            let gradient = gy.matmul(&v.t()?)?;
            read([&probabilities], |[probabilities]| {
                change(&gradient, |gradient| scores_back(gradient, probabilities, &along))
            })??;
            let part = gradient.t()?.matmul(&queries)?;
            read([&part], |[part]| add_piece(&mut of.k[place.clone()], part))?;
            let part = gradient.matmul(&k)?;
            read([&part], |[part]| add_piece(&mut g_queries, part))?;
        }
        of.q.extend(g_queries.iter().map(|value| value * inputs.scale));
    }
    Ok(of)
}

/// Σ gy · y of every row.
fn alongs(gy: &[f32], y: &[f32], size: usize) -> Vec<f32> {
    gy.chunks_exact(size).zip(y.chunks_exact(size)).map(|(gy, y)| dot(gy, y)).collect()
}

// Makes probabilities of scores by the logarithm of each row's sum.
wide! {
    fn reweigh(scores: &'w mut [f32], window: Window, logs: &'w [f32]) -> () {
        for (row, scores) in scores.chunks_exact_mut(window.width).enumerate() {
            let (seen, hidden) = scores.split_at_mut(window.seen(row));
            hidden.fill(0.0);
            for value in seen {
                *value = exp(*value - logs[row]);
            }
        }
    }
}

// Makes the gradient of scaled scores of that of their probabilities.
wide! {
    fn scores_back(gradient: &'w mut [f32], probabilities: &'w [f32], along: &'w [f32]) -> () {
        let width = gradient.len() / along.len();
        let rows = gradient.chunks_exact_mut(width).zip(probabilities.chunks_exact(width)).zip(along);
        for ((gradient, probabilities), along) in rows {
            for (gradient, probability) in gradient.iter_mut().zip(probabilities) {
                *gradient = (*gradient - along) * probability;
            }
        }
    }
}

/// Values of one head of keys from token `begin` on.
struct Part<'a> {
    head: usize,
    begin: usize,
    values: &'a [f32],
}

/// (T, kv heads, `width`) of all parts, which are added in their order.
fn put_together(parts: &[Part<'_>], shape: &Shape, width: usize) -> Vec<f32> {
    let row = shape.kv_heads * width;
    let mut whole = vec![0.0; shape.tokens * row];
    whole.par_chunks_mut(TOGETHER * row).enumerate().for_each(|(at, whole)| {
        let tokens = at * TOGETHER..at * TOGETHER + whole.len() / row;
        for part in parts {
            let (begin, end) = (part.begin.max(tokens.start), (part.begin + part.values.len() / width).min(tokens.end));
            for token in begin..end {
                let place = (token - tokens.start) * row + part.head * width;
                add_piece(&mut whole[place..place + width], &part.values[(token - part.begin) * width..][..width]);
            }
        }
    });
    whole
}

/// `values` in pieces of these lengths.
fn split(mut values: &mut [f32], lengths: impl Iterator<Item = usize>) -> Vec<&mut [f32]> {
    let mut pieces = Vec::new();
    for length in lengths {
        let (piece, rest) = values.split_at_mut(length);
        pieces.push(piece);
        values = rest;
    }
    pieces
}
