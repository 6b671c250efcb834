//! What all the operations here are made of: running with the processor's widest instructions, the exponential function, and sums in a fixed order.

#![allow(clippy::needless_range_loop, reason = "loops over lanes of several rows at once are what is vectorised")]

/// Sums are kept in this many lanes: two registers of AVX2, one of AVX-512.
const LANES: usize = 16;

/// Below this `exp` is smaller than what f32 holds in full, and zero is near enough.
const LOWEST: f32 = -87.0;
/// Above this it is larger than f32 holds.
const HIGHEST: f32 = 88.0;
/// Added and taken away again, this rounds to whole numbers: 1.5 · 2²³, whose last bit is worth one.
const ROUNDING: f32 = 12_582_912.0;
/// ln 2 in two parts, the first of so few bits that its product with a small whole number is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// What e^r − 1 − r is on ±ln 2 / 2, divided by r²: highest power first (Cephes' `expf`).
const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.500_000_06];

/// eˣ within 2 units of the last place, flushed to about 1e-38 below −87 and kept at about 1e38 above 88; NaN stays NaN.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Not `max` and `min`, which take NaN for a number.
    let x = if x < LOWEST { LOWEST } else { x };
    let x = if x > HIGHEST { HIGHEST } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUNDING);
    let whole = shifted - ROUNDING;
    let r = whole.mul_add(-LN_2[0], x);
    let r = whole.mul_add(-LN_2[1], r);
    let mut sum = POLYNOMIAL[0];
    for factor in &POLYNOMIAL[1..] {
        sum = sum.mul_add(r, *factor);
    }
    let near_one = (sum * r).mul_add(r, r) + 1.0;
    // The whole number stands in the last bits of what was shifted: as an exponent it makes 2ⁿ.
    near_one * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Σ `each(a, b)` over two rows of one length.
#[inline(always)]
pub(super) fn sum(a: &[f32], b: &[f32], each: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += each(a[lane], b[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] += each(*a, *b);
    }
    halved(lanes, |a, b| a + b)
}

/// Σ a · b.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| a * b)
}

/// The largest value of a row, −∞ where there is none; NaN is passed over.
#[inline(always)]
pub(super) fn largest(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        lanes[lane] = larger(lanes[lane], *value);
    }
    halved(lanes, larger)
}

/// Puts e^(value · `scale` − `offset`) in the place of every value, and gives their sum.
#[inline(always)]
pub(super) fn exponentials(row: &mut [f32], scale: f32, offset: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane].mul_add(scale, -offset));
            lanes[lane] += chunk[lane];
        }
    }
    for (lane, value) in rest.iter_mut().enumerate() {
        *value = exp(value.mul_add(scale, -offset));
        lanes[lane] += *value;
    }
    halved(lanes, |a, b| a + b)
}

/// The lanes brought together by halves.
#[inline(always)]
fn halved(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wide::wide;

    wide! {
        fn wide_exponentials(row: &'w mut [f32]) -> f32 {
            exponentials(row, 2.0, 0.5)
        }
    }

    fn raised(row: &[f32]) -> Vec<f32> {
        let mut raised = row.to_vec();
        wide_exponentials(&mut raised);
        raised
    }

    #[test]
    fn the_exponential_is_right_to_two_units_of_the_last_place() {
        for step in -86_999..=87_999 {
            #[allow(clippy::cast_precision_loss, reason = "a probe need not be a round number")]
            let x = step as f32 * 1e-3;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (found / expected - 1.0).abs() < 2.0 * f64::from(f32::EPSILON),
                "exp({x}) is {found}, not {expected}"
            );
        }
        assert_eq!(exp(0.0).to_bits(), 1f32.to_bits());
    }

    #[test]
    fn what_f32_does_not_hold_is_finite_and_nan_stays_nan() {
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(-1e30) > 0.0);
        assert!(exp(1e30).is_finite() && exp(1e30) > 1e38);
        assert!(exp(f32::NAN).is_nan() && raised(&[f32::NAN])[0].is_nan());
        assert!(sigmoid(-2000.0) < 1e-37 && (sigmoid(2000.0) - 1.0).abs() < 1e-7);
    }

    #[test]
    fn rows_of_every_length_are_summed_searched_and_raised_whole() {
        for length in 0..70u16 {
            let row: Vec<f32> = (0..length).map(|at| f32::from((at * 37) % 70) * 0.01 - 0.2).collect();
            let wide = |of: &dyn Fn(f64) -> f64| row.iter().map(|value| of(f64::from(*value))).sum::<f64>();
            assert!((f64::from(dot(&row, &row)) - wide(&|x| x * x)).abs() < 1e-5);
            assert_eq!(largest(&row).to_bits(), row.iter().copied().fold(f32::NEG_INFINITY, f32::max).to_bits());
            let mut raised = row.clone();
            let total = wide_exponentials(&mut raised);
            assert!((f64::from(total) - wide(&|x| (2.0 * x - 0.5).exp())).abs() < 1e-5);
            assert!(raised.iter().zip(&row).all(|(y, x)| (y - (2.0 * x - 0.5).exp()).abs() < 1e-6));
        }
    }
}
