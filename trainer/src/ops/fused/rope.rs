//! Rotary position embedding, a head at a time.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::{read, rows_of};
use crate::wide::wide;

/// Rotates `x` (T, heads, `head_dim`) by angles of which `cos` and `sin`, (T, 1, `head_dim` / 2), are given; back by them where `back`.
pub(in super::super) fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor, back: bool) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let width = x.elem_count() / x.dim(0)?;
    let sign = if back { -1.0 } else { 1.0 };
    let mut y = vec![0.0; x.elem_count()];
    read([x, cos, sin], |[x, cos, sin]| {
        let rows = rows_of(width);
        let angles = cos.par_chunks(rows * half).zip(sin.par_chunks(rows * half));
        let pieces = y.par_chunks_mut(rows * width).zip(x.par_chunks(rows * width)).zip(angles);
        pieces.for_each(|((y, x), (cos, sin))| turn_tokens(y, x, cos, sin, (width, half), sign));
    })?;
    Tensor::from_vec(y, x.shape(), x.device())
}

// Each token's heads, `width` values of it, by its own angles, of which there are `half` as many as a head has values.
wide! {
    fn turn_tokens(
        y: &'w mut [f32],
        x: &'w [f32],
        cos: &'w [f32],
        sin: &'w [f32],
        sizes: (usize, usize),
        sign: f32,
    ) -> () {
        let (width, half) = sizes;
        let tokens = y.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((y, x), (cos, sin)) in tokens.zip(cos.chunks_exact(half).zip(sin.chunks_exact(half))) {
            for (y, x) in y.chunks_exact_mut(2 * half).zip(x.chunks_exact(2 * half)) {
                turn(x, cos, sin, sign, y);
            }
        }
    }
}

#[inline(always)]
fn turn(x: &[f32], cos: &[f32], sin: &[f32], sign: f32, y: &mut [f32]) {
    let half = cos.len();
    let ((first, second), (y_first, y_second)) = (x.split_at(half), y.split_at_mut(half));
    for at in 0..half {
        let sin = sin[at] * sign;
        y_first[at] = first[at] * cos[at] - second[at] * sin;
        y_second[at] = second[at] * cos[at] + first[at] * sin;
    }
}
