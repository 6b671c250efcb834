//! Scores to probabilities and back, a row at a time, where they lie.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::simd::{dot, exponentials, largest};
use super::{change, read, rows_of};
use crate::wide::wide;

/// Makes probabilities of `scores` (kv heads, group · `queries`, keys) in their place: each query, the first of which stands at `begin`, sees the keys
/// up to its own, and the others are zero.
#[allow(clippy::cast_possible_truncation, reason = "scores are f32")]
pub(in super::super) fn probabilities(scores: &Tensor, begin: usize, queries: usize, scale: f64) -> Result<()> {
    let (keys, scale) = (scores.dim(D::Minus1)?, scale as f32);
    let piece = rows_of(keys);
    change(scores, |scores| {
        scores.par_chunks_mut(piece * keys).enumerate().for_each(|(at, rows)| {
            probabilities_of(rows, keys, scale, Queries { begin, first: at * piece, all: queries });
        });
    })
}

/// Makes the gradient of scores of that of their `probabilities`, both (kv heads, rows, keys), in its place.
#[allow(clippy::cast_possible_truncation, reason = "scores are f32")]
pub(in super::super) fn scores_back(probabilities: &Tensor, gradient: &Tensor, scale: f64) -> Result<()> {
    let (keys, scale) = (probabilities.dim(D::Minus1)?, scale as f32);
    let piece = rows_of(keys) * keys;
    read([probabilities], |[probabilities]| {
        change(gradient, |gradient| {
            let pieces = gradient.par_chunks_mut(piece).zip(probabilities.par_chunks(piece));
            pieces.for_each(|(gradient, probabilities)| scores_back_of(gradient, probabilities, keys, scale));
        })
    })?
}

/// Which queries some rows of scores are of.
#[derive(Clone, Copy)]
struct Queries {
    /// Where the first query of a head stands in its sequence.
    begin: usize,
    /// How many rows there are before the first of these.
    first: usize,
    /// How many queries, and rows, a head has.
    all: usize,
}

wide! {
    fn probabilities_of(rows: &'w mut [f32], keys: usize, scale: f32, queries: Queries) -> () {
        for (row, scores) in rows.chunks_exact_mut(keys).enumerate() {
            let (seen, hidden) = scores.split_at_mut(queries.begin + (queries.first + row) % queries.all + 1);
            let sum = exponentials(seen, scale, largest(seen) * scale);
            let share = 1.0 / sum;
            for value in seen {
                *value *= share;
            }
            hidden.fill(0.0);
        }
    }
}

wide! {
    fn scores_back_of(gradient: &'w mut [f32], probabilities: &'w [f32], keys: usize, scale: f32) -> () {
        for (gradient, probabilities) in gradient.chunks_exact_mut(keys).zip(probabilities.chunks_exact(keys)) {
            let along = dot(gradient, probabilities);
            for (gradient, probability) in gradient.iter_mut().zip(probabilities) {
                *gradient = (*gradient - along) * probability * scale;
            }
        }
    }
}
