//! Tensors between GPUs, over NCCL; everything else that ranks do together goes over the ring, which also watches over them. Compiled, and not yet run on
//! a GPU.
//!
//! A collective is waited for before the next thing is done: whoever waits asks NCCL, the GPU and the ring in turn (as the watchdog of `PyTorch`'s
//! `ProcessGroupNCCL` does from a thread of its own), so that a rank that is lost ends it wherever it is.

#[cfg(feature = "nccl")]
mod comm;
mod padded;

#[cfg(feature = "nccl")]
pub(super) use over::Nccl;

#[cfg(feature = "nccl")]
mod over;
