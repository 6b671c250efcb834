//! What tests compute on: the processors, or, where `SERA_TEST_CUDA` is 1, the GPU with number 0, on which the same has to hold, and the kernels of
//! ours that `SERA_CUDA_KERNELS` names.

use std::sync::OnceLock;

use candle_core::Device;
use sera_trainer::device::{Choice, open};
use sera_trainer::ops::kernels::{Kernels, switch};

/// One for all tests of a program: tensors of a device that was opened twice are strangers to each other.
pub(crate) fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| match std::env::var("SERA_TEST_CUDA").as_deref() {
        Ok("1") => {
            let device = open(Choice::Cuda, 0).unwrap();
            let kernels = std::env::var("SERA_CUDA_KERNELS").map_or(Kernels::NONE, |list| list.parse().unwrap());
            switch(kernels, &device).unwrap();
            device
        }
        _ => Device::Cpu,
    })
}
