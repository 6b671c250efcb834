//! A step of the optimizer: see [`TensorShard`](crate::optim::TensorShard). The same operations in the same order, and so the same bits.

use candle_core::{DType, Result, Tensor};

use super::plan::Plan;
use super::{Kernel, Runner};

/// The numbers of a step.
pub(crate) struct Numbers {
    /// What clipping leaves of the gradient.
    pub(crate) factor: f32,
    pub(crate) fresh_mean: f32,
    pub(crate) old_square: f32,
    pub(crate) fresh_square: f32,
    /// One over the root of the mean square's bias correction.
    pub(crate) unroot: f32,
    pub(crate) eps: f32,
    /// The learning rate over the mean's bias correction.
    pub(crate) stride: f32,
    /// What decay leaves of a weight.
    pub(crate) kept: f32,
}

/// Moves `weights` along `gradient`, and their moments `mean` and `square` with them: f32 of one dimension and one length, each with memory of its own.
pub(crate) fn step(
    on: &dyn Runner,
    [weights, mean, square]: [&Tensor; 3],
    gradient: &Tensor,
    with: &Numbers,
) -> Result<()> {
    let count = weights.elem_count();
    let mut plan = Plan::of(Kernel::Adamw);
    let [weights, mean, square] = [weights, mean, square].map(|tensor| plan.change(tensor, DType::F32, count));
    let gradient = plan.read(gradient, DType::F32, count)?;
    let Numbers { factor, fresh_mean, old_square, fresh_square, unroot, eps, stride, kept } = *with;
    let arguments = [
        weights?.into(),
        mean?.into(),
        square?.into(),
        gradient.into(),
        count.into(),
        factor.into(),
        fresh_mean.into(),
        old_square.into(),
        fresh_square.into(),
        unroot.into(),
        eps.into(),
        stride.into(),
        kept.into(),
    ];
    plan.launch_each("adamw".to_owned(), count, arguments)?;
    on.run(&plan).map(drop)
}
