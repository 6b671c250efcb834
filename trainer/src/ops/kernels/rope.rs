//! Rotary position embedding: see [`rope_fwd`](super::super::rope_fwd). The same operations in the same order, and so the same bits.

use candle_core::{DType, Result, Tensor};

use super::plan::{Plan, named};
use super::{Kernel, Runner, only};

/// Rotates `x` (T, heads, `head_dim`), f32 or bf16, by the angles of `cos` and `sin` (T, 1, `head_dim` / 2), f32, or turns it `back`.
pub fn rotate(on: &dyn Runner, x: &Tensor, cos: &Tensor, sin: &Tensor, back: bool) -> Result<Tensor> {
    let (tokens, heads, width) = x.dims3()?;
    let half = width / 2;
    let mut plan = Plan::of(Kernel::Rope);
    let y = plan.make(x.dtype(), x.shape());
    let x_read = plan.read(x, x.dtype(), tokens * heads * 2 * half)?;
    let [cos, sin] = [cos, sin].map(|table| plan.read(table, DType::F32, tokens * half));
    let turn: f32 = if back { -1.0 } else { 1.0 };
    let arguments =
        [y.into(), x_read.into(), cos?.into(), sin?.into(), tokens.into(), heads.into(), half.into(), turn.into()];
    plan.launch_each(named("rope", x.dtype())?, tokens * heads * half, arguments)?;
    only(on.run(&plan)?)
}
