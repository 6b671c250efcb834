//! How the tensors of a unit lie one after the other in flat values, and which of those values each rank has. No optimizer and no model.

use std::ops::Range;

use candle_core::{DType, Error, Storage, Tensor};
use rayon::prelude::*;

use crate::wide::wide;

/// One tensor's place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// Its Hugging Face name.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
    pub(super) decays: bool,
}

/// Tensors one after the other, without padding.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    pub(super) parts: Vec<Part>,
}

impl Layout {
    /// Puts a tensor behind the others.
    pub(super) fn push(&mut self, name: String, shape: &[usize], decays: bool) {
        let begin = self.total();
        let range = begin..begin + shape.iter().product::<usize>();
        self.parts.push(Part { name, shape: shape.to_vec(), range, decays });
    }

    /// How many values there are.
    pub(super) fn total(&self) -> usize {
        self.parts.last().map_or(0, |part| part.range.end)
    }

    /// The tensor of this name.
    pub(super) fn find(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// The stretches of `within` whose values all decay or all do not.
    pub(super) fn runs(&self, within: &Range<usize>) -> Vec<(Range<usize>, bool)> {
        let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
        for part in &self.parts {
            let cut = intersection(&part.range, within);
            match runs.last_mut() {
                _ if cut.is_empty() => {}
                Some((range, decays)) if *decays == part.decays => range.end = cut.end,
                _ => runs.push((cut, part.decays)),
            }
        }
        runs
    }
}

/// What both have; empty where they do not meet.
pub(super) fn intersection(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

/// Where each rank's part of `total` values begins, and where the last ends: parts differ by one value at most.
pub(super) fn bounds(total: usize, world: usize) -> Vec<usize> {
    let (each, over) = (total / world, total % world);
    (0..=world).map(|rank| rank * each + rank.min(over)).collect()
}

/// Rank `rank`'s part of `total` values.
pub(super) fn own(total: usize, world: usize, rank: usize) -> Range<usize> {
    let bounds = bounds(total, world);
    bounds[rank]..bounds[rank + 1]
}

/// Hands over a tensor's values, in f32, without a copy where they lie so already.
pub(super) fn with_values<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T, Error> {
    let tensor = tensor.to_dtype(DType::F32)?;
    let (storage, layout) = tensor.storage_and_layout();
    if let (Storage::Cpu(storage), Some((begin, end))) = (&*storage, layout.contiguous_offsets()) {
        return Ok(read(&storage.as_slice::<f32>()?[begin..end]));
    }
    drop(storage);
    Ok(read(&tensor.flatten_all()?.to_vec1::<f32>()?))
}

/// Adds `values` to `total`, and says whether all of them are finite.
pub(super) fn add(total: &mut [f32], values: &[f32]) -> bool {
    let pieces = total.par_chunks_mut(PIECE).zip(values.par_chunks(PIECE));
    pieces.map(|(total, values)| add_piece(total, values)).max().unwrap_or(0) < f32::INFINITY.to_bits()
}

// Gives the largest exponent, by whole numbers: a maximum of floats does not order NaN, nor does it vectorise.
wide! {
    fn add_piece(total: &'w mut [f32], values: &'w [f32]) -> u32 {
        let mut largest = 0;
        for (total, value) in total.iter_mut().zip(values) {
            *total += value;
            largest = largest.max(value.to_bits() & !SIGN);
        }
        largest
    }
}

/// How many values a thread adds at a time.
const PIECE: usize = 1 << 15;

/// The bit of an f32 that holds its sign.
const SIGN: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn layout() -> Layout {
        let mut layout = Layout::default();
        layout.push("a".to_owned(), &[2, 3], true);
        layout.push("b".to_owned(), &[5], true);
        layout.push("c".to_owned(), &[4], false);
        layout
    }

    #[test]
    fn parts_of_ranks_cover_all_values_once_and_differ_by_one_at_most() {
        for (total, world) in [(10, 4), (3, 4), (0, 2), (8, 1)] {
            let bounds = bounds(total, world);
            assert_eq!((bounds.len(), bounds[0], bounds[world]), (world + 1, 0, total));
            let sizes: Vec<_> = bounds.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
            assert_eq!(own(total, world, world - 1), bounds[world - 1]..total);
        }
    }

    #[test]
    fn a_run_goes_on_as_long_as_decay_does() {
        assert_eq!(layout().total(), 15);
        assert_eq!(layout().runs(&(0..15)), [(0..11, true), (11..15, false)]);
        assert_eq!(layout().runs(&(7..12)), [(7..11, true), (11..12, false)]);
        assert_eq!(layout().runs(&(4..4)), []);
    }

    #[test]
    fn a_sum_says_whether_what_was_added_is_finite() {
        let mut total = vec![1.0, 2.0];
        assert!(add(&mut total, &[f32::MAX, -1.0]));
        assert_eq!(total, [f32::MAX, 1.0]);
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!add(&mut total, &[0.0, bad]));
        }
    }

    #[test]
    fn values_are_read_in_order_from_a_transposed_and_from_a_narrow_tensor() {
        let tensor = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let read = |tensor: &Tensor| with_values(tensor, <[f32]>::to_vec).unwrap();
        assert_eq!(read(&tensor.t().unwrap()), [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(read(&tensor.narrow(0, 1, 1).unwrap()), [3.0, 4.0]);
        assert_eq!(read(&tensor.to_dtype(DType::BF16).unwrap()), [1.0, 2.0, 3.0, 4.0]);
    }
}
