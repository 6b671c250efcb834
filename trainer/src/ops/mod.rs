//! What a transformer computes, an operation a module: each an explicit pair, `…_fwd` and `…_bwd`, over tensors of f32, f64 or bf16. Nothing here
//! records a graph, knows a model or keeps anything between two calls: a backward is handed the inputs of its forward again.
//!
//! Sequences are packed: the first dimension of an activation counts the tokens of the whole batch, and [`Segments`] says where each begins.
//! Gradients of weights, and everything that is summed over many values, are computed in [`wide`] numbers.

mod attention;
mod dropout;
mod embedding;
#[cfg(test)]
pub(crate) mod finite_differences;
mod flash;
mod fused;
mod head_loss;
pub mod kernels;
mod linear;
mod rms_norm;
mod rope;
mod segments;
mod swiglu;

pub use attention::{Attended, Attention, attention_bwd, attention_fwd};
pub use dropout::Dropout;
pub use embedding::{embedding_bwd, embedding_fwd};
pub use flash::{AttentionBy, AttentionError, Room};
pub(crate) use head_loss::logits_at_once;
pub use head_loss::{HeadGradients, HeadLoss, head_loss_bwd, head_loss_fwd};
pub use linear::{Linear, LinearGradients, Lora, Weight, linear_bwd, linear_fwd};
pub use rms_norm::{rms_norm_bwd, rms_norm_fwd};
pub use rope::{Llama3Scaling, RopeTable, inverse_frequencies, rope_bwd, rope_fwd};
pub use segments::{Segments, SegmentsError};
pub(crate) use swiglu::GATED;
pub use swiglu::{swiglu_bwd, swiglu_fwd};

use candle_core::{DType, Result, Tensor};

/// The type in which values of `dtype` are summed and normalised: f32 for the half-width types, the type itself for f32 and f64.
pub fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

/// `tensor` in this type.
pub(crate) fn cast(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    let is_half = |dtype| matches!(dtype, DType::F32 | DType::BF16) && dtype != tensor.dtype();
    if is_half(dtype) && tensor.is_contiguous() && kernels::serves(kernels::Kernel::Casts, &[tensor]) {
        return kernels::casts::cast(&kernels::Gpu, tensor);
    }
    tensor.to_dtype(dtype)
}

/// Where each piece of `count` things begins, and how long it is, at most `most` at a time.
pub(crate) fn pieces(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).step_by(most).map(move |begin| (begin, most.min(count - begin)))
}

/// `sum` + `part`, of one shape and type, where `sum` lies if that can be: it has to be a fresh result, whose values nobody else has.
pub(crate) fn added(sum: Tensor, part: &Tensor) -> Result<Tensor> {
    if fused::serves(&[&sum, part]) && sum.is_contiguous() {
        fused::add(&sum, part)?;
        return Ok(sum);
    }
    sum + part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_everything_once() {
        let of = |count| pieces(count, 4).collect::<Vec<_>>();
        assert_eq!(of(3), [(0, 3)]);
        assert_eq!(of(9), [(0, 4), (4, 4), (8, 1)]);
        assert_eq!(of(0), []);
    }
}
