//! Root-mean-square normalisation, a row at a time.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::simd::{dot, sum};
use super::{read, rows_of};
use crate::wide::wide;

/// As [`rms_norm_fwd`](super::super::rms_norm_fwd).
pub(in super::super) fn forward(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let width = weight.elem_count();
    let mut y = vec![0.0; x.elem_count()];
    read([x, weight], |[x, weight]| {
        let pieces = y.par_chunks_mut(rows_of(width) * width).zip(x.par_chunks(rows_of(width) * width));
        pieces.for_each(|(y, x)| forward_rows(y, x, weight, eps));
    })?;
    Tensor::from_vec(y, x.shape(), x.device())
}

/// As [`rms_norm_bwd`](super::super::rms_norm_bwd).
pub(in super::super) fn backward(
    x: &Tensor,
    gy: &Tensor,
    weight: &Tensor,
    eps: f64,
    trained: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let width = weight.elem_count();
    let piece = rows_of(width) * width;
    let mut gx = vec![0.0; x.elem_count()];
    let mut g_weights = vec![0.0; if trained { x.elem_count().div_ceil(piece) * width } else { 0 }];
    read([x, gy, weight], |[x, gy, weight]| {
        let pieces = gx.par_chunks_mut(piece).zip(x.par_chunks(piece)).zip(gy.par_chunks(piece));
        let each = |((gx, x), gy): ((&mut [f32], &[f32]), &[f32]), g_weight: &mut [f32]| {
            backward_rows(gx, g_weight, x, gy, weight, eps);
        };
        if trained {
            pieces.zip(g_weights.par_chunks_mut(width)).for_each(|(rows, g_weight)| each(rows, g_weight));
        } else {
            pieces.for_each(|rows| each(rows, &mut []));
        }
    })?;
    let g_weight = trained.then(|| Tensor::from_vec(total(&g_weights, width), width, x.device())).transpose()?;
    Ok((Tensor::from_vec(gx, x.shape(), x.device())?, g_weight))
}

wide! {
    fn forward_rows(y: &'w mut [f32], x: &'w [f32], weight: &'w [f32], eps: f64) -> () {
        for (y, x) in y.chunks_exact_mut(weight.len()).zip(x.chunks_exact(weight.len())) {
            let scale = scale(x, eps);
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * scale * weight;
            }
        }
    }
}

// The gradients of some rows; that of the weight is added to `g_weight`, unless that is empty.
wide! {
    fn backward_rows(
        gx: &'w mut [f32],
        g_weight: &'w mut [f32],
        x: &'w [f32],
        gy: &'w [f32],
        weight: &'w [f32],
        eps: f64,
    ) -> () {
        let width = weight.len();
        let rows = gx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(gy.chunks_exact(width));
        for ((gx, x), gy) in rows {
            let scale = scale(x, eps);
            for ((gx, gy), weight) in gx.iter_mut().zip(gy).zip(weight) {
                *gx = gy * weight;
            }
            let along = dot(gx, x) * scale * scale / length(width);
            for (gx, x) in gx.iter_mut().zip(x) {
                *gx = (*gx - x * along) * scale;
            }
            for ((g_weight, gy), x) in g_weight.iter_mut().zip(gy).zip(x) {
                *g_weight += gy * (x * scale);
            }
        }
    }
}

/// What a row is multiplied with.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "a row in f32 is normalised in f32")]
fn scale(x: &[f32], eps: f64) -> f32 {
    1.0 / (sum(x, x, |a, b| a * b) / length(x.len()) + eps as f32).sqrt()
}

#[inline(always)]
#[allow(clippy::cast_precision_loss, reason = "rows are shorter than 2^24")]
fn length(width: usize) -> f32 {
    width as f32
}

/// Partial sums, added in their order.
fn total(parts: &[f32], width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    for part in parts.chunks_exact(width) {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
    total
}
