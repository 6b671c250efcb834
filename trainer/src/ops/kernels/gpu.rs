//! Plans carried out on a GPU: the kernels that the build has compiled (`trainer/build.rs`), loaded when they are first needed, and launched on the
//! stream of the tensors' device. Nothing here has run on one.

// A kernel is told where memory lies, and nobody checks what it does there.
#![allow(unsafe_code)]

use std::cell::RefCell;

use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::cudarc::driver::{
    CudaStream, DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg, SyncOnDrop,
};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CudaDevice, CudaStorage, DType, InplaceOp1, Layout, Result, Shape, Storage, Tensor};

use super::{Argument, Buffer, Kernel, Launch, Plan};

/// Its instructions for GPUs, as a text.
#[allow(clippy::match_same_arms, reason = "lints are looked for with a compiler that leaves empty files")]
fn instructions(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::RmsNorm => include_str!(concat!(env!("OUT_DIR"), "/rms_norm.ptx")),
        Kernel::Rope => include_str!(concat!(env!("OUT_DIR"), "/rope.ptx")),
        Kernel::Swiglu => include_str!(concat!(env!("OUT_DIR"), "/swiglu.ptx")),
        Kernel::CrossEntropy => include_str!(concat!(env!("OUT_DIR"), "/cross_entropy.ptx")),
        Kernel::Adamw => include_str!(concat!(env!("OUT_DIR"), "/adamw.ptx")),
        Kernel::Casts => include_str!(concat!(env!("OUT_DIR"), "/casts.ptx")),
    }
}

/// As [`Runner::run`](super::Runner::run).
pub(super) fn run(plan: &Plan) -> Result<Vec<Tensor>> {
    let device = plan.device()?.as_cuda_device()?;
    let (mut memory, mut made) = (Vec::new(), Vec::new());
    for buffer in plan.buffers() {
        memory.push(match buffer {
            Buffer::Read(tensor) => Memory { tensor: tensor.clone(), is_read: true },
            Buffer::Changed(tensor) => Memory { tensor: tensor.clone(), is_read: false },
            Buffer::Made(dtype, shape) => {
                let tensor = fresh(device, *dtype, shape)?;
                made.push(tensor.clone());
                Memory { tensor, is_read: false }
            }
            Buffer::Scratch(dtype, count) => {
                Memory { tensor: fresh(device, *dtype, &Shape::from(*count))?, is_read: false }
            }
        });
    }
    let stream = device.cuda_stream();
    bind(&memory, &stream, &mut Vec::new(), &mut |pointers| {
        plan.launches().iter().try_for_each(|each| launch(device, plan.kernel(), each, pointers))
    })?;
    Ok(made)
}

/// A tensor that kernels are told the place of.
struct Memory {
    tensor: Tensor,
    is_read: bool,
}

/// A tensor whose values are to be written before they are read.
fn fresh(device: &CudaDevice, dtype: DType, shape: &Shape) -> Result<Tensor> {
    // SAFETY: a plan's kernels write every value of what it makes, and of what is needed in between every one that they read.
    let storage = unsafe { device.alloc_uninit(shape, dtype) }?;
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape.clone(), BackpropOp::none(), false))
}

/// Calls `then` with the places of all buffers, each locked for as long as that takes.
fn bind(
    rest: &[Memory],
    stream: &CudaStream,
    pointers: &mut Vec<u64>,
    then: &mut dyn FnMut(&[u64]) -> Result<()>,
) -> Result<()> {
    let Some((Memory { tensor, is_read }, rest)) = rest.split_first() else { return then(pointers) };
    if *is_read {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { candle_core::bail!("a kernel was given a tensor of the host's") };
        let (pointer, _read) = place(storage, stream)?;
        pointers.push(pointer + offset(layout, tensor.dtype())?);
        return bind(rest, stream, pointers, then);
    }
    let work = |storage: &mut CudaStorage, layout: &Layout| {
        let (pointer, _written) = place_to_change(storage, stream)?;
        pointers.push(pointer + offset(layout, tensor.dtype())?);
        bind(rest, stream, pointers, then)
    };
    tensor.inplace_op1(&Change(RefCell::new(work)))
}

/// Where the values of a tensor begin in its memory, in bytes.
fn offset(layout: &Layout, dtype: DType) -> Result<u64> {
    match layout.contiguous_offsets() {
        Some((begin, _)) => Ok((begin * dtype.size_in_bytes()) as u64),
        None => candle_core::bail!("a kernel was given values that do not lie one after the other"),
    }
}

/// Where memory is, and what tells others how long it is read.
fn place<'a>(storage: &'a CudaStorage, stream: &'a CudaStream) -> Result<(u64, SyncOnDrop<'a>)> {
    match &storage.slice {
        CudaStorageSlice::F32(values) => Ok(values.device_ptr(stream)),
        CudaStorageSlice::BF16(values) => Ok(values.device_ptr(stream)),
        CudaStorageSlice::U32(values) => Ok(values.device_ptr(stream)),
        _ => candle_core::bail!("kernels read f32, bf16 and u32 alone"),
    }
}

/// The same where it is written.
fn place_to_change<'a>(storage: &'a mut CudaStorage, stream: &'a CudaStream) -> Result<(u64, SyncOnDrop<'a>)> {
    match &mut storage.slice {
        CudaStorageSlice::F32(values) => Ok(values.device_ptr_mut(stream)),
        CudaStorageSlice::BF16(values) => Ok(values.device_ptr_mut(stream)),
        _ => candle_core::bail!("kernels write f32 and bf16 alone"),
    }
}

fn launch(device: &CudaDevice, kernel: Kernel, launch: &Launch, pointers: &[u64]) -> Result<()> {
    let Launch { function, grid, block, arguments } = launch;
    let module = format!("sera {kernel}");
    let function = device.get_or_load_custom_func(function, &module, instructions(kernel))?;
    let mut builder = function.builder();
    for argument in arguments {
        match argument {
            Argument::Buffer(at) => builder.arg(&pointers[*at]),
            Argument::Count(count) => builder.arg(count),
            Argument::Number(number) => builder.arg(number),
        };
    }
    let shape =
        LaunchConfig { grid_dim: (grid[0], grid[1], 1), block_dim: (block[0], block[1], 1), shared_mem_bytes: 0 };
    // SAFETY: kinds and order of arguments are the kernel's, each buffer has as many values as the counts say, and no kernel reads or writes beyond
    // them: trainer/tests/kernels runs these plans with the same sources where every access is checked.
    unsafe { builder.launch(shape) }.w()?;
    Ok(())
}

struct Change<F>(RefCell<F>);

impl<F: FnMut(&mut CudaStorage, &Layout) -> Result<()>> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        candle_core::bail!("a kernel was given a tensor of the host's")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        (self.0.borrow_mut())(storage, layout)
    }
}
