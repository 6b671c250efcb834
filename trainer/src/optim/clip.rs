//! Clipping by the global norm: the norm of all gradients of the model taken as one vector, which no rank and no layer sees whole.

/// Σ x², in f64: what each part of the gradients adds to the square of the global norm.
pub fn sum_of_squares(gradient: &[f32]) -> f64 {
    gradient.iter().map(|value| f64::from(*value) * f64::from(*value)).sum()
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
