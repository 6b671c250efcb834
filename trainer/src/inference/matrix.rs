//! A weight matrix as it is kept for inference, and its product with a few or many rows of activations, on all threads.

use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;

use super::rounded::Rounded;
use super::simd;

/// How many rows a thread takes at a time: with the fewest columns that models have, long enough for its start to cost little.
const SHARE: usize = 64;

/// How many rows of activations are multiplied while they are near: at 1,536 values each they take 300 KB, most of a core's cache.
const NEAR: usize = 48;

/// What the values of matrices are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kept {
    /// 32 bits
    F32,
    /// 16 bits, with the range of 32
    Bf16,
    /// 8 bits and a scale for every 32 of them, as in GGUF files; what they are multiplied with is rounded so too; on processors alone
    #[value(name = "q8_0")]
    Q8,
}

/// The values of a matrix, as they are kept.
#[derive(Debug)]
enum Values {
    F32(Vec<f32>),
    /// The upper halves of f32's bits.
    Bf16(Vec<u16>),
    Q8(Rounded),
}

/// Rows of one length, as in Hugging Face's linear layers: (out, in).
#[derive(Debug)]
pub(super) struct Matrix {
    values: Values,
    rows: usize,
    columns: usize,
}

impl Matrix {
    /// One matrix of the rows of several.
    pub(super) fn new(parts: &[Tensor], kept: Kept) -> Result<Self> {
        let whole = Tensor::cat(parts, 0)?;
        let (rows, columns) = whole.dims2()?;
        let wide = |tensor: Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let values = match kept {
            Kept::F32 => Values::F32(wide(whole)?),
            Kept::Bf16 => Values::Bf16(wide(whole.to_dtype(DType::BF16)?)?.into_iter().map(upper_half).collect()),
            Kept::Q8 => Values::Q8(Rounded::new(&wide(whole)?, columns)),
        };
        Ok(Self { values, rows, columns })
    }

    /// The bytes that it takes.
    pub(super) fn bytes(&self) -> u64 {
        match &self.values {
            Values::F32(values) => size_of_val(values.as_slice()) as u64,
            Values::Bf16(values) => size_of_val(values.as_slice()) as u64,
            Values::Q8(values) => values.bytes(),
        }
    }

    /// A row, widened.
    pub(super) fn row(&self, at: usize, wide: &mut [f32]) {
        match &self.values {
            Values::F32(values) => wide.copy_from_slice(&values[at * self.columns..][..self.columns]),
            Values::Bf16(values) => simd::widen(&values[at * self.columns..][..self.columns], wide),
            Values::Q8(values) => values.row(at, wide),
        }
    }

    /// The product of rows of activations `x` (n, in) with the matrix: (n, out).
    pub(super) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let count = x.len() / self.columns;
        let mut turned = vec![0.0; self.rows * count];
        let shares = turned.par_chunks_mut(SHARE * count.max(1)).enumerate();
        match &self.values {
            Values::F32(values) => shares.for_each(|(at, result)| share(values, self.columns, at, x, result)),
            Values::Bf16(values) => shares.for_each(|(at, result)| share(values, self.columns, at, x, result)),
            Values::Q8(values) => {
                let x = Rounded::new(x, self.columns);
                shares.for_each(|(at, result)| values.products(at * SHARE, &x, result));
            }
        }
        if count == 1 { turned } else { turn(&turned, self.rows, count) }
    }
}

/// A number that is multiplied as f32.
trait Number: Sized {
    /// As f32, where need be in `scratch`.
    fn wide<'a>(values: &'a [Self], scratch: &'a mut Vec<f32>) -> &'a [f32];
}

impl Number for f32 {
    fn wide<'a>(values: &'a [Self], _: &'a mut Vec<f32>) -> &'a [f32] {
        values
    }
}

impl Number for u16 {
    fn wide<'a>(values: &'a [Self], scratch: &'a mut Vec<f32>) -> &'a [f32] {
        scratch.resize(values.len(), 0.0);
        simd::widen(values, scratch);
        scratch
    }
}

/// The products of a share of a matrix's rows with all of `x`: (rows of the share, n).
fn share<V: Number>(values: &[V], columns: usize, at: usize, x: &[f32], result: &mut [f32]) {
    let count = x.len() / columns;
    let (first, rows) = (at * SHARE, result.len() / count);
    let mut scratch = Vec::new();
    for (tile, x) in x.chunks(NEAR * columns).enumerate() {
        for at in (0..rows).step_by(simd::ROWS) {
            let taken = simd::ROWS.min(rows - at);
            let values = V::wide(&values[(first + at) * columns..][..taken * columns], &mut scratch);
            simd::products(values, x, columns, &mut |row, column, value| {
                result[(at + row) * count + tile * NEAR + column] = value;
            });
        }
    }
}

/// A bf16 value, which an f32 holds, as 16 bits.
#[allow(clippy::cast_possible_truncation, reason = "the bits that are cut off are shifted out")]
fn upper_half(value: f32) -> u16 {
    (value.to_bits() >> 16) as u16
}

/// (rows, columns) to (columns, rows).
fn turn(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut turned = vec![0.0; values.len()];
    turned.par_chunks_mut(rows).enumerate().for_each(|(column, turned)| {
        turned.iter_mut().enumerate().for_each(|(row, value)| *value = values[row * columns + column]);
    });
    turned
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(rows: usize, columns: usize, seed: u64) -> Tensor {
        crate::ops::finite_differences::noise(&[rows, columns], seed).to_dtype(DType::F32).unwrap()
    }

    #[test]
    fn the_product_is_candles_for_one_row_and_for_many() {
        let parts = [tensor(70, 24, 1), tensor(61, 24, 2)];
        let whole = Tensor::cat(&parts, 0).unwrap();
        let rounded = whole.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
        // In 8 bits both sides are off by half of 1/127 of their largest values, here 1, in each of 24 products.
        for (kept, expected_of, bound) in
            [(Kept::F32, &whole, 1e-5), (Kept::Bf16, &rounded, 1e-5), (Kept::Q8, &whole, 0.1)]
        {
            let matrix = Matrix::new(&parts, kept).unwrap();
            for count in [1, 2, 3, 7, 50, 100] {
                let x = tensor(count, 24, 3);
                let expected = x.matmul(&expected_of.t().unwrap()).unwrap();
                let result = matrix.apply(&x.flatten_all().unwrap().to_vec1().unwrap());
                let result = Tensor::from_vec(result, (count, 131), &Device::Cpu).unwrap();
                let gap = (result - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(gap < bound, "{count} rows in {kept:?}: off by {gap}");
            }
        }
    }

    #[test]
    fn a_row_is_read_as_it_was_given() {
        let values = tensor(5, 9, 4);
        let matrix = Matrix::new(std::slice::from_ref(&values), Kept::F32).unwrap();
        let mut row = [0.0; 9];
        matrix.row(3, &mut row);
        assert_eq!(row.to_vec(), values.get(3).unwrap().to_vec1::<f32>().unwrap());
    }
}
