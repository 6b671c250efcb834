//! The calls: tensors of a GPU in, tensors of that GPU out. Compiled, and not yet run on a GPU.

// Addresses in a GPU's memory go to foreign functions.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::{null, with_exposed_provenance_mut};
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::sys::CUdeviceptr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Error, Result, Shape, Storage, Tensor, bail};
use half::bf16;

use super::AttentionBy;
use super::grouped::gathered;
use super::library::{Batch, done, room, sera_flash_bwd, sera_flash_fwd};
use crate::device;
use crate::ops::Segments;

/// The sequences of a packed batch, as the library is told them.
#[derive(Debug, Clone)]
pub(in super::super) struct Flash {
    /// Where each begins, and where the last one ends, on the GPU.
    begins: Tensor,
    longest: i32,
    tokens: i32,
}

impl Flash {
    /// Those of `segments`.
    pub(in super::super) fn new(segments: &Segments, device: &Device) -> Result<Self> {
        AttentionBy::Flash.check_device(device).map_err(Error::wrap)?;
        let tokens = number(segments.tokens())?;
        let begins = segments.ranges().map(|range| number(range.start));
        let begins: Vec<i32> = begins.chain([Ok(tokens)]).collect::<Result<_>>()?;
        let longest = number(segments.ranges().map(|range| range.len()).max().unwrap_or_default())?;
        Ok(Self { begins: Tensor::new(begins, device)?, longest, tokens })
    }

    /// As [`attention_fwd`](super::super::attention_fwd), and the logarithm of every query's sum of exponentials, (heads, T) in f32.
    pub(in super::super) fn forward(&self, inputs: [&Tensor; 3], scale: f64) -> Result<(Tensor, Tensor)> {
        let inputs = lying(inputs)?;
        let (gpu, heads) = (Gpu::of(&inputs[0])?, inputs[0].dim(1)?);
        let (mut y, mut logs) =
            (gpu.room::<bf16>(inputs[0].elem_count())?, gpu.room::<f32>(heads * inputs[0].dim(0)?)?);
        let [q, k, v] = &inputs;
        gpu.read([&self.begins, q, k, v], |[begins, q, k, v]| {
            let batch = self.batch(begins, &inputs, scale)?;
            let ((y, _y), (logs, _logs)) = (y.device_ptr_mut(&gpu.stream), logs.device_ptr_mut(&gpu.stream));
            let (y, logs) = (place(y)?, place(logs)?);
            // SAFETY: the inputs lie as the batch says, which is checked; the results have the room of their shapes; all is in the memory of the GPU that
            // the stream belongs to, held while it is put there, and freed by that stream.
            done(unsafe { sera_flash_fwd(&raw const batch, q, k, v, y, logs.cast(), gpu.stream.cu_stream().cast()) })
        })?;
        Ok((gpu.tensor(y, q.shape().clone()), gpu.tensor(logs, (heads, q.dim(0)?))))
    }

    /// As [`attention_bwd`](super::super::attention_bwd): from the gradient `gy` of the result `y`, whose logarithms are `logs`, those of the inputs.
    pub(in super::super) fn backward(
        &self,
        inputs: [&Tensor; 3],
        [y, logs, gy]: [&Tensor; 3],
        scale: f64,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let inputs = lying(inputs)?;
        let [q, k, v] = &inputs;
        let (y, gy, logs) = (y.contiguous()?, gy.contiguous()?, logs.contiguous()?);
        if y.shape() != q.shape() || gy.shape() != q.shape() || logs.dims() != [q.dim(1)?, q.dim(0)?] {
            bail!(
                "a result {:?} with logarithms {:?} and gradient {:?} is not that of {q:?}",
                y.shape(),
                logs.shape(),
                gy.shape()
            )
        }
        let gpu = Gpu::of(q)?;
        let needed = room(&self.batch(null(), &inputs, scale)?, gpu.multiprocessors()?)?;
        let count = |count: i64| usize::try_from(count).map_err(Error::wrap);
        let (mut sums, mut parts) = (gpu.room::<f32>(count(needed.sums)?)?, gpu.zeros(count(needed.parts)?)?);
        let gradient = || gpu.room::<bf16>(q.elem_count());
        let (mut gq, mut gk, mut gv) = (gradient()?, gradient()?, gradient()?);
        gpu.read([&self.begins, q, k, v, &y, &logs, &gy], |[begins, q, k, v, y, logs, gy]| {
            let batch = self.batch(begins, &inputs, scale)?;
            let ((gq, _gq), (gk, _gk), (gv, _gv)) =
                (gq.device_ptr_mut(&gpu.stream), gk.device_ptr_mut(&gpu.stream), gv.device_ptr_mut(&gpu.stream));
            let ((sums, _sums), (parts, _parts)) =
                (sums.device_ptr_mut(&gpu.stream), parts.device_ptr_mut(&gpu.stream));
            let ([gq, gk, gv], [sums, parts]) =
                ([place(gq)?, place(gk)?, place(gv)?], [place(sums)?.cast(), place(parts)?.cast()]);
            let stream = gpu.stream.cu_stream().cast();
            // SAFETY: as above; the gradients of keys and values have the room of all heads of queries, and sums and parts what the library asked for.
            done(unsafe {
                sera_flash_bwd(
                    &raw const batch,
                    q,
                    k,
                    v,
                    y,
                    logs.cast(),
                    gy,
                    gq,
                    gk,
                    gv,
                    sums,
                    parts,
                    &raw const needed,
                    stream,
                )
            })
        })?;
        let [gq, gk, gv] = [gq, gk, gv].map(|gradient| gpu.tensor(gradient, q.shape().clone()));
        let kv_heads = k.dim(1)?;
        Ok((gq, gathered(&gk, kv_heads)?, gathered(&gv, kv_heads)?))
    }

    /// What the library is told of inputs (T, heads, size) and twice (T, kv heads, size).
    fn batch(&self, begins: *const c_void, [q, k, v]: &[Tensor; 3], scale: f64) -> Result<Batch> {
        let ((tokens, heads, size), (keys, kv_heads, key_size)) = (q.dims3()?, k.dims3()?);
        if number(tokens)? != self.tokens || keys != tokens || key_size != size || v.shape() != k.shape() {
            bail!("{q:?}, {k:?} and {v:?} are not queries, keys and values of {} tokens", self.tokens)
        }
        #[allow(clippy::cast_possible_truncation, reason = "scores are f32")]
        let scale = scale as f32;
        let sequences = number(self.begins.dim(0)? - 1)?;
        let (longest, tokens) = (self.longest, self.tokens);
        let (heads, kv_heads, size) = (number(heads)?, number(kv_heads)?, number(size)?);
        Ok(Batch { begins: begins.cast(), sequences, longest, tokens, heads, kv_heads, size, scale })
    }
}

/// Queries, keys and values in bf16, their values one after the other.
fn lying(tensors: [&Tensor; 3]) -> Result<[Tensor; 3]> {
    if let Some(other) = tensors.iter().find(|tensor| tensor.dtype() != DType::BF16) {
        bail!("FlashAttention computes in bf16, not in {:?}", other.dtype())
    }
    let [q, k, v] = tensors.map(Tensor::contiguous);
    Ok([q?, k?, v?])
}

/// A GPU, and the stream that its operations are put on.
struct Gpu {
    device: CudaDevice,
    stream: Arc<CudaStream>,
}

impl Gpu {
    /// The one that a tensor is on; CUDA's runtime, which the library uses, computes on it from now on.
    fn of(tensor: &Tensor) -> Result<Self> {
        let device = tensor.device().as_cuda_device()?.clone();
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().map_err(Error::wrap)?;
        Ok(Self { device, stream })
    }

    fn multiprocessors(&self) -> Result<i32> {
        let count = device::multiprocessors(&Device::Cuda(self.device.clone()));
        count.and_then(|count| i32::try_from(count).ok()).ok_or_else(|| Error::msg("the GPU has no multiprocessors"))
    }

    /// Room for so many values, whatever they are.
    fn room<T: DeviceRepr>(&self, count: usize) -> Result<CudaSlice<T>> {
        // SAFETY: every room here is written by the library before anything reads it.
        unsafe { self.device.alloc(count) }
    }

    fn zeros(&self, count: usize) -> Result<CudaSlice<f32>> {
        self.device.alloc_zeros(count)
    }

    /// Values as a tensor.
    fn tensor<T: CudaDType>(&self, values: CudaSlice<T>, shape: impl Into<Shape>) -> Tensor {
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(values, self.device.clone()));
        Tensor::from_storage(storage, shape, BackpropOp::none(), false)
    }

    /// Gives `work` the addresses of tensors whose values lie one after the other. They are held until it is done, and whoever writes to them on another
    /// stream waits for what `work` put on this one.
    fn read<const N: usize>(
        &self,
        tensors: [&Tensor; N],
        work: impl FnOnce([*const c_void; N]) -> Result<()>,
    ) -> Result<()> {
        let storages: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
        let (mut held, mut addresses) = (Vec::with_capacity(N), [null(); N]);
        for (address, (storage, layout)) in addresses.iter_mut().zip(&storages) {
            let (Storage::Cuda(storage), Some((begin, _))) = (&**storage, layout.contiguous_offsets()) else {
                bail!(
                    "FlashAttention is given a tensor that is not on a GPU, or whose values do not lie one after the other"
                )
            };
            let ((base, guard), width) = match &storage.slice {
                CudaStorageSlice::BF16(slice) => (slice.device_ptr(&self.stream), 2),
                CudaStorageSlice::F32(slice) => (slice.device_ptr(&self.stream), 4),
                CudaStorageSlice::I32(slice) => (slice.device_ptr(&self.stream), 4),
                _ => bail!("FlashAttention is given bf16, and f32 and i32 beside it"),
            };
            held.push(guard);
            *address = place(base)?.cast_const().wrapping_byte_add(begin * width);
        }
        work(addresses)
    }
}

/// An address in the memory of a GPU.
fn place(address: CUdeviceptr) -> Result<*mut c_void> {
    Ok(with_exposed_provenance_mut(usize::try_from(address).map_err(Error::wrap)?))
}

fn number(count: usize) -> Result<i32> {
    i32::try_from(count).map_err(Error::wrap)
}
