//! How far a device has been told what to do: what lets ranks carry a tensor as soon as it is there, whatever the device is given meanwhile. Who marks such
//! a point and who waits for it are the ranks that carry tensors from where they live.

#[cfg(feature = "nccl")]
use candle_core::cuda_backend::cudarc::driver::CudaEvent;

/// See the module; see [`Collective::point`](super::Collective::point). The usual one says nothing: what waits for it waits for all that the device has
/// been told.
#[derive(Debug, Default)]
pub struct Point {
    /// Comes to pass on the GPU when it is done with what it was told before.
    #[cfg(feature = "nccl")]
    pub(super) event: Option<CudaEvent>,
}
