//! The keys and values of all sequences, in blocks, and what new tokens make of them. A token looks at those before it in the order in which they stand,
//! a block at a time: its result is the same whether it is computed with its whole prompt, in a piece of it, or alone.

use rayon::prelude::*;

use super::blocks::{BLOCK, BlockId};
use super::simd;
use crate::model::Config;

/// How many tokens of a sequence are computed together: they share a block's keys while it is near.
const TOGETHER: usize = 8;

/// A sequence's new tokens, and where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// How many tokens come before the new ones.
    pub(super) start: usize,
    /// How many new ones there are.
    pub(super) count: usize,
    /// The blocks of the sequence, in order.
    pub(super) blocks: &'a [BlockId],
}

/// A layer's keys and values: (block, kv heads, [`BLOCK`], `head_dim`) each.
#[derive(Debug)]
pub(super) struct Pages {
    keys: Vec<f32>,
    values: Vec<f32>,
    kv_heads: usize,
    /// Query heads that share a key.
    group: usize,
    head_dim: usize,
    scale: f32,
}

/// The bytes that keys and values of one block take in all layers.
pub fn block_bytes(config: &Config) -> u64 {
    let values = 2 * config.layers * config.kv_heads * config.head_dim * BLOCK;
    (values * size_of::<f32>()) as u64
}

impl Pages {
    pub(super) fn new(config: &Config, blocks: u32) -> Self {
        let (kv_heads, head_dim) = (config.kv_heads, config.head_dim);
        let size = blocks as usize * kv_heads * BLOCK * head_dim;
        #[allow(clippy::cast_precision_loss, reason = "a head is narrow")]
        let scale = 1.0 / (head_dim as f32).sqrt();
        // Zeros cost no memory until they are written over.
        let (keys, values) = (vec![0.0; size], vec![0.0; size]);
        Self { keys, values, kv_heads, group: config.heads / kv_heads, head_dim, scale }
    }

    /// Puts a token's keys and values (kv heads, `head_dim`) at a position of its sequence.
    pub(super) fn write(&mut self, blocks: &[BlockId], position: usize, keys: &[f32], values: &[f32]) {
        let size = self.head_dim;
        for head in 0..self.kv_heads {
            let at = self.head(blocks[position / BLOCK], head) + position % BLOCK * size;
            self.keys[at..][..size].copy_from_slice(&keys[head * size..][..size]);
            self.values[at..][..size].copy_from_slice(&values[head * size..][..size]);
        }
    }

    /// What the new tokens of `places`, whose queries `q` (n, heads, `head_dim`) stand one below the other, attend to: shaped as `q`.
    pub(super) fn attend(&self, q: &[f32], places: &[Place]) -> Vec<f32> {
        let width = self.kv_heads * self.group * self.head_dim;
        let tiles: Vec<Tile> = tiles(places).collect();
        let mut results = vec![0.0; q.len()];
        let mut tasks = Vec::with_capacity(tiles.len() * self.kv_heads);
        let mut rest = &mut results[..];
        for head in 0..self.kv_heads {
            for tile in &tiles {
                let (result, others) = rest.split_at_mut(tile.count * self.group * self.head_dim);
                tasks.push((head, tile, result));
                rest = others;
            }
        }
        tasks.into_par_iter().for_each(|(head, tile, result)| self.tile(q, head, tile, result));
        by_token(&results, q.len() / width, self.kv_heads, self.group * self.head_dim)
    }

    /// The results of a few tokens for the query heads of one key head: (tokens, group, `head_dim`).
    fn tile(&self, q: &[f32], head: usize, tile: &Tile, result: &mut [f32]) {
        let (size, group) = (self.head_dim, self.group);
        let last = tile.position + tile.count;
        let queries = self.queries(q, head, tile);
        let stride = last.next_multiple_of(BLOCK);
        let mut scores = vec![f32::NEG_INFINITY; tile.count * group * stride];
        for (at, block) in tile.blocks[..last.div_ceil(BLOCK)].iter().enumerate() {
            let keys = &self.keys[self.head(*block, head)..][..BLOCK * size];
            simd::products(keys, &queries, size, &mut |key, query, score| {
                scores[query * stride + at * BLOCK + key] = score * self.scale;
            });
        }
        for (query, scores) in scores.chunks_mut(stride).enumerate() {
            softmax(&mut scores[..=tile.position + query / group]);
        }
        for (at, block) in tile.blocks[..last.div_ceil(BLOCK)].iter().enumerate() {
            let values = &self.values[self.head(*block, head)..][..BLOCK * size];
            for (query, result) in result.chunks_mut(size).enumerate() {
                let seen = (tile.position + query / group + 1).saturating_sub(at * BLOCK).min(BLOCK);
                simd::add_weighted(result, values, &scores[query * stride + at * BLOCK..][..seen]);
            }
        }
    }

    /// The queries of a tile for one key head: (tokens, group, `head_dim`).
    fn queries(&self, q: &[f32], head: usize, tile: &Tile) -> Vec<f32> {
        let (width, share) = (self.kv_heads * self.group * self.head_dim, self.group * self.head_dim);
        let of_token = |token| &q[(tile.row + token) * width + head * share..][..share];
        (0..tile.count).flat_map(of_token).copied().collect()
    }

    /// Where a block's keys and values of a head begin.
    fn head(&self, block: BlockId, head: usize) -> usize {
        (block as usize * self.kv_heads + head) * BLOCK * self.head_dim
    }
}

/// A few tokens of one sequence.
#[derive(Debug)]
struct Tile<'a> {
    /// The row of the first of them among all new tokens.
    row: usize,
    /// Its position in its sequence.
    position: usize,
    count: usize,
    blocks: &'a [BlockId],
}

fn tiles<'a>(places: &'a [Place<'a>]) -> impl Iterator<Item = Tile<'a>> {
    let firsts = places.iter().scan(0, |rows, place| {
        *rows += place.count;
        Some((*rows - place.count, place))
    });
    firsts.flat_map(|(row, place)| {
        (0..place.count).step_by(TOGETHER).map(move |at| Tile {
            row: row + at,
            position: place.start + at,
            count: TOGETHER.min(place.count - at),
            blocks: place.blocks,
        })
    })
}

/// Scores to shares that add up to one.
fn softmax(scores: &mut [f32]) {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - greatest).exp());
    let total: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= total);
}

/// (kv heads, tokens, share) to (tokens, kv heads, share).
fn by_token(values: &[f32], tokens: usize, kv_heads: usize, share: usize) -> Vec<f32> {
    let mut result = Vec::with_capacity(values.len());
    for token in 0..tokens {
        for head in 0..kv_heads {
            result.extend_from_slice(&values[(head * tokens + token) * share..][..share]);
        }
    }
    result
}
