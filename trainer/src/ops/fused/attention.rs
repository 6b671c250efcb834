//! Scores to probabilities and back, a row at a time, where they lie.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::simd::{dot, exponentials, largest, vectorised};
use super::{change, read, rows_of};

/// Makes probabilities of `scores` (kv heads, group · `queries`, keys) in their place: each query, the first of which stands at `begin`, sees the keys
/// up to its own, and the others are zero.
#[allow(clippy::cast_possible_truncation, reason = "scores are f32")]
pub(in super::super) fn probabilities(scores: &Tensor, begin: usize, queries: usize, scale: f64) -> Result<()> {
    let (keys, scale) = (scores.dim(D::Minus1)?, scale as f32);
    let piece = rows_of(keys);
    change(scores, |scores| {
        scores.par_chunks_mut(piece * keys).enumerate().for_each(|(at, rows)| {
            vectorised(|| {
                for (row, scores) in rows.chunks_exact_mut(keys).enumerate() {
                    let (seen, hidden) = scores.split_at_mut(begin + (at * piece + row) % queries + 1);
                    let sum = exponentials(seen, scale, largest(seen) * scale);
                    let share = 1.0 / sum;
                    seen.iter_mut().for_each(|value| *value *= share);
                    hidden.fill(0.0);
                }
            });
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
            gradient.par_chunks_mut(piece).zip(probabilities.par_chunks(piece)).for_each(
                |(gradient, probabilities)| {
                    vectorised(|| {
                        let rows = gradient.chunks_exact_mut(keys).zip(probabilities.chunks_exact(keys));
                        for (gradient, probabilities) in rows {
                            let along = dot(gradient, probabilities);
                            for (gradient, probability) in gradient.iter_mut().zip(probabilities) {
                                *gradient = (*gradient - along) * probability * scale;
                            }
                        }
                    });
                },
            );
        })
    })?
}
