//! From f32 to bf16, to the nearest, and of two the even one; and back.

use candle_core::{DType, Result, Tensor};

use super::plan::Plan;
use super::{Kernel, Runner, only};

/// `tensor`, f32 or bf16, in the other of these types.
pub fn cast(on: &dyn Runner, tensor: &Tensor) -> Result<Tensor> {
    let (function, to) = match tensor.dtype() {
        DType::F32 => ("cast_f32_bf16", DType::BF16),
        DType::BF16 => ("cast_bf16_f32", DType::F32),
        other => candle_core::bail!("there is no kernel that casts {other:?}"),
    };
    let count = tensor.elem_count();
    let mut plan = Plan::of(Kernel::Casts);
    let result = plan.make(to, tensor.shape());
    let from = plan.read(tensor, tensor.dtype(), count)?;
    plan.launch_each(function.to_owned(), count, [result.into(), from.into(), count.into()])?;
    only(on.run(&plan)?)
}
