//! The gated activation of the feed-forward part: `silu(gate) · up`.

use candle_core::{Result, Tensor};

use super::kernels::{self, Gpu, Kernel};
use super::{fused, pieces, wide};

/// Of how many values the composed backward is computed at once: 32 MiB of f32 a buffer, of which seven are there at a time.
pub(crate) const GATED: usize = 1 << 23;

/// `silu(gate) · up`; all three of one shape and type.
pub fn swiglu_fwd(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if fused::serves(&[gate, up]) {
        return fused::swiglu::forward(gate, up);
    }
    if kernels::serves(Kernel::Swiglu, &[gate, up]) {
        return kernels::swiglu::forward(&Gpu, gate, up);
    }
    gate.silu()? * up
}

/// From the gradient `gy` of [`swiglu_fwd`]'s result, those of `gate` and `up`, in their type.
pub fn swiglu_bwd(gate: &Tensor, up: &Tensor, gy: &Tensor) -> Result<(Tensor, Tensor)> {
    if fused::serves(&[gate, up, gy]) {
        return fused::swiglu::backward(gate, up, gy);
    }
    if kernels::serves(Kernel::Swiglu, &[gate, up, gy]) {
        return kernels::swiglu::backward(&Gpu, gate, up, gy);
    }
    let of_token = gate.elem_count() / gate.dim(0)?.max(1);
    composed_bwd(gate, up, gy, (GATED / of_token.max(1)).max(1))
}

/// The same of so many tokens at a time, so that what is in between stays small beside the gradients.
fn composed_bwd(gate: &Tensor, up: &Tensor, gy: &Tensor, tokens: usize) -> Result<(Tensor, Tensor)> {
    let all = gate.dim(0)?;
    if all <= tokens {
        return piece_bwd(gate, up, gy);
    }
    let (g_gate, g_up) = (gate.zeros_like()?, gate.zeros_like()?);
    for (begin, length) in pieces(all, tokens) {
        let cut = |tensor: &Tensor| tensor.narrow(0, begin, length);
        let (of_gate, of_up) = piece_bwd(&cut(gate)?, &cut(up)?, &cut(gy)?)?;
        g_gate.slice_set(&of_gate, 0, begin)?;
        g_up.slice_set(&of_up, 0, begin)?;
    }
    Ok((g_gate, g_up))
}

fn piece_bwd(gate: &Tensor, up: &Tensor, gy: &Tensor) -> Result<(Tensor, Tensor)> {
    let dtype = gate.dtype();
    let [gate, up, gy] = [gate, up, gy].map(|tensor| tensor.to_dtype(wide(dtype)));
    let (gate, up, gy) = (gate?, up?, gy?);
    let sigmoid = (gate.neg()?.exp()? + 1.0)?.recip()?;
    let silu = (&gate * &sigmoid)?;
    // silu' = σ(1 + g(1 − σ)) = σ + silu · (1 − σ)
    let slope = (&sigmoid + (&silu * (1.0 - &sigmoid)?)?)?;
    let g_gate = ((&gy * up)? * slope)?;
    Ok((g_gate.to_dtype(dtype)?, (gy * silu)?.to_dtype(dtype)?))
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradients, noise, values};
    use super::*;

    #[test]
    fn the_gradients_of_gate_and_up_are_right() {
        let forward = |inputs: &[Tensor]| swiglu_fwd(&inputs[0], &inputs[1]);
        let backward = |inputs: &[Tensor], gy: &Tensor| {
            let (g_gate, g_up) = swiglu_bwd(&inputs[0], &inputs[1], gy)?;
            Ok(vec![g_gate, g_up])
        };
        assert_gradients(forward, backward, &[(noise(&[4, 5], 1) * 5.0).unwrap(), noise(&[4, 5], 2)]);
    }

    #[test]
    fn some_tokens_at_a_time_get_the_gradients_of_all_at_once_to_the_bit() {
        for dtype in [candle_core::DType::BF16, candle_core::DType::F32] {
            let [gate, up, gy] = [4, 5, 6].map(|seed| (noise(&[7, 5], seed) * 3.0).unwrap().to_dtype(dtype).unwrap());
            let whole = composed_bwd(&gate, &up, &gy, 7).unwrap();
            for tokens in [1, 3, 6] {
                let (g_gate, g_up) = composed_bwd(&gate, &up, &gy, tokens).unwrap();
                assert_eq!(values(&g_gate), values(&whole.0), "{dtype:?}, {tokens} tokens");
                assert_eq!(values(&g_up), values(&whole.1), "{dtype:?}, {tokens} tokens");
            }
        }
    }

    #[test]
    fn a_gate_far_below_zero_gives_a_finite_gradient() {
        let gate = (noise(&[3], 3).abs().unwrap() * -2000.0).unwrap().to_dtype(candle_core::DType::F32).unwrap();
        let (g_gate, g_up) = swiglu_bwd(&gate, &gate, &gate.ones_like().unwrap()).unwrap();
        assert!(values(&g_gate).iter().chain(&values(&g_up)).all(|value| value.is_finite()));
    }
}
