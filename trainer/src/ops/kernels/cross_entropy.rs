//! The loss over a chunk of logits: see [`head_loss_bwd`](super::super::head_loss_bwd), of whose roundings it has all; only the order of sums differs,
//! and that they are begun before the largest logit of a row is known.

use candle_core::{DType, Result, Tensor};

use super::plan::{Plan, named, single};
use super::{Kernel, Runner, only};

/// A row's threads: there are fewer rows in a chunk than blocks would keep a GPU busy.
const THREADS: u32 = 1024;

/// The loss of each row of `logits` (rows, vocabulary), f32 or bf16, that has to predict `targets` (rows), u32, with z-loss of weight `z`; (rows), f32.
pub fn forward(on: &dyn Runner, logits: &Tensor, targets: &Tensor, z: f64) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    let mut plan = Plan::of(Kernel::CrossEntropy);
    let losses = plan.make(DType::F32, rows);
    let dtype = logits.dtype();
    let logits = plan.read(logits, dtype, rows * vocabulary)?;
    let targets = plan.read(targets, DType::U32, rows)?;
    let arguments = [losses.into(), logits.into(), targets.into(), vocabulary.into(), single(z).into()];
    plan.launch(named("cross_entropy_forward", dtype)?, [rows as u64, 1], [THREADS, 1], arguments)?;
    only(on.run(&plan)?)
}

/// The same, and makes `scale` times its gradient of `logits`, which nobody else may have, where they lie.
pub fn backward(on: &dyn Runner, logits: &Tensor, targets: &Tensor, z: f64, scale: f64) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    let mut plan = Plan::of(Kernel::CrossEntropy);
    let losses = plan.make(DType::F32, rows);
    let dtype = logits.dtype();
    let logits = plan.change(logits, dtype, rows * vocabulary)?;
    let targets = plan.read(targets, DType::U32, rows)?;
    let arguments =
        [logits.into(), losses.into(), targets.into(), vocabulary.into(), single(z).into(), single(scale).into()];
    plan.launch(named("cross_entropy_backward", dtype)?, [rows as u64, 1], [THREADS, 1], arguments)?;
    only(on.run(&plan)?)
}
