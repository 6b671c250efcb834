//! Cross-entropy over rows of logits, where they lie.

use std::cell::RefCell;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::change;
use super::simd::{exponentials, largest};
use crate::wide::wide;

/// Makes e^(logit − the row's largest) of `logits` (rows, vocabulary) in their place; gives their sum a row, and Σ −log p(target).
pub(in super::super) fn exponentiate(logits: &Tensor, targets: &[u32]) -> Result<(Vec<f32>, f64)> {
    let vocabulary = logits.dim(1)?;
    let rows = RefCell::new(Vec::new());
    change(logits, |logits| {
        let row = |(logits, target): (&mut [f32], &u32)| exponentiate_row(logits, *target as usize);
        *rows.borrow_mut() = logits.par_chunks_exact_mut(vocabulary).zip(targets).map(row).collect();
    })?;
    let (sums, losses): (Vec<f32>, Vec<f64>) = rows.into_inner().into_iter().unzip();
    Ok((sums, losses.iter().sum()))
}

/// Makes `scale · (softmax − one at the target)` of what [`exponentiate`] has left, in its place.
#[allow(clippy::cast_possible_truncation, reason = "logits are f32")]
pub(in super::super) fn gradient(exponentials: &Tensor, sums: &[f32], targets: &[u32], scale: f64) -> Result<()> {
    let (vocabulary, scale) = (exponentials.dim(1)?, scale as f32);
    change(exponentials, |values| {
        values.par_chunks_exact_mut(vocabulary).zip(sums).zip(targets).for_each(|((row, sum), target)| {
            gradient_of_row(row, scale / sum);
            row[*target as usize] -= scale;
        });
    })
}

// The sum of a row's exponentials, and −log p(target).
wide! {
    fn exponentiate_row(logits: &'w mut [f32], target: usize) -> (f32, f64) {
        let largest = largest(logits);
        let predicted = logits[target] - largest;
        let sum = exponentials(logits, 1.0, largest);
        (sum, f64::from(sum.ln() - predicted))
    }
}

wide! {
    fn gradient_of_row(row: &'w mut [f32], share: f32) -> () {
        for value in row {
            *value *= share;
        }
    }
}
