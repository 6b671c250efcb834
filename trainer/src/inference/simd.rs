//! Dot products and weighted sums of f32 rows, with the vector instructions that the processor has. A pair of rows is summed in one order however
//! many pairs are computed beside it: what a request is answered does not depend, to the bit, on what else is computed in the same step.

#![allow(
    clippy::inline_always,
    reason = "what is not inlined into the dispatch is compiled without the instructions that it chose"
)]

use std::sync::LazyLock;

use pulp::{Arch, Simd, WithSimd};

use crate::wide::wide;

/// What the processor has.
static ARCH: LazyLock<Arch> = LazyLock::new(Arch::new);

/// How many rows of a matrix are multiplied at once, with up to [`COLUMNS`] others: 12 sums and their operands fill AVX2's 16 registers.
pub(super) const ROWS: usize = 4;
/// See [`ROWS`].
pub(super) const COLUMNS: usize = 3;

/// Hands each product of one of `rows` with one of `columns`, all of `size` values, to `put` as (row, column, product).
pub(super) fn products(rows: &[f32], columns: &[f32], size: usize, put: &mut impl FnMut(usize, usize, f32)) {
    ARCH.dispatch(Products { rows, columns, size, put });
}

struct Products<'a, F> {
    rows: &'a [f32],
    columns: &'a [f32],
    size: usize,
    put: &'a mut F,
}

impl<F: FnMut(usize, usize, f32)> WithSimd for Products<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, columns, size, put } = self;
        for (at, rows) in rows.chunks(ROWS * size).enumerate() {
            for (beside, columns) in columns.chunks(COLUMNS * size).enumerate() {
                let mut put = |row, column, value| put(at * ROWS + row, beside * COLUMNS + column, value);
                if rows.len() == ROWS * size {
                    by_columns::<S, ROWS>(simd, rows, columns, size, 0, &mut put);
                } else {
                    for (row, values) in rows.chunks(size).enumerate() {
                        by_columns::<S, 1>(simd, values, columns, size, row, &mut put);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn by_columns<S: Simd, const R: usize>(
    simd: S,
    rows: &[f32],
    columns: &[f32],
    size: usize,
    first: usize,
    put: &mut impl FnMut(usize, usize, f32),
) {
    match columns.len() / size {
        3 => tile::<S, R, 3>(simd, rows, columns, size, first, put),
        2 => tile::<S, R, 2>(simd, rows, columns, size, first, put),
        _ => tile::<S, R, 1>(simd, rows, columns, size, first, put),
    }
}

/// R rows by C columns.
#[inline(always)]
fn tile<S: Simd, const R: usize, const C: usize>(
    simd: S,
    rows: &[f32],
    columns: &[f32],
    size: usize,
    first: usize,
    put: &mut impl FnMut(usize, usize, f32),
) {
    let rows: [_; R] = std::array::from_fn(|row| S::as_simd_f32s(&rows[row * size..][..size]));
    let columns: [_; C] = std::array::from_fn(|column| S::as_simd_f32s(&columns[column * size..][..size]));
    let count = rows[0].0.len();
    let (row_vectors, column_vectors) = (rows.map(|row| &row.0[..count]), columns.map(|column| &column.0[..count]));
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    for at in 0..count {
        let column = column_vectors.map(|vectors| vectors[at]);
        for (sums, vectors) in sums.iter_mut().zip(row_vectors) {
            for (sum, column) in sums.iter_mut().zip(column) {
                *sum = simd.mul_add_f32s(vectors[at], column, *sum);
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        for (column, sum) in sums.into_iter().enumerate() {
            let rest = rows[row].1.iter().zip(columns[column].1).map(|(a, b)| a * b).sum::<f32>();
            put(first + row, column, simd.reduce_sum_f32s(sum) + rest);
        }
    }
}

/// Adds `weights[i] · rows[i]` to `sum`, row by row; rows are as long as `sum`.
pub(super) fn add_weighted(sum: &mut [f32], rows: &[f32], weights: &[f32]) {
    ARCH.dispatch(AddWeighted { sum, rows, weights });
}

struct AddWeighted<'a> {
    sum: &'a mut [f32],
    rows: &'a [f32],
    weights: &'a [f32],
}

impl WithSimd for AddWeighted<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let size = self.sum.len();
        let (sums, rest) = S::as_mut_simd_f32s(self.sum);
        for (row, weight) in self.rows.chunks_exact(size).zip(self.weights) {
            let wide = simd.splat_f32s(*weight);
            let (vectors, values) = S::as_simd_f32s(row);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = simd.mul_add_f32s(*vector, wide, *sum);
            }
            rest.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * weight);
        }
    }
}

// Widens bf16 values, each the upper half of an f32's bits.
wide! {
    pub(super) fn widen(halves: &'w [u16], values: &'w mut [f32]) -> () {
        for (value, half) in values.iter_mut().zip(halves) {
            *value = f32::from_bits(u32::from(*half) << 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::values;
    use super::*;

    fn all(rows: &[f32], columns: &[f32], size: usize) -> Vec<f32> {
        let across = columns.len() / size;
        let mut result = vec![f32::NAN; rows.len() / size * across];
        products(rows, columns, size, &mut |row, column, value| result[row * across + column] = value);
        result
    }

    #[test]
    fn every_pair_is_multiplied_whatever_is_left_over() {
        for (rows, columns, size) in [(1, 1, 5), (4, 3, 16), (5, 4, 19), (9, 7, 64), (3, 2, 8)] {
            let (a, b) = (values(rows * size, 1), values(columns * size, 2));
            let result = all(&a, &b, size);
            for (at, value) in result.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let expected: f32 = (0..size).map(|i| a[row * size + i] * b[column * size + i]).sum();
                assert!((value - expected).abs() < 1e-4, "row {row} of {rows}, column {column} of {columns}");
            }
        }
    }

    #[test]
    fn a_product_is_the_same_to_the_bit_alone_and_among_others() {
        let (size, a, b) = (43, values(9 * 43, 3), values(8 * 43, 4));
        let together = all(&a, &b, size);
        for (row, values) in a.chunks(size).enumerate() {
            for (column, others) in b.chunks(size).enumerate() {
                assert_eq!(all(values, others, size)[0].to_bits(), together[row * 8 + column].to_bits());
            }
        }
    }

    #[test]
    fn weighted_rows_are_added() {
        let mut sum = vec![1.0; 11];
        let rows = values(3 * 11, 5);
        add_weighted(&mut sum, &rows, &[0.5, -1.0, 2.0]);
        for (at, value) in sum.iter().enumerate() {
            let expected = 1.0 + 0.5 * rows[at] - rows[11 + at] + 2.0 * rows[22 + at];
            assert!((value - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn half_width_values_are_widened_exactly() {
        let mut wide = [0.0; 3];
        widen(&[0x3f80, 0xc000, 0x0001], &mut wide);
        assert_eq!(wide.map(f32::to_bits), [1.0_f32.to_bits(), (-2.0_f32).to_bits(), 0x0001_0000]);
    }
}
