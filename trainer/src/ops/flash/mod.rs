//! `FlashAttention-2` (arXiv 2307.08691) in the place of chunks, where it is asked for: on a GPU, in bf16, by a library that is built from its own
//! source package (feature `flash-attention`; docs/gpu.md). What is asked for and refused is here, and what it takes in memory; its calls are in `gpu`.
//! Nothing of it has run on a GPU.

#[cfg(feature = "flash-attention")]
mod gpu;
#[cfg(any(test, feature = "flash-attention"))]
mod grouped;
#[cfg(feature = "flash-attention")]
mod library;
mod room;

use candle_core::{DType, Device};

#[cfg(feature = "flash-attention")]
pub(super) use gpu::Flash;
pub use room::Room;

/// The sizes of heads that the library is built for (`images/trainer/cuda.sh flash`).
pub(super) const SIZES: [usize; 3] = [64, 96, 128];

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum AttentionBy {
    /// In chunks of queries
    #[default]
    Chunked,
    /// By FlashAttention-2, on a GPU in bf16; the program has to be built with it, and no GPU has run it yet
    Flash,
}

/// What attention cannot be computed by.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum AttentionError {
    /// This program has no `FlashAttention`.
    #[error(
        "this program is built without FlashAttention: take one that images/trainer/cuda.sh builds with it (feature `flash-attention`), or say --attention chunked"
    )]
    NotBuilt,
    /// No GPU.
    #[error("FlashAttention computes on GPUs, and this rank computes on the processors: say --attention chunked")]
    NoGpu,
    /// Another type.
    #[error(
        "FlashAttention computes in bf16, and this training in {0:?}: let `precision` be bf16, or say --attention chunked"
    )]
    Type(DType),
    /// Heads of another size.
    #[error(
        "FlashAttention is built for heads of 64, 96 and 128 values, and this student's have {0}: say --attention chunked"
    )]
    Size(usize),
}

impl AttentionBy {
    /// Whether this program can compute attention so on `device`.
    pub fn check_device(self, device: &Device) -> Result<(), AttentionError> {
        match self {
            Self::Flash if !cfg!(feature = "flash-attention") => Err(AttentionError::NotBuilt),
            Self::Flash if !device.is_cuda() => Err(AttentionError::NoGpu),
            Self::Chunked | Self::Flash => Ok(()),
        }
    }

    /// Whether heads of `size` values of this type can be computed so.
    pub fn check_heads(self, dtype: DType, size: usize) -> Result<(), AttentionError> {
        match self {
            Self::Flash if dtype != DType::BF16 => Err(AttentionError::Type(dtype)),
            Self::Flash if !SIZES.contains(&size) => Err(AttentionError::Size(size)),
            Self::Chunked | Self::Flash => Ok(()),
        }
    }
}

/// What stands for the library in a program without it: nothing is ever made of it.
#[cfg(not(feature = "flash-attention"))]
mod absent {
    use candle_core::{Device, Error, Result, Tensor};

    use super::AttentionError;
    use crate::ops::Segments;

    #[derive(Debug, Clone)]
    pub(in super::super) enum Flash {}

    impl Flash {
        pub(in super::super) fn new(_: &Segments, _: &Device) -> Result<Self> {
            Err(Error::wrap(AttentionError::NotBuilt))
        }

        pub(in super::super) fn forward(&self, _: [&Tensor; 3], _: f64) -> Result<(Tensor, Tensor)> {
            match *self {}
        }

        pub(in super::super) fn backward(
            &self,
            _: [&Tensor; 3],
            _: [&Tensor; 3],
            _: f64,
        ) -> Result<(Tensor, Tensor, Tensor)> {
            match *self {}
        }
    }
}

#[cfg(not(feature = "flash-attention"))]
pub(super) use absent::Flash;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_not_refused() {
        assert_eq!(AttentionBy::default(), AttentionBy::Chunked);
        assert_eq!(AttentionBy::Chunked.check_device(&Device::Cpu), Ok(()));
        assert_eq!(AttentionBy::Chunked.check_heads(DType::F32, 80), Ok(()));
    }

    #[test]
    fn where_it_cannot_be_computed_so_it_is_refused() {
        let expected = if cfg!(feature = "flash-attention") { AttentionError::NoGpu } else { AttentionError::NotBuilt };
        assert_eq!(AttentionBy::Flash.check_device(&Device::Cpu), Err(expected));
        for size in SIZES {
            assert_eq!(AttentionBy::Flash.check_heads(DType::BF16, size), Ok(()));
        }
        assert_eq!(AttentionBy::Flash.check_heads(DType::BF16, 80), Err(AttentionError::Size(80)));
        assert_eq!(AttentionBy::Flash.check_heads(DType::F32, 64), Err(AttentionError::Type(DType::F32)));
    }
}
