//! What tests compute on: the processors, or, where `SERA_TEST_CUDA` is 1, the GPU with number 0, on which the same has to hold.

use std::sync::OnceLock;

use candle_core::Device;
use sera_trainer::device::{Choice, open};

/// One for all tests of a program: tensors of a device that was opened twice are strangers to each other.
pub(crate) fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| match std::env::var("SERA_TEST_CUDA").as_deref() {
        Ok("1") => open(Choice::Cuda, 0).unwrap(),
        _ => Device::Cpu,
    })
}
