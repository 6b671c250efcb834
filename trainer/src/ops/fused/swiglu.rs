//! The gated activation, a value at a time.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::simd::sigmoid;
use super::{PIECE, read};
use crate::wide::wide;

/// As [`swiglu_fwd`](super::super::swiglu_fwd).
pub(in super::super) fn forward(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let mut y = vec![0.0; gate.elem_count()];
    read([gate, up], |[gate, up]| {
        let pieces = y.par_chunks_mut(PIECE).zip(gate.par_chunks(PIECE)).zip(up.par_chunks(PIECE));
        pieces.for_each(|((y, gate), up)| forward_piece(y, gate, up));
    })?;
    Tensor::from_vec(y, gate.shape(), gate.device())
}

/// As [`swiglu_bwd`](super::super::swiglu_bwd).
pub(in super::super) fn backward(gate: &Tensor, up: &Tensor, gy: &Tensor) -> Result<(Tensor, Tensor)> {
    let zeros = || vec![0.0; gate.elem_count()];
    let (mut g_gate, mut g_up) = (zeros(), zeros());
    read([gate, up, gy], |[gate, up, gy]| {
        let results = g_gate.par_chunks_mut(PIECE).zip(g_up.par_chunks_mut(PIECE));
        let pieces = results.zip(gate.par_chunks(PIECE)).zip(up.par_chunks(PIECE)).zip(gy.par_chunks(PIECE));
        pieces.for_each(|((((g_gate, g_up), gate), up), gy)| backward_piece(g_gate, g_up, gate, up, gy));
    })?;
    let tensor = |values| Tensor::from_vec(values, gate.shape(), gate.device());
    Ok((tensor(g_gate)?, tensor(g_up)?))
}

wide! {
    fn forward_piece(y: &'w mut [f32], gate: &'w [f32], up: &'w [f32]) -> () {
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = gate * sigmoid(*gate) * up;
        }
    }
}

wide! {
    fn backward_piece(g_gate: &'w mut [f32], g_up: &'w mut [f32], gate: &'w [f32], up: &'w [f32], gy: &'w [f32]) -> () {
        for ((((g_gate, g_up), gate), up), gy) in g_gate.iter_mut().zip(g_up.iter_mut()).zip(gate).zip(up).zip(gy) {
            let sigmoid = sigmoid(*gate);
            let silu = gate * sigmoid;
            *g_gate = gy * up * (sigmoid + silu * (1.0 - sigmoid));
            *g_up = gy * silu;
        }
    }
}
