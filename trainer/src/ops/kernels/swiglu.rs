//! The gated activation: see [`swiglu_fwd`](super::super::swiglu_fwd). The same operations in the same order; in bf16 the tensor library rounds within
//! `silu` three times on processors and once on GPUs, and this does as GPUs do.

use candle_core::{Result, Tensor};

use super::plan::{Plan, named};
use super::{Kernel, Runner, only, several};

/// As [`swiglu_fwd`](super::super::swiglu_fwd), both f32 or both bf16.
pub fn forward(on: &dyn Runner, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let (dtype, count) = (gate.dtype(), gate.elem_count());
    let mut plan = Plan::of(Kernel::Swiglu);
    let y = plan.make(dtype, gate.shape());
    let (gate, up) = (plan.read(gate, dtype, count)?, plan.read(up, dtype, count)?);
    plan.launch_each(named("swiglu_forward", dtype)?, count, [y.into(), gate.into(), up.into(), count.into()])?;
    only(on.run(&plan)?)
}

/// As [`swiglu_bwd`](super::super::swiglu_bwd), all f32 or all bf16.
pub fn backward(on: &dyn Runner, gate: &Tensor, up: &Tensor, gy: &Tensor) -> Result<(Tensor, Tensor)> {
    let (dtype, count) = (gate.dtype(), gate.elem_count());
    let mut plan = Plan::of(Kernel::Swiglu);
    let [g_gate, g_up] = [gate, up].map(|tensor| plan.make(dtype, tensor.shape()));
    let (gate, up, gy) = (plan.read(gate, dtype, count)?, plan.read(up, dtype, count)?, plan.read(gy, dtype, count)?);
    let arguments = [g_gate.into(), g_up.into(), gate.into(), up.into(), gy.into(), count.into()];
    plan.launch_each(named("swiglu_backward", dtype)?, count, arguments)?;
    let [g_gate, g_up] = several(on.run(&plan)?)?;
    Ok((g_gate, g_up))
}
