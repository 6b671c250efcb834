//! Root-mean-square normalisation: see [`rms_norm_fwd`](super::super::rms_norm_fwd), of whose roundings it has all; only the order of sums differs.

use candle_core::{DType, Result, Tensor};

use super::plan::{Handle, Plan, named, single};
use super::{Kernel, Runner, only, several};

/// Rows up to this width have a warp each, and longer ones a block.
const NARROW: usize = 512;
/// How many columns a block sums, and how many of its threads share a column.
const COLUMNS: u32 = 32;
const SHARING: u32 = 8;
/// How many slices of rows are summed apart at most: enough blocks for any GPU, and little to add up.
const SLICES: usize = 256;
/// How many rows a slice has at least.
const LEAST: usize = 64;

/// As [`rms_norm_fwd`](super::super::rms_norm_fwd), for `x` (…, n) and `weight` (n), both f32 or both bf16.
pub fn forward(on: &dyn Runner, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let mut plan = Plan::of(Kernel::RmsNorm);
    let rows = Rows::of(x, weight);
    let y = plan.make(x.dtype(), x.shape());
    let x_read = plan.read(x, x.dtype(), rows.count * rows.width)?;
    let weight = plan.read(weight, x.dtype(), rows.width)?;
    let (grid, block) = rows.blocks();
    let arguments = [
        y.into(),
        x_read.into(),
        weight.into(),
        rows.count.into(),
        rows.width.into(),
        rows.share().into(),
        single(eps).into(),
    ];
    plan.launch(named("rms_norm_forward", x.dtype())?, grid, block, arguments)?;
    only(on.run(&plan)?)
}

/// As [`rms_norm_bwd`](super::super::rms_norm_bwd), for tensors as in [`forward`].
pub fn backward(
    on: &dyn Runner,
    x: &Tensor,
    gy: &Tensor,
    weight: &Tensor,
    eps: f64,
    trained: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let mut plan = Plan::of(Kernel::RmsNorm);
    let (rows, dtype) = (Rows::of(x, weight), x.dtype());
    let (gx, scales) = (plan.make(dtype, x.shape()), plan.scratch(rows.count));
    let x = plan.read(x, dtype, rows.count * rows.width)?;
    let gy = plan.read(gy, dtype, rows.count * rows.width)?;
    let weight = plan.read(weight, dtype, rows.width)?;
    let (grid, block) = rows.blocks();
    let arguments = [
        gx.into(),
        scales.into(),
        x.into(),
        gy.into(),
        weight.into(),
        rows.count.into(),
        rows.width.into(),
        rows.share().into(),
        single(eps).into(),
    ];
    plan.launch(named("rms_norm_backward", dtype)?, grid, block, arguments)?;
    if !trained {
        return Ok((only(on.run(&plan)?)?, None));
    }
    rows.sum_by_weight(&mut plan, [x, gy, scales], dtype)?;
    let [gx, g_weight] = several(on.run(&plan)?)?;
    Ok((gx, Some(g_weight)))
}

/// The rows that are normalised.
struct Rows {
    count: usize,
    width: usize,
}

impl Rows {
    fn of(x: &Tensor, weight: &Tensor) -> Self {
        let width = weight.elem_count().max(1);
        Self { count: x.elem_count() / width, width }
    }

    /// One over a row's width.
    #[allow(clippy::cast_precision_loss, reason = "rows are shorter than 2^24")]
    fn share(&self) -> f32 {
        single(1.0 / self.width as f64)
    }

    /// How many blocks of which shape.
    fn blocks(&self) -> ([u64; 2], [u32; 2]) {
        let block = if self.width <= NARROW { [32, 8] } else { [256, 1] };
        ([(self.count as u64).div_ceil(u64::from(block[1])), 1], block)
    }

    /// Adds up the weight's gradient, first over slices of rows and then over these, always in the same order.
    fn sum_by_weight(&self, plan: &mut Plan, [x, gy, scales]: [Handle; 3], dtype: DType) -> Result<()> {
        let slice = self.count.div_ceil(SLICES).max(LEAST);
        let slices = self.count.div_ceil(slice);
        let (total, parts) = (plan.make(DType::F32, self.width), plan.scratch(slices * self.width));
        let (columns, block) = ((self.width as u64).div_ceil(u64::from(COLUMNS)), [COLUMNS, SHARING]);
        let arguments =
            [parts.into(), x.into(), gy.into(), scales.into(), self.count.into(), self.width.into(), slice.into()];
        plan.launch(named("rms_norm_weight", dtype)?, [columns, slices as u64], block, arguments)?;
        let arguments = [total.into(), parts.into(), slices.into(), self.width.into()];
        plan.launch("rms_norm_weight_total".to_owned(), [columns, 1], block, arguments)
    }
}
