//! GPUs of NVIDIA, through candle: which are there, whether this program can use them, and what they say of themselves. Nothing here has run on one.

// A library is loaded to see whether it is there; candle's bindings would panic where it is not. The driver's pool of memory is asked for by its handle.
#![allow(unsafe_code)]

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::result::{device::get_default_mem_pool, mem_pool::set_attribute};
use candle_core::cuda_backend::cudarc::driver::sys::{CUdevice_attribute, CUmemPool_attribute, CUresult};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError};
use candle_core::{DType, Device, Error, Tensor};

use super::DeviceError;

/// What the tensor library loads beside the driver.
const LIBRARIES: [&str; 2] = ["cublas", "curand"];
/// The versions by which the bindings look for a library (cudarc's `get_lib_name_candidates`), beside the name without any.
const VERSIONS: [&str; 7] = ["", ".13", ".12", ".11", ".10", ".9", ".1"];
/// What bf16 needs: Ampere.
const LEAST: u32 = 80;

/// The GPU with this number.
pub(super) fn gpu(number: usize) -> Result<Device, DeviceError> {
    if !is_there("cuda") {
        return Err(DeviceError::NoDriver);
    }
    let driver = |error: &dyn std::fmt::Display| DeviceError::Driver(error.to_string());
    let count = match CudaContext::device_count() {
        Ok(count) => usize::try_from(count).unwrap_or_default(),
        // The driver counts none by an error.
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
        Err(error) => return Err(driver(&error)),
    };
    match count {
        0 => return Err(DeviceError::NoDevice),
        _ if number >= count => return Err(DeviceError::TooFew { number, count }),
        _ => {}
    }
    if let Some(missing) = LIBRARIES.into_iter().find(|library| !is_there(library)) {
        return Err(DeviceError::NoLibrary(missing));
    }
    let context = CudaContext::new(number).map_err(|error| driver(&error))?;
    let (major, minor) = context.compute_capability().map_err(|error| driver(&error))?;
    let (found, needed) = (u32::try_from(major * 10 + minor).unwrap_or_default(), needed());
    if found < needed {
        let name = context.name().unwrap_or_else(|_| "of no name".to_owned());
        return Err(DeviceError::Capability { number, name, found, needed });
    }
    if let Err(error) = keep_what_is_let_go(&context) {
        // A part of a shared GPU may have no pool.
        tracing::warn!("memory of GPU {number} is given back at every wait, which costs time: {error}");
    }
    first_sum(number).map_err(|source| DeviceError::Unusable { number, source })
}

/// Has what is let go stay with this process: the pool that tensors are allocated from would give it back to the driver whenever the device is waited for,
/// and be given it anew right after.
fn keep_what_is_let_go(context: &CudaContext) -> Result<(), DriverError> {
    let mut threshold = u64::MAX;
    let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the device is there as long as its context, and its own pool as long as the device; the attribute is an u64, read during the call.
    unsafe { set_attribute(get_default_mem_pool(context.cu_device())?, attribute, (&raw mut threshold).cast()) }
}

/// Opens it, and adds two numbers there: a driver that is too old for the kernels says so only then.
fn first_sum(number: usize) -> Result<Device, Error> {
    // A stream of its own: the usual one is each thread's own, and tensors may be let go by another thread.
    let device = Device::new_cuda_with_stream(number)?;
    let ones = Tensor::ones(2, DType::F32, &device)?;
    match (&ones + &ones)?.sum_all()?.to_scalar::<f32>()?.to_bits() {
        FOUR => Ok(device),
        other => candle_core::bail!("2 + 2 is {} there", f32::from_bits(other)),
    }
}

/// 4 as an f32.
const FOUR: u32 = 0x4080_0000;

/// The compute capability that this program's kernels were compiled for, as the build was told.
fn needed() -> u32 {
    let built = option_env!("CUDA_COMPUTE_CAP").and_then(|text| text.parse().ok());
    built.unwrap_or(LEAST).max(LEAST)
}

/// The memory that is free there.
pub(super) fn memory(device: &CudaDevice) -> Option<u64> {
    let (free, _) = device.cuda_stream().context().mem_get_info().ok()?;
    u64::try_from(free).ok()
}

/// How many multiprocessors it has.
pub(super) fn multiprocessors(device: &CudaDevice) -> Option<u64> {
    let asked = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    device.cuda_stream().context().attribute(asked).ok().and_then(|count| u64::try_from(count).ok())
}

/// Its number and its name.
pub(super) fn name(device: &CudaDevice) -> String {
    let stream = device.cuda_stream();
    let context = stream.context();
    let name = context.name().unwrap_or_else(|_| "of no name".to_owned());
    format!("GPU {} ({name})", context.ordinal())
}

/// Whether a library of NVIDIA's can be loaded.
pub(crate) fn is_there(library: &str) -> bool {
    VERSIONS.into_iter().any(|version| {
        // SAFETY: what these libraries do when they are loaded is what they would do a moment later, when the bindings load them.
        unsafe { libloading::Library::new(format!("lib{library}.so{version}")) }.is_ok()
    })
}
