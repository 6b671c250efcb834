//! Cross-entropy over rows of logits, where they lie.

use std::cell::RefCell;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::change;
use super::simd::{exponentials, largest};
use crate::wide::wide;

/// Makes e^(logit − the row's largest) of `logits` (rows, vocabulary) in their place; gives what makes a row of them its softmax, with what z-loss of
/// weight `z` adds to that, and the summed loss.
pub(in super::super) fn exponentiate(logits: &Tensor, targets: &[u32], z: f64) -> Result<(Vec<f32>, f64)> {
    let vocabulary = logits.dim(1)?;
    let rows = RefCell::new(Vec::new());
    change(logits, |logits| {
        let row = |(logits, target): (&mut [f32], &u32)| exponentiate_row(logits, *target as usize, z);
        *rows.borrow_mut() = logits.par_chunks_exact_mut(vocabulary).zip(targets).map(row).collect();
    })?;
    let (shares, losses): (Vec<f32>, Vec<f64>) = rows.into_inner().into_iter().unzip();
    Ok((shares, losses.iter().sum()))
}

/// Makes the gradient, `scale` times it, of what [`exponentiate`] has left, in its place.
#[allow(clippy::cast_possible_truncation, reason = "logits are f32")]
pub(in super::super) fn gradient(exponentials: &Tensor, shares: &[f32], targets: &[u32], scale: f64) -> Result<()> {
    let (vocabulary, scale) = (exponentials.dim(1)?, scale as f32);
    change(exponentials, |values| {
        values.par_chunks_exact_mut(vocabulary).zip(shares).zip(targets).for_each(|((row, share), target)| {
            gradient_of_row(row, scale * share);
            row[*target as usize] -= scale;
        });
    })
}

// What makes a row's exponentials its gradient, and its loss.
wide! {
    fn exponentiate_row(logits: &'w mut [f32], target: usize, z: f64) -> (f32, f64) {
        let largest = largest(logits);
        let predicted = logits[target] - largest;
        let sum = exponentials(logits, 1.0, largest);
        let loss = f64::from(sum.ln() - predicted);
        if z == 0.0 {
            return (1.0 / sum, loss);
        }
        let log = f64::from(sum.ln()) + f64::from(largest);
        (narrow((1.0 + 2.0 * z * log) / f64::from(sum)), loss + z * log * log)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "gradients are f32")]
fn narrow(share: f64) -> f32 {
    share as f32
}

wide! {
    fn gradient_of_row(row: &'w mut [f32], share: f32) -> () {
        for value in row {
            *value *= share;
        }
    }
}
