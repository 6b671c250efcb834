//! Token ids to rows of the embedding, and the gradient back into those rows.

use candle_core::{Result, Tensor};

use super::fused;

/// The rows `ids` (T, u32) of `weight` (vocabulary, n): (T, n).
pub fn embedding_fwd(ids: &Tensor, weight: &Tensor) -> Result<Tensor> {
    weight.index_select(ids, 0)
}

/// Adds the gradient `gy` (T, n) of [`embedding_fwd`]'s result to `gradient` (vocabulary, n), whose values nobody else has: zeros, or, where the output
/// projection is tied to the embedding, what came from there. Tokens that occur many times are summed in `gradient`'s type, which should be wide.
pub fn embedding_bwd(ids: &Tensor, gy: &Tensor, gradient: Tensor) -> Result<Tensor> {
    if fused::serves(&[gy, &gradient]) {
        fused::add_rows(&gradient, &ids.to_vec1()?, gy)?;
        return Ok(gradient);
    }
    gradient.index_add(ids, &gy.to_dtype(gradient.dtype())?, 0)
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradients, noise, values};
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn the_gradient_of_a_row_sums_over_its_tokens() {
        let ids = Tensor::new(&[2u32, 0, 2, 4], &Device::Cpu).unwrap();
        let forward = |inputs: &[Tensor]| embedding_fwd(&ids, &inputs[0]);
        let backward = |inputs: &[Tensor], gy: &Tensor| Ok(vec![embedding_bwd(&ids, gy, inputs[0].zeros_like()?)?]);
        assert_gradients(forward, backward, &[noise(&[5, 3], 1)]);
    }

    #[test]
    fn a_thousand_small_gradients_in_bf16_are_not_lost() {
        let ids = Tensor::zeros(1000, DType::U32, &Device::Cpu).unwrap();
        let gy = Tensor::ones((1000, 1), DType::BF16, &Device::Cpu).unwrap();
        let zeros = Tensor::zeros((2, 1), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(values(&embedding_bwd(&ids, &gy, zeros).unwrap()), [1000.0, 0.0]);
    }

    #[test]
    fn a_gradient_that_is_already_there_is_kept() {
        let ids = Tensor::new(&[1u32], &Device::Cpu).unwrap();
        let there = Tensor::new(&[[10f32], [20.0]], &Device::Cpu).unwrap();
        let gy = Tensor::new(&[[3f32]], &Device::Cpu).unwrap();
        assert_eq!(values(&embedding_bwd(&ids, &gy, there).unwrap()), [10.0, 23.0]);
    }
}
