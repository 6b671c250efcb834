//! Tensors between GPUs, over NCCL; everything else that ranks do together goes over the ring, which also watches over them. Compiled, and not yet run on
//! a GPU.
//!
//! A collective is waited for before the next one is begun: whoever waits asks NCCL, the GPU and the ring in turn (as the watchdog of `PyTorch`'s
//! `ProcessGroupNCCL` does from a thread of its own), so that a rank that is lost ends it wherever it is. That may be another thread than the one that
//! computes, which goes on meanwhile: collectives have a stream of their own on the GPU, beside the one that tensors are computed and let go on. That
//! no value is read before it is there, and no memory given away before it is done with, comes from three things:
//!
//! 1. **Before a collective** its stream waits for an event of the computing stream ([`Point`](super::Point)), recorded when all that makes the tensors
//!    had been put there, their memory's allocation among it. A gather that is begun ahead has that event from the thread that computes, recorded before
//!    that goes on: the gather waits for nothing that comes later. Every other collective records it when it begins.
//! 2. **After it** its tensors are handed on only when the host has seen an event that comes behind it on its stream. What a GPU is given after its host
//!    has seen an event comes after what the event stands behind, on whatever stream: there is nothing left to wait for.
//! 3. **Memory** goes back in the order of the computing stream, on which it was allocated. A call holds its tensors until (2), so that both come after
//!    the collective. Where a call ends otherwise, the communicator is aborted first, and the computing stream told to wait for the other: what is let go
//!    after that is given to nobody before NCCL's kernels have ended.
//!
//! Parts of unequal lengths are filled up by copies on the computing stream, given by the thread that gathers; the event is recorded behind them, so that
//! such a gather also waits for what the other thread has given by then.

#[cfg(feature = "nccl")]
mod comm;
mod padded;

#[cfg(feature = "nccl")]
pub(super) use over::Nccl;

#[cfg(feature = "nccl")]
mod over;
