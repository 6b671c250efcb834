//! Rows of 8-bit numbers with a scale for every 32 of them, as GGUF's `Q8_0` has them, and their products with rows of activations that are rounded in
//! the same way, as llama.cpp computes them: whole numbers within a block, f32 from block to block. A quarter of f32's memory is read, and a product
//! is the same to the bit whatever is computed beside it and whichever instructions compute it.

/// How many numbers share a scale.
const BLOCK: usize = 32;
/// How many sums a product is spread over: AVX2's vectors of f32.
const LANES: usize = 8;
/// How many rows of a matrix are multiplied at once, with up to [`COLUMNS`] others: eight sums and their operands fill AVX2's 16 registers.
const ROWS: usize = 4;
/// See [`ROWS`].
const COLUMNS: usize = 2;
/// How many rows of activations are multiplied while they are near.
const NEAR: usize = 96;
/// The largest 8-bit number that is used; its negative is the smallest.
const LARGEST: f32 = 127.0;

/// A block's numbers, in halves: as many 16-bit numbers fill one of AVX2's vectors.
type Block = [[i8; BLOCK / 2]; 2];

/// Rows of one length; where that is no multiple of [`BLOCK`], zeros follow.
#[derive(Debug)]
pub(super) struct Rounded {
    values: Vec<Block>,
    scales: Vec<f32>,
    /// How many blocks a row has.
    blocks: usize,
}

/// A few rows.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [Block],
    scales: &'a [f32],
    blocks: usize,
}

impl Rounded {
    /// Rows of `columns` values each, rounded to the nearest multiples of their blocks' scales, which are the largest values through 127.
    pub(super) fn new(values: &[f32], columns: usize) -> Self {
        let blocks = columns.div_ceil(BLOCK);
        let count = values.len() / columns * blocks;
        let (mut rounded, mut scales) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for block in values.chunks_exact(columns).flat_map(|row| row.chunks(BLOCK)) {
            let scale = largest(block) / LARGEST;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let mut whole = Block::default();
            let each = whole.as_flattened_mut().iter_mut().zip(block);
            each.for_each(|(whole, value)| *whole = nearest(value * inverse));
            rounded.push(whole);
            scales.push(scale);
        }
        Self { values: rounded, scales, blocks }
    }

    /// The bytes that it takes.
    pub(super) fn bytes(&self) -> u64 {
        (size_of_val(self.values.as_slice()) + size_of_val(self.scales.as_slice())) as u64
    }

    /// A row, widened.
    pub(super) fn row(&self, at: usize, wide: &mut [f32]) {
        let row = self.rows(at, 1);
        for ((wide, block), scale) in wide.chunks_mut(BLOCK).zip(row.values).zip(row.scales) {
            wide.iter_mut().zip(block.as_flattened()).for_each(|(wide, value)| *wide = f32::from(*value) * scale);
        }
    }

    /// The products of the rows from `first` on with all of `x`: (rows, n), as many as there is room for in `result`.
    pub(super) fn products(&self, first: usize, x: &Self, result: &mut [f32]) {
        let count = x.values.len() / x.blocks;
        let rows = self.rows(first, result.len() / count);
        for (tile, near) in x.rows(0, count).chunks(NEAR).enumerate() {
            let from = tile * NEAR;
            multiply(rows, near, &mut |row, column, value| result[row * count + from + column] = value);
        }
    }

    fn rows(&self, first: usize, count: usize) -> Rows<'_> {
        Rows { values: &self.values, scales: &self.scales, blocks: self.blocks }.part(first, count)
    }
}

impl<'a> Rows<'a> {
    fn part(self, first: usize, count: usize) -> Self {
        let range = first * self.blocks..(first + count) * self.blocks;
        Self { values: &self.values[range.clone()], scales: &self.scales[range], ..self }
    }

    fn chunks(self, rows: usize) -> impl Iterator<Item = Rows<'a>> {
        let size = rows * self.blocks;
        let parts = self.values.chunks(size).zip(self.scales.chunks(size));
        parts.map(move |(values, scales)| Rows { values, scales, blocks: self.blocks })
    }

    fn each<const N: usize>(self) -> [Rows<'a>; N] {
        std::array::from_fn(|at| self.part(at, 1))
    }

    fn count(self) -> usize {
        self.values.len() / self.blocks
    }
}

/// The largest absolute value, or what is no number, if any is: damaged weights are not to become whole ones.
fn largest(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |largest, value| if value.is_nan() || value.abs() > largest { value.abs() } else { largest })
}

#[allow(clippy::cast_possible_truncation, reason = "at most 127 either way; of what is no number the scale is none")]
fn nearest(value: f32) -> i8 {
    value.round_ties_even() as i8
}

/// Hands each product of one of `rows` with one of `columns` to `put` as (row, column, product).
fn multiply(rows: Rows<'_>, columns: Rows<'_>, put: &mut impl FnMut(usize, usize, f32)) {
    for (at, rows) in rows.chunks(ROWS).enumerate() {
        for (beside, columns) in columns.chunks(COLUMNS).enumerate() {
            let mut put = |row, column, value| put(at * ROWS + row, beside * COLUMNS + column, value);
            match (rows.count(), columns.count()) {
                (ROWS, COLUMNS) => tile::<ROWS, COLUMNS>(rows, columns, &mut put),
                // For a single column memory is waited for: row by row it is read in one stream, in half of the time.
                (_, across) => {
                    for (row, rows) in rows.chunks(1).enumerate() {
                        let mut put = |_, column, value| put(row, column, value);
                        match across {
                            COLUMNS => tile::<1, COLUMNS>(rows, columns, &mut put),
                            _ => tile::<1, 1>(rows, columns, &mut put),
                        }
                    }
                }
            }
        }
    }
}

/// R rows by C columns.
fn tile<const R: usize, const C: usize>(rows: Rows<'_>, columns: Rows<'_>, put: &mut impl FnMut(usize, usize, f32)) {
    let sums = sums::<R, C>(rows.each(), columns.each());
    for (row, sums) in sums.into_iter().enumerate() {
        for (column, sum) in sums.into_iter().enumerate() {
            put(row, column, total(sum));
        }
    }
}

/// The lanes' sum, always in this order.
fn total(lanes: [f32; LANES]) -> f32 {
    let half: [f32; LANES / 2] = std::array::from_fn(|at| lanes[at] + lanes[at + LANES / 2]);
    (half[0] + half[2]) + (half[1] + half[3])
}

fn sums<const R: usize, const C: usize>(rows: [Rows<'_>; R], columns: [Rows<'_>; C]) -> [[[f32; LANES]; C]; R] {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = *avx2::FOUND {
        return avx2::sums(simd, rows, columns);
    }
    plain_sums(rows, columns)
}

/// What `avx2` computes, lane by lane.
fn plain_sums<const R: usize, const C: usize>(rows: [Rows<'_>; R], columns: [Rows<'_>; C]) -> [[[f32; LANES]; C]; R] {
    let mut sums = [[[0.0_f32; LANES]; C]; R];
    for (row, sums) in rows.iter().zip(&mut sums) {
        for (column, sum) in columns.iter().zip(sums) {
            for block in 0..row.blocks {
                let scale = row.scales[block] * column.scales[block];
                let whole = whole_sums(&row.values[block], &column.values[block]);
                sum.iter_mut().zip(whole).for_each(|(sum, whole)| *sum = whole.mul_add(scale, *sum));
            }
        }
    }
    sums
}

/// Pairs of neighbours of the first and of the second half, which no f32 rounds: four products of at most 127² each.
#[allow(clippy::cast_precision_loss, reason = "below 2^24")]
fn whole_sums(a: &Block, b: &Block) -> [f32; LANES] {
    let product = |half: usize, at: usize| i32::from(a[half][at]) * i32::from(b[half][at]);
    let pair = |half: usize, at: usize| product(half, at) + product(half, at + 1);
    std::array::from_fn(|lane| (pair(0, 2 * lane) + pair(1, 2 * lane)) as f32)
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! The same with AVX2's own multiplication of pairs of 16-bit numbers. There are no closures where it is used: whether their bodies are compiled
    //! with those instructions would be the compiler's own decision.

    use std::arch::x86_64::{__m128i, __m256, __m256i};
    use std::sync::LazyLock;

    use pulp::{NullaryFnOnce, bytemuck::cast, x86::V3};

    use super::{Block, LANES, Rows};

    /// The instructions, where the processor has them.
    pub(super) static FOUND: LazyLock<Option<V3>> = LazyLock::new(V3::try_new);

    /// R rows by C columns, lane by lane.
    pub(super) fn sums<const R: usize, const C: usize>(
        simd: V3,
        rows: [Rows<'_>; R],
        columns: [Rows<'_>; C],
    ) -> [[[f32; LANES]; C]; R] {
        simd.vectorize(Sums { simd, rows, columns })
    }

    struct Sums<'a, const R: usize, const C: usize> {
        simd: V3,
        rows: [Rows<'a>; R],
        columns: [Rows<'a>; C],
    }

    #[allow(clippy::inline_always, reason = "what is not inlined is compiled without the instructions")]
    impl<const R: usize, const C: usize> NullaryFnOnce for Sums<'_, R, C> {
        type Output = [[[f32; LANES]; C]; R];

        #[inline(always)]
        fn call(self) -> Self::Output {
            let Self { simd, rows, columns } = self;
            let count = rows[0].blocks;
            let mut sums: [[__m256; C]; R] = [[simd.avx._mm256_setzero_ps(); C]; R];
            for block in 0..count {
                let mut of_columns = [(simd.avx._mm256_setzero_si256(), simd.avx._mm256_setzero_si256(), 0.0); C];
                for (of_column, column) in of_columns.iter_mut().zip(&columns) {
                    let (first, second) = halves(simd, &column.values[block]);
                    *of_column = (first, second, column.scales[block]);
                }
                for (sums, row) in sums.iter_mut().zip(&rows) {
                    let (first, second) = halves(simd, &row.values[block]);
                    for (sum, of_column) in sums.iter_mut().zip(&of_columns) {
                        let first = simd.avx2._mm256_madd_epi16(first, of_column.0);
                        let second = simd.avx2._mm256_madd_epi16(second, of_column.1);
                        let whole = simd.avx._mm256_cvtepi32_ps(simd.avx2._mm256_add_epi32(first, second));
                        let scale = simd.avx._mm256_set1_ps(row.scales[block] * of_column.2);
                        *sum = simd.fma._mm256_fmadd_ps(whole, scale, *sum);
                    }
                }
            }
            let mut lanes = [[[0.0; LANES]; C]; R];
            for (lanes, sums) in lanes.iter_mut().zip(&sums) {
                for (lanes, sum) in lanes.iter_mut().zip(sums) {
                    *lanes = cast(*sum);
                }
            }
            lanes
        }
    }

    /// A block's halves as 16-bit numbers.
    #[allow(clippy::inline_always, reason = "as above")]
    #[inline(always)]
    fn halves(simd: V3, block: &Block) -> (__m256i, __m256i) {
        let (first, second) = (cast::<_, __m128i>(block[0]), cast::<_, __m128i>(block[1]));
        (simd.avx2._mm256_cvtepi8_epi16(first), simd.avx2._mm256_cvtepi8_epi16(second))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::values;
    use super::*;

    fn products(a: &Rounded, b: &Rounded) -> Vec<f32> {
        let (rows, count) = (a.scales.len() / a.blocks, b.scales.len() / b.blocks);
        let mut result = vec![f32::NAN; rows * count];
        a.products(0, b, &mut result);
        result
    }

    #[test]
    fn a_value_is_off_by_half_a_scale_at_most_and_what_was_rounded_before_stays_as_it_is() {
        let given = values(3 * 70, 1);
        let rounded = Rounded::new(&given, 70);
        let mut wide = vec![0.0; 70];
        for (row, given) in given.chunks(70).enumerate() {
            rounded.row(row, &mut wide);
            for (value, given) in wide.iter().zip(given) {
                assert!((value - given).abs() <= 0.5 / LARGEST * 1.0001, "{given} became {value}");
            }
        }
        rounded.row(1, &mut wide);
        let again = Rounded::new(&wide, 70);
        assert_eq!(again.values, rounded.values[rounded.blocks..2 * rounded.blocks]);
        assert_eq!((rounded.blocks, rounded.bytes()), (3, 9 * 36));
    }

    #[test]
    fn zeros_stay_zeros_and_what_is_no_number_stays_none() {
        let after = |value: f32| {
            let mut wide = [0.0; 4];
            Rounded::new(&[1.0, value, 1.0, 1.0], 4).row(0, &mut wide);
            wide
        };
        assert_eq!(after(0.0).map(f32::to_bits), [1.0_f32, 0.0, 1.0, 1.0].map(f32::to_bits));
        for damaged in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(after(damaged).iter().all(|value| value.is_nan()), "{damaged}");
        }
        assert_eq!(Rounded::new(&[0.0; 32], 32).values, [Block::default()]);
    }

    #[test]
    fn products_are_those_of_the_widened_rows_whatever_is_left_over() {
        for (rows, columns, size) in [(1, 1, 5), (4, 2, 64), (5, 3, 96), (9, 7, 70), (3, 100, 32)] {
            let (a, b) = (values(rows * size, 1), values(columns * size, 2));
            let (a, b) = (Rounded::new(&a, size), Rounded::new(&b, size));
            let result = products(&a, &b);
            let (mut wide_a, mut wide_b) = (vec![0.0; size], vec![0.0; size]);
            for (at, value) in result.iter().enumerate() {
                a.row(at / columns, &mut wide_a);
                b.row(at % columns, &mut wide_b);
                let expected: f32 = wide_a.iter().zip(&wide_b).map(|(a, b)| a * b).sum();
                assert!((value - expected).abs() < 1e-4, "{at} of {rows} by {columns}: {value} for {expected}");
            }
        }
    }

    #[test]
    fn a_product_is_the_same_to_the_bit_alone_and_among_others() {
        let (a, b) = (values(9 * 96, 3), values(7 * 96, 4));
        let together = products(&Rounded::new(&a, 96), &Rounded::new(&b, 96));
        for (row, values) in a.chunks(96).enumerate() {
            for (column, others) in b.chunks(96).enumerate() {
                let alone = products(&Rounded::new(values, 96), &Rounded::new(others, 96));
                assert_eq!(alone[0].to_bits(), together[row * 7 + column].to_bits());
            }
        }
    }

    #[test]
    fn every_kind_of_instructions_gives_the_same_bits() {
        let (a, b) = (Rounded::new(&values(4 * 576, 5), 576), Rounded::new(&values(2 * 576, 6), 576));
        let (rows, columns) = (a.rows(0, 4), b.rows(0, 2));
        let bits = |sums: [[[f32; LANES]; 2]; 4]| sums.map(|sums| sums.map(|sum| sum.map(f32::to_bits)));
        assert_eq!(bits(sums(rows.each(), columns.each())), bits(plain_sums(rows.each(), columns.each())));
    }
}
