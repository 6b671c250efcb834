//! The operations next door for f32 on a CPU, where most of the time of a composed operation goes into memory that is written and read again: each
//! in one pass, with the widest instructions that the processor has. What is computed is said next door, and tests hold both against each other.
//!
//! Work is divided by the shape of the input alone and partial sums are added in a fixed order, so that a result depends on neither timing nor threads.

#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the processor's widest instructions")]

pub(super) mod attention;
pub(super) mod head_loss;
pub(super) mod rms_norm;
pub(super) mod rope;
mod simd;
pub(super) mod swiglu;

use std::cell::RefCell;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Storage, Tensor};
use rayon::prelude::*;

use crate::wide::wide;

/// How many values a piece of parallel work has at least: about 10 µs of it, beside which handing it to another thread is nothing.
const PIECE: usize = 1 << 14;

/// Whether what is here serves these tensors.
pub(super) fn serves(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32)
}

/// Reads tensors that are [served](serves), in the order of their indices; only those that do not lie so are copied.
fn read<const N: usize, R>(tensors: [&Tensor; N], work: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let tensors = tensors.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>>>()?;
    let guards: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = [[].as_slice(); N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        match &**storage {
            Storage::Cpu(storage) => {
                let begin = layout.start_offset();
                *slice = &storage.as_slice::<f32>()?[begin..begin + layout.shape().elem_count()];
            }
            _ => candle_core::bail!("a tensor on a CPU has its values elsewhere"),
        }
    }
    Ok(work(slices))
}

/// How many rows of `width` values are worked on together.
fn rows_of(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// Changes a tensor that is [served](serves) where it lies: one that nobody else reads, and whose values lie one after the other.
fn change(tensor: &Tensor, work: impl FnMut(&mut [f32])) -> Result<()> {
    tensor.inplace_op1(&Change(RefCell::new(work)))
}

/// Adds `part` to `total` where that lies; both are [served](serves) and of one shape.
pub(super) fn add(total: &Tensor, part: &Tensor) -> Result<()> {
    read([part], |[part]| {
        change(total, |total| {
            total.par_chunks_mut(PIECE).zip(part.par_chunks(PIECE)).for_each(|(total, part)| {
                add_piece(total, part);
            });
        })
    })?
}

/// Adds each row of `rows` (T, n) to the row of `total` that its id says, in the order of the rows; both are [served](serves).
pub(super) fn add_rows(total: &Tensor, ids: &[u32], rows: &Tensor) -> Result<()> {
    let width = rows.elem_count() / ids.len().max(1);
    read([rows], |[rows]| {
        change(total, |total| {
            for (id, row) in ids.iter().zip(rows.chunks_exact(width)) {
                add_piece(&mut total[*id as usize * width..][..width], row);
            }
        })
    })?
}

wide! {
    fn add_piece(total: &'w mut [f32], part: &'w [f32]) -> () {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
}

struct Change<F>(RefCell<F>);

impl<F: FnMut(&mut [f32])> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(values), Some((begin, end))) => (self.0.borrow_mut())(&mut values[begin..end]),
            _ => candle_core::bail!("only f32 values that lie one after the other are changed in place"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::finite_differences::{distance, noise};
    use super::super::{
        Attention, HeadLoss, RopeTable, Segments, attention_bwd, attention_fwd, head_loss_bwd, inverse_frequencies,
        rms_norm_bwd, rms_norm_fwd, rope_bwd, rope_fwd, swiglu_bwd, swiglu_fwd,
    };
    use super::*;

    /// What `compute` makes of these inputs composed in f64, and twice by what is here in f32: close, and the same to the bit.
    fn assert_agrees(inputs: &[Tensor], compute: impl Fn(&[Tensor]) -> Vec<Tensor>) {
        let single: Vec<Tensor> = inputs.iter().map(|input| input.to_dtype(DType::F32).unwrap()).collect();
        assert!(serves(&single.iter().collect::<Vec<_>>()) && !serves(&inputs.iter().collect::<Vec<_>>()));
        let bits = |tensor: &Tensor| -> Vec<u32> {
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        let (expected, found, again) = (compute(inputs), compute(&single), compute(&single));
        for (at, ((expected, found), again)) in expected.iter().zip(&found).zip(&again).enumerate() {
            assert!(distance(found, expected) < 2e-6, "result {at}: {:e}", distance(found, expected));
            assert_eq!(bits(found), bits(again), "result {at}");
        }
    }

    #[test]
    fn rows_over_several_pieces_are_what_the_composed_operations_make_of_them() {
        let [x, gy, other] = [1, 2, 3].map(|seed| (noise(&[700, 2, 50], seed) * 3.0).unwrap());
        assert!(x.elem_count() > 4 * PIECE);
        assert_agrees(&[x.clone(), gy.clone(), noise(&[50], 4)], |of| {
            let (gx, g_weight) = rms_norm_bwd(&of[0], &of[1], &of[2], 1e-5, true).unwrap();
            let frozen = rms_norm_bwd(&of[0], &of[1], &of[2], 1e-5, false).unwrap().0;
            vec![rms_norm_fwd(&of[0], &of[2], 1e-5).unwrap(), gx, g_weight.unwrap(), frozen]
        });
        assert_agrees(&[x.clone(), gy.clone(), other], |of| {
            let (g_gate, g_up) = swiglu_bwd(&of[0], &of[2], &of[1]).unwrap();
            vec![swiglu_fwd(&of[0], &of[2]).unwrap(), g_gate, g_up]
        });
        let positions: Vec<u32> = (0..700).collect();
        assert_agrees(&[x, gy], |of| {
            let frequencies = inverse_frequencies(1e4, 50, None);
            let table = RopeTable::new(&frequencies, &positions, of[0].dtype(), &Device::Cpu).unwrap();
            vec![rope_fwd(&of[0], &table).unwrap(), rope_bwd(&of[1], &table).unwrap()]
        });
    }

    #[test]
    fn attention_and_loss_are_what_the_composed_operations_make_of_them() {
        let how = Attention::of_head(20).on(&Device::Cpu);
        // Sequences of less and of more than one block of queries and of keys, and more heads of keys than pieces.
        for (lengths, heads, kv_heads) in [(vec![131, 19], 6, 2), (vec![1, 1100], 3, 3), (vec![40], 26, 13)] {
            let (segments, tokens) = (Segments::new(&lengths).unwrap(), lengths.iter().sum());
            let shapes = [[tokens, heads, 20], [tokens, kv_heads, 20], [tokens, kv_heads, 20], [tokens, heads, 20]];
            let inputs: Vec<_> = (5..).zip(shapes).map(|(seed, shape)| (noise(&shape, seed) * 2.0).unwrap()).collect();
            assert_agrees(&inputs, |of| {
                let attended = attention_fwd(&of[0], &of[1], &of[2], &segments, &how).unwrap();
                let inputs = [&of[0], &of[1], &of[2]];
                let (gq, gk, gv) = attention_bwd(inputs, &attended, &of[3], &segments, &how).unwrap();
                vec![attended.output, gq, gk, gv]
            });
        }
        let loss = HeadLoss::new(&(0..150).map(|at| (at % 3 > 0).then_some(at % 90)).collect::<Vec<_>>());
        for loss in [loss.clone(), loss.penalise(0.02)] {
            assert_agrees(&[noise(&[150, 20], 9), (noise(&[90, 20], 10) * 4.0).unwrap()], |of| {
                let gradients = head_loss_bwd(&of[0], &of[1], &loss, 0.01, true).unwrap();
                vec![gradients.hidden, gradients.weight.unwrap()]
            });
        }
    }
}
