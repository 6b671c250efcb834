//! What an operation would have a GPU do, written down: its buffers, and which kernels are launched on them with what. Nothing here knows a GPU, so that
//! all of it is tested where there is none.

use candle_core::{DType, Device, Result, Shape, Tensor};

use super::Kernel;

/// How many threads a block has, unless its rows say otherwise.
const THREADS: u32 = 256;
/// How many values a thread works on at once (`PACK` in `trainer/kernels/common.cuh`).
const PACK: u64 = 4;
/// More blocks than any GPU computes at a time: threads go over more values instead.
const MOST_BLOCKS: u64 = 1 << 16;

/// Memory that a kernel reads or writes; all of it lies in one piece.
#[derive(Debug, Clone)]
pub enum Buffer {
    /// Read alone.
    Read(Tensor),
    /// Read and written where it lies.
    Changed(Tensor),
    /// Made by the operation; its kernels write every value.
    Made(DType, Shape),
    /// Used in between.
    Scratch(DType, usize),
}

/// A buffer of a plan, by its number.
#[derive(Debug, Clone, Copy)]
pub struct Handle(usize);

/// What a kernel is given.
#[derive(Debug, Clone, Copy)]
pub enum Argument {
    /// Where a buffer begins.
    Buffer(usize),
    /// How many there are of something: `Count` in the kernels.
    Count(u64),
    /// A number: `float` in the kernels.
    Number(f32),
}

impl From<Handle> for Argument {
    fn from(Handle(at): Handle) -> Self {
        Self::Buffer(at)
    }
}

impl From<usize> for Argument {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl From<f32> for Argument {
    fn from(number: f32) -> Self {
        Self::Number(number)
    }
}

/// A kernel at work.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Which, by its name in the sources.
    pub function: String,
    /// How many blocks, along x and y.
    pub grid: [u32; 2],
    /// How many threads each has, along x and y.
    pub block: [u32; 2],
    /// In the order of the kernel's parameters.
    pub arguments: Vec<Argument>,
}

/// An operation.
#[derive(Debug, Clone)]
pub struct Plan {
    kernel: Kernel,
    buffers: Vec<Buffer>,
    launches: Vec<Launch>,
}

impl Plan {
    pub(super) fn of(kernel: Kernel) -> Self {
        Self { kernel, buffers: Vec::new(), launches: Vec::new() }
    }

    /// Whose launches these are; its sources are one file.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// By their numbers.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// In their order.
    pub fn launches(&self) -> &[Launch] {
        &self.launches
    }

    /// Where its tensors lie.
    pub fn device(&self) -> Result<&Device> {
        let device = self.buffers.iter().find_map(|buffer| match buffer {
            Buffer::Read(tensor) | Buffer::Changed(tensor) => Some(tensor.device()),
            Buffer::Made(..) | Buffer::Scratch(..) => None,
        });
        device.ok_or_else(|| candle_core::Error::msg("a plan without tensors"))
    }

    /// The same plan with its tensors on `device`: copies, so that what it changes there has to be fetched.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let moved = |buffer: &Buffer| {
            Ok(match buffer {
                Buffer::Read(tensor) => Buffer::Read(tensor.to_device(device)?),
                Buffer::Changed(tensor) => Buffer::Changed(tensor.to_device(device)?),
                fresh => fresh.clone(),
            })
        };
        let buffers = self.buffers.iter().map(moved).collect::<Result<_>>()?;
        Ok(Self { buffers, launches: self.launches.clone(), ..*self })
    }

    /// A tensor to be read, which has to have so many values of this type: a kernel would read on.
    pub(super) fn read(&mut self, tensor: &Tensor, dtype: DType, count: usize) -> Result<Handle> {
        self.check(tensor, dtype, count)?;
        Ok(self.push(Buffer::Read(tensor.contiguous()?)))
    }

    /// A tensor to be changed where it lies, in one piece; nobody else may read it, this plan neither.
    pub(super) fn change(&mut self, tensor: &Tensor, dtype: DType, count: usize) -> Result<Handle> {
        self.check(tensor, dtype, count)?;
        if !tensor.is_contiguous() {
            candle_core::bail!("{} changes a tensor whose values do not lie one after the other", self.kernel);
        }
        Ok(self.push(Buffer::Changed(tensor.clone())))
    }

    /// A tensor that is made.
    pub(super) fn make(&mut self, dtype: DType, shape: impl Into<Shape>) -> Handle {
        self.push(Buffer::Made(dtype, shape.into()))
    }

    /// f32 values that are needed in between.
    pub(super) fn scratch(&mut self, count: usize) -> Handle {
        self.push(Buffer::Scratch(DType::F32, count))
    }

    /// Launches `function` in blocks of this shape, so many along x and y.
    pub(super) fn launch<const N: usize>(
        &mut self,
        function: String,
        grid: [u64; 2],
        block: [u32; 2],
        arguments: [Argument; N],
    ) -> Result<()> {
        let [Ok(x), Ok(y)] = grid.map(|blocks| i32::try_from(blocks).map(i32::cast_unsigned)) else {
            candle_core::bail!("{function} would take {grid:?} blocks, more than a GPU counts");
        };
        self.launches.push(Launch { function, grid: [x, y], block, arguments: arguments.to_vec() });
        Ok(())
    }

    /// Launches `function` on `count` values, PACK of them a thread if they lie so.
    pub(super) fn launch_each<const N: usize>(
        &mut self,
        function: String,
        count: usize,
        arguments: [Argument; N],
    ) -> Result<()> {
        let blocks = (count as u64).div_ceil(u64::from(THREADS) * PACK).clamp(1, MOST_BLOCKS);
        self.launch(function, [blocks, 1], [THREADS, 1], arguments)
    }

    fn check(&self, tensor: &Tensor, dtype: DType, count: usize) -> Result<()> {
        if (tensor.dtype(), tensor.elem_count()) != (dtype, count) {
            let (found, values) = (tensor.dtype(), tensor.elem_count());
            candle_core::bail!("{} was given {values} values of {found:?} for {count} of {dtype:?}", self.kernel);
        }
        Ok(())
    }

    fn push(&mut self, buffer: Buffer) -> Handle {
        self.buffers.push(buffer);
        Handle(self.buffers.len() - 1)
    }
}

/// The kernel of this name for tensors of this type.
pub(super) fn named(name: &str, dtype: DType) -> Result<String> {
    match dtype {
        DType::F32 => Ok(format!("{name}_f32")),
        DType::BF16 => Ok(format!("{name}_bf16")),
        other => candle_core::bail!("there is no kernel {name} for {other:?}"),
    }
}

/// A number as the kernels compute with it.
#[allow(clippy::cast_possible_truncation, reason = "kernels compute in f32")]
pub(super) fn single(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dtype: DType) -> Tensor {
        Tensor::zeros((2, 3), dtype, &Device::Cpu).unwrap()
    }

    #[test]
    fn a_tensor_of_another_size_or_type_or_in_pieces_is_refused() {
        let mut plan = Plan::of(Kernel::Rope);
        assert!(plan.read(&tensor(DType::F32), DType::F32, 6).is_ok());
        assert!(plan.read(&tensor(DType::F32).t().unwrap(), DType::F32, 6).is_ok(), "it is copied");
        for (found, count) in [(DType::F32, 7), (DType::BF16, 6)] {
            let error = plan.read(&tensor(DType::F32), found, count).unwrap_err().to_string();
            assert!(error.contains("rope was given 6 values of F32"), "{error}");
        }
        assert!(plan.change(&tensor(DType::F32).t().unwrap(), DType::F32, 6).is_err());
        assert!(named("rope", DType::F64).is_err());
    }

    #[test]
    fn blocks_are_neither_none_nor_more_than_are_counted() {
        let mut plan = Plan::of(Kernel::Casts);
        for (count, blocks) in [(1, 1), (1024, 1), (1025, 2), (usize::MAX, 1 << 16)] {
            plan.launch_each("x".to_owned(), count, [count.into()]).unwrap();
            assert_eq!(plan.launches().last().unwrap().grid, [blocks, 1], "{count}");
        }
        assert!(plan.launch("x".to_owned(), [1 << 31, 1], [1, 1], []).is_err());
    }
}
