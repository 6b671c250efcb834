//! Clipping by the global norm: the norm of all gradients of the model taken as one vector, which no rank and no layer sees whole.

use rayon::prelude::*;

use crate::wide::wide;

/// How many values are summed together; the sums of such pieces are added in their order, whatever threads there are.
const PIECE: usize = 1 << 16;
/// Sums are kept in this many lanes.
const LANES: usize = 8;

/// Σ x², in f64: what each part of the gradients adds to the square of the global norm.
pub fn sum_of_squares(gradient: &[f32]) -> f64 {
    gradient.par_chunks(PIECE).map(sum_of_piece).collect::<Vec<f64>>().into_iter().sum()
}

wide! {
    fn sum_of_piece(piece: &'w [f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let (chunks, rest) = piece.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(*value) * f64::from(*value);
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(*value) * f64::from(*value);
        }
        lanes.iter().sum()
    }
}

/// What gradients of this global norm have to be multiplied with so that it is at most `limit`: one where it already is, as in
/// `torch.nn.utils.clip_grad_norm_`.
#[allow(clippy::cast_possible_truncation, reason = "gradients are f32")]
pub fn clip_factor(norm: f64, limit: f64) -> f32 {
    let factor = limit / (norm + ROUNDING);
    // Not `min`, which would take a norm that is no number for one that needs no clipping.
    if factor > 1.0 { 1.0 } else { factor as f32 }
}

/// What torch adds to the norm, so that a norm of zero divides nothing.
const ROUNDING: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_norm_of_the_whole() {
        assert!((sum_of_squares(&[3.0]) + sum_of_squares(&[4.0, -12.0]) - 169.0).abs() < 1e-12);
        assert!(
            (sum_of_squares(&vec![1e-3; 1_000_000]).sqrt() - 1.0).abs() < 1e-6,
            "a million small values are not lost"
        );
    }

    #[test]
    fn a_large_norm_is_brought_to_the_limit_and_a_small_one_left_alone() {
        assert!((clip_factor(13.0, 2.0) - 2.0 / 13.0).abs() < 1e-7);
        assert_eq!([0.0, 0.5].map(|norm| clip_factor(norm, 1.0).to_bits()), [1f32.to_bits(); 2]);
    }

    #[test]
    fn a_norm_that_is_no_number_is_not_hidden() {
        assert!(clip_factor(f64::NAN, 1.0).is_nan());
    }
}
