//! Kernels of our own for NVIDIA GPUs (`trainer/kernels`), each in the place of several of the tensor library's. **None has run on a GPU**: each is off
//! unless it is asked for by its name, and what is computed is said next door, in the operations that they stand in for.
//!
//! An operation is written down as a [`Plan`], which buffers there are and what is launched on them. A [`Runner`] carries it out: [`Gpu`] here, and in
//! tests (`trainer/tests/kernels`) a program in which a processor stands in for a GPU.

pub(crate) mod adamw;
pub mod casts;
pub mod cross_entropy;
#[cfg(feature = "cuda")]
mod gpu;
mod plan;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;
mod switch;

use candle_core::{DType, Result, Tensor};

pub use plan::{Argument, Buffer, Handle, Launch, Plan};
pub use switch::{Kernel, Kernels, KernelsError, are_on, switch};

/// What carries plans out.
pub trait Runner {
    /// Runs the launches of `plan` one after the other, and gives the tensors that it [makes](Plan::make), in their order.
    fn run(&self, plan: &Plan) -> Result<Vec<Tensor>>;
}

/// The GPU on which the tensors of a plan lie.
#[derive(Debug, Clone, Copy)]
pub struct Gpu;

impl Runner for Gpu {
    #[cfg(feature = "cuda")]
    fn run(&self, plan: &Plan) -> Result<Vec<Tensor>> {
        gpu::run(plan)
    }

    #[cfg(not(feature = "cuda"))]
    fn run(&self, plan: &Plan) -> Result<Vec<Tensor>> {
        candle_core::bail!("this program is built without CUDA, and {} is a kernel for it", plan.kernel())
    }
}

/// Whether `kernel` was asked for and serves these tensors.
pub(crate) fn serves(kernel: Kernel, tensors: &[&Tensor]) -> bool {
    let fits = |tensor: &&Tensor| {
        let is_known = matches!(tensor.dtype(), DType::F32 | DType::BF16);
        tensor.device().is_cuda() && is_known && tensor.elem_count() > 0
    };
    switch::is_on(kernel) && tensors.iter().all(fits)
}

/// The one tensor that a plan makes.
fn only(made: Vec<Tensor>) -> Result<Tensor> {
    let [made] = several(made)?;
    Ok(made)
}

/// The tensors that a plan makes.
fn several<const N: usize>(made: Vec<Tensor>) -> Result<[Tensor; N]> {
    made.try_into().map_err(|made: Vec<Tensor>| candle_core::Error::msg(format!("{} results for {N}", made.len())))
}
