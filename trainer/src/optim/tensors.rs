//! The optimizer's arithmetic over tensors, wherever they live: what the neighbours do with slices of the host's memory, composed of the tensor
//! library's operations, a piece at a time, so that what is in between stays small beside the values.

use candle_core::{DType, Error, Tensor};

use super::adamw::{AdamW, Numbers};
use crate::ops::kernels::{self, Gpu, Kernel, Runner, adamw};
use crate::ops::pieces;

/// How many values are worked on at once: 64 MiB of f32, of which some five are there at a time.
const PIECE: usize = 1 << 24;

/// Some values of the model, which all decay or all do not, with their moments: f32 tensors of one dimension and one length, changed in place.
#[derive(Debug)]
pub struct TensorShard {
    weights: Tensor,
    mean: Tensor,
    square: Tensor,
    decays: bool,
}

impl TensorShard {
    /// Weights with their moments. None of them may share its memory with anything else.
    pub fn with_moments(weights: Tensor, mean: Tensor, square: Tensor, decays: bool) -> Self {
        Self { weights, mean, square, decays }
    }

    /// The weights as they are now: a handle to what the next step changes.
    pub fn weights(&self) -> &Tensor {
        &self.weights
    }

    /// The mean of gradients so far, as the weights.
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// The mean of squared gradients so far, as the weights.
    pub fn square(&self) -> &Tensor {
        &self.square
    }

    /// Takes step number `step`, counted from 1, at learning rate `rate`, along `gradient` times `factor` (what clipping leaves of it).
    pub fn step(&mut self, how: &AdamW, gradient: &Tensor, step: u32, rate: f64, factor: f32) -> Result<(), Error> {
        if kernels::serves(Kernel::Adamw, &[&self.weights, gradient]) {
            return self.step_on(&Gpu, how, gradient, step, rate, factor);
        }
        let with = how.numbers(step, rate, self.decays);
        for (begin, length) in pieces(self.weights.elem_count(), PIECE) {
            let gradient = (gradient.narrow(0, begin, length)? * f64::from(factor))?;
            let cut = |tensor: &Tensor| tensor.narrow(0, begin, length);
            let (mean, square) = moments(&cut(&self.mean)?, &cut(&self.square)?, &gradient, &with)?;
            let weights = moved(&cut(&self.weights)?, &mean, &square, &with)?;
            for (whole, piece) in [(&self.weights, weights), (&self.mean, mean), (&self.square, square)] {
                whole.slice_set(&piece, 0, begin)?;
            }
        }
        Ok(())
    }

    /// The same by a kernel for GPUs, to the same bits.
    pub fn step_on(
        &mut self,
        on: &dyn Runner,
        how: &AdamW,
        gradient: &Tensor,
        step: u32,
        rate: f64,
        factor: f32,
    ) -> Result<(), Error> {
        let Numbers { stride, root, kept, fresh_mean, old_square, fresh_square, eps } =
            how.numbers(step, rate, self.decays);
        let unroot = reciprocal(root);
        let with = adamw::Numbers { factor, fresh_mean, old_square, fresh_square, unroot, eps, stride, kept };
        adamw::step(on, [&self.weights, &self.mean, &self.square], gradient, &with)
    }
}

/// What a tensor is multiplied with where it is divided by `number`.
#[allow(clippy::cast_possible_truncation, reason = "tensors are f32")]
fn reciprocal(number: f32) -> f32 {
    (1.0 / f64::from(number)) as f32
}

/// The moments after `gradient`.
fn moments(mean: &Tensor, square: &Tensor, gradient: &Tensor, with: &Numbers) -> Result<(Tensor, Tensor), Error> {
    let mean = (mean + ((gradient - mean)? * f64::from(with.fresh_mean))?)?;
    let fresh = ((gradient * f64::from(with.fresh_square))? * gradient)?;
    let square = ((square * f64::from(with.old_square))? + fresh)?;
    Ok((mean, square))
}

/// The weights after these moments.
fn moved(weights: &Tensor, mean: &Tensor, square: &Tensor, with: &Numbers) -> Result<Tensor, Error> {
    let below = ((square.sqrt()? / f64::from(with.root))? + f64::from(with.eps))?;
    let by = ((mean * f64::from(with.stride))? / below)?;
    (weights * f64::from(with.kept))? - by
}

/// Σ x² of f32 values of one dimension, in f64: what [`sum_of_squares`](super::sum_of_squares) gives, but for the order in which they are added.
pub fn tensor_sum_of_squares(values: &Tensor) -> Result<f64, Error> {
    let mut sum = Tensor::zeros((), DType::F64, values.device())?;
    for (begin, length) in pieces(values.elem_count(), PIECE) {
        sum = (sum + values.narrow(0, begin, length)?.to_dtype(DType::F64)?.sqr()?.sum_all()?)?;
    }
    sum.to_scalar()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::{Shard, sum_of_squares};
    use super::*;

    const HOW: AdamW = AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };

    /// Values of several magnitudes, without pattern.
    fn noise(count: usize, seed: f32) -> Vec<f32> {
        (1u16..).take(count).map(|at| ((f32::from(at) * 12.9898 + seed).sin() * 43758.547).fract() * 0.1).collect()
    }

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
    }

    #[test]
    fn twenty_steps_lead_to_where_they_lead_on_the_host() {
        for decays in [true, false] {
            let start = noise(1000, 0.5);
            let mut host = Shard::new(start.clone(), decays);
            let zeros = || tensor(&vec![0.0; start.len()]);
            let mut tensors = TensorShard::with_moments(tensor(&start), zeros(), zeros(), decays);
            for (step, seed) in (1..=20).zip([0.1f32, 0.7, 0.3].into_iter().cycle()) {
                let gradient = noise(1000, seed);
                host.step(&HOW, &gradient, step, 1e-3, 0.5).unwrap();
                tensors.step(&HOW, &tensor(&gradient), step, 1e-3, 0.5).unwrap();
            }
            for (found, expected) in
                [(tensors.weights(), host.weights()), (tensors.mean(), host.mean()), (tensors.square(), host.square())]
            {
                let found = found.to_vec1::<f32>().unwrap();
                let gap = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
                assert!(gap <= 1e-6 * largest, "{gap} of {largest}");
            }
            assert!(host.weights().iter().zip(&start).any(|(after, before)| (after - before).abs() > 1e-3));
        }
    }

    #[test]
    fn a_step_leaves_what_others_hold_of_the_gradient_alone() {
        let gradient = tensor(&[0.5, -0.5]);
        let mut shard = TensorShard::with_moments(tensor(&[1.0, 1.0]), tensor(&[0.0; 2]), tensor(&[0.0; 2]), false);
        shard.step(&HOW, &gradient, 1, 1e-2, 1.0).unwrap();
        assert_eq!(gradient.to_vec1::<f32>().unwrap(), [0.5, -0.5]);
        assert!(shard.weights().to_vec1::<f32>().unwrap()[0] < 1.0);
    }

    #[test]
    fn squares_are_summed_in_f64() {
        let values = noise(60_000, 0.2);
        let (found, expected) = (tensor_sum_of_squares(&tensor(&values)).unwrap(), sum_of_squares(&values));
        assert!((found - expected).abs() < 1e-12 * expected, "{found} is not {expected}");
        assert!(tensor_sum_of_squares(&tensor(&[1.0, f32::NAN])).unwrap().is_nan());
    }
}
