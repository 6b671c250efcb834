//! Root-mean-square normalisation over the last dimension, for hidden states and, a head at a time, for queries and keys (Qwen3's qk-norm).

use candle_core::{D, Result, Tensor};

use super::kernels::{self, Gpu, Kernel};
use super::{fused, wide};

/// `x / sqrt(mean(x²) + eps) · weight`, as transformers' `Qwen3RMSNorm` and `LlamaRMSNorm`: normalised in wide numbers, weighted in `x`'s type.
/// `x` is (…, n), `weight` (n); the result is shaped as `x`.
pub fn rms_norm_fwd(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    if fused::serves(&[x, weight]) {
        return fused::rms_norm::forward(x, weight, eps);
    }
    if kernels::serves(Kernel::RmsNorm, &[x, weight]) {
        return kernels::rms_norm::forward(&Gpu, x, weight, eps);
    }
    let (normed, _) = normalise(x, eps)?;
    normed.to_dtype(x.dtype())?.broadcast_mul(weight)
}

/// From the gradient `gy` of [`rms_norm_fwd`]'s result, those of `x`, in its type, and of `weight`, in wide numbers, unless it is frozen.
pub fn rms_norm_bwd(
    x: &Tensor,
    gy: &Tensor,
    weight: &Tensor,
    eps: f64,
    trained: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    if fused::serves(&[x, gy, weight]) {
        return fused::rms_norm::backward(x, gy, weight, eps, trained);
    }
    if kernels::serves(Kernel::RmsNorm, &[x, gy, weight]) {
        return kernels::rms_norm::backward(&Gpu, x, gy, weight, eps, trained);
    }
    let (normed, scale) = normalise(x, eps)?;
    let gy = gy.to_dtype(wide(x.dtype()))?;
    let g_normed = gy.broadcast_mul(&weight.to_dtype(gy.dtype())?)?;
    let along = (&g_normed * &normed)?.mean_keepdim(D::Minus1)?;
    let gx = (g_normed - normed.broadcast_mul(&along)?)?.broadcast_mul(&scale)?;
    let g_weight = trained.then(|| (gy * normed)?.reshape(((), weight.elem_count()))?.sum(0)).transpose()?;
    Ok((gx.to_dtype(x.dtype())?, g_weight))
}

/// The normalised `x`, and the factor a row that made it, both wide.
fn normalise(x: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let x = x.to_dtype(wide(x.dtype()))?;
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
    Ok((x.broadcast_mul(&scale)?, scale))
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradients, noise, values};
    use super::*;
    use candle_core::Device;

    /// Large enough to be felt by the gradients.
    const EPS: f64 = 1e-2;

    #[test]
    fn the_gradients_of_hidden_states_and_weight_are_right() {
        let forward = |inputs: &[Tensor]| rms_norm_fwd(&inputs[0], &inputs[1], EPS);
        let backward = |inputs: &[Tensor], gy: &Tensor| {
            let (gx, g_weight) = rms_norm_bwd(&inputs[0], gy, &inputs[1], EPS, true)?;
            Ok(vec![gx, g_weight.unwrap()])
        };
        assert_gradients(forward, backward, &[noise(&[5, 6], 1), noise(&[6], 2)]);
        assert_gradients(forward, backward, &[noise(&[3, 2, 4], 3), noise(&[4], 4)]);
    }

    #[test]
    fn a_row_is_divided_by_its_root_mean_square() {
        let x = Tensor::new(&[[3f64, 4.0]], &Device::Cpu).unwrap();
        let y = rms_norm_fwd(&x, &Tensor::new(&[2f64, 10.0], &Device::Cpu).unwrap(), 0.0).unwrap();
        let root = 12.5f64.sqrt();
        assert!(values(&y).iter().zip([6.0 / root, 40.0 / root]).all(|(a, b)| (a - b).abs() < 1e-14));
    }

    #[test]
    fn a_frozen_weight_gets_no_gradient() {
        let (x, weight) = (noise(&[2, 4], 5), noise(&[4], 6));
        assert!(rms_norm_bwd(&x, &x, &weight, EPS, false).unwrap().1.is_none());
    }
}
