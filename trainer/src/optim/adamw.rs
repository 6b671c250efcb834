//! `AdamW` (arXiv 1711.05101), as `torch.optim.AdamW` computes it, with weights and moments in f32 whatever the model computes in: at a learning rate
//! of 1e-5 a weight in bf16 would never move.

use rayon::prelude::*;

use crate::wide::wide;

/// How many values a thread steps at a time: half of a core's second cache, with moments and gradient.
const PIECE: usize = 1 << 14;

/// A gradient that does not belong to the values that it should move.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ShardError {
    /// Another number of values.
    #[error("{gradient} gradient values for {values} weights")]
    Length {
        /// How many gradient values.
        gradient: usize,
        /// How many weights.
        values: usize,
    },
}

/// The optimizer's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// How much of the mean gradient is kept each step.
    pub beta1: f64,
    /// How much of the mean squared gradient is kept each step.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// What decaying weights lose each step, times the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamW {
    /// The recipe of SERA (arXiv 2601.20789).
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// Which tensors lose weight, by their Hugging Face names. A normalisation's weight hovers around one and a bias around what it offsets: pulling them to
/// zero changes what the model computes, so they are left out unless asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecayRule {
    /// Whether normalisation weights decay.
    pub norms: bool,
    /// Whether biases do.
    pub biases: bool,
    /// Whether the embedding does, and with it an output projection that is tied to it.
    pub embeddings: bool,
}

impl Default for DecayRule {
    /// As transformers' `Trainer` groups them.
    fn default() -> Self {
        Self { norms: false, biases: false, embeddings: true }
    }
}

impl DecayRule {
    /// Whether the tensor of this name decays.
    pub fn applies_to(&self, name: &str) -> bool {
        let (module, part) = name.rsplit_once('.').unwrap_or(("", name));
        if module.ends_with("norm") {
            self.norms
        } else if part == "bias" {
            self.biases
        } else {
            self.embeddings || !module.ends_with("embed_tokens")
        }
    }
}

/// Some values of the model, which all decay or all do not, with their moments: 12 bytes a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    weights: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
    decays: bool,
}

impl Shard {
    /// Fresh moments for these weights.
    pub fn new(weights: Vec<f32>, decays: bool) -> Self {
        let zeros = vec![0.0; weights.len()];
        Self::with_moments(weights, zeros.clone(), zeros, decays)
    }

    /// Weights with the moments that they had, all of one length.
    pub fn with_moments(weights: Vec<f32>, mean: Vec<f32>, square: Vec<f32>, decays: bool) -> Self {
        Self { weights, mean, square, decays }
    }

    /// The weights as they are now.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The mean of gradients so far.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The mean of squared gradients so far.
    pub fn square(&self) -> &[f32] {
        &self.square
    }

    /// Takes step number `step`, counted from 1, at learning rate `rate`, along `gradient` times `factor` (what clipping leaves of it).
    pub fn step(&mut self, how: &AdamW, gradient: &[f32], step: u32, rate: f64, factor: f32) -> Result<(), ShardError> {
        if gradient.len() != self.weights.len() {
            return Err(ShardError::Length { gradient: gradient.len(), values: self.weights.len() });
        }
        let numbers = how.numbers(step, rate, self.decays);
        let moments = self.mean.par_chunks_mut(PIECE).zip(self.square.par_chunks_mut(PIECE));
        let pieces = self.weights.par_chunks_mut(PIECE).zip(moments).zip(gradient.par_chunks(PIECE));
        pieces.for_each(|((weights, (mean, square)), gradient)| {
            step_piece(weights, mean, square, gradient, factor, numbers);
        });
        Ok(())
    }
}

wide! {
    fn step_piece(
        weights: &'w mut [f32],
        mean: &'w mut [f32],
        square: &'w mut [f32],
        gradient: &'w [f32],
        factor: f32,
        numbers: Numbers,
    ) -> () {
        let Numbers { stride, root, kept, fresh_mean, old_square, fresh_square, eps } = numbers;
        let moments = mean.iter_mut().zip(square.iter_mut());
        for ((weight, (mean, square)), gradient) in weights.iter_mut().zip(moments).zip(gradient) {
            let gradient = gradient * factor;
            *mean += fresh_mean * (gradient - *mean);
            *square = old_square * *square + fresh_square * gradient * gradient;
            *weight = *weight * kept - stride * *mean / (square.sqrt() / root + eps);
        }
    }
}

/// The numbers of one step, as they are computed with: combined in f64 and used in f32, as torch does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    /// The learning rate over the mean's bias correction.
    pub(super) stride: f32,
    /// The root of the mean square's bias correction.
    pub(super) root: f32,
    /// What is left of a weight.
    pub(super) kept: f32,
    pub(super) fresh_mean: f32,
    pub(super) old_square: f32,
    pub(super) fresh_square: f32,
    pub(super) eps: f32,
}

impl AdamW {
    #[allow(clippy::cast_possible_truncation, reason = "see the type")]
    pub(super) fn numbers(&self, step: u32, rate: f64, decays: bool) -> Numbers {
        let correction = |beta: f64| 1.0 - beta.powf(f64::from(step));
        Numbers {
            stride: (rate / correction(self.beta1)) as f32,
            root: correction(self.beta2).sqrt() as f32,
            kept: if decays { (1.0 - rate * self.weight_decay) as f32 } else { 1.0 },
            fresh_mean: (1.0 - self.beta1) as f32,
            old_square: self.beta2 as f32,
            fresh_square: (1.0 - self.beta2) as f32,
            eps: self.eps as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOW: AdamW = AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };

    #[test]
    fn steps_are_those_of_the_definition() {
        let gradients = [[0.5f32, -2.0], [0.25, 1.0], [-1.0, 1e-3]];
        let mut shard = Shard::new(vec![1.0, -3.0], true);
        let (mut weights, mut mean, mut square) = ([1.0f64, -3.0], [0.0f64; 2], [0.0f64; 2]);
        for (step, gradient) in (1..).zip(gradients) {
            let rate = 0.01 * f64::from(step);
            shard.step(&HOW, &gradient, step, rate, 0.5).unwrap();
            for at in 0..2 {
                let gradient = f64::from(gradient[at]) * 0.5;
                mean[at] = 0.9 * mean[at] + 0.1 * gradient;
                square[at] = 0.95 * square[at] + 0.05 * gradient * gradient;
                let unbiased = mean[at] / (1.0 - 0.9f64.powf(f64::from(step)));
                let root = (square[at] / (1.0 - 0.95f64.powf(f64::from(step)))).sqrt();
                weights[at] -= rate * (0.1 * weights[at] + unbiased / (root + 1e-8));
            }
        }
        for (found, expected) in shard.weights().iter().zip(weights) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }

    #[test]
    fn a_hundred_steps_at_a_small_rate_move_a_weight_of_one() {
        let mut shard = Shard::new(vec![1.0], false);
        (1..=100).for_each(|step| shard.step(&HOW, &[1.0], step, 1e-5, 1.0).unwrap());
        assert!((shard.weights()[0] - (1.0 - 1e-3)).abs() < 1e-5, "{}", shard.weights()[0]);
    }

    #[test]
    fn a_step_at_rate_zero_moves_nothing_but_the_moments() {
        let mut shard = Shard::new(vec![1.0, 2.0], true);
        shard.step(&HOW, &[3.0, 4.0], 1, 0.0, 1.0).unwrap();
        assert_eq!(shard.weights(), [1.0, 2.0]);
        assert_ne!(shard, Shard::new(vec![1.0, 2.0], true));
    }

    #[test]
    fn without_a_gradient_only_what_decays_moves() {
        let moved = |decays| {
            let mut shard = Shard::new(vec![2.0], decays);
            shard.step(&HOW, &[0.0], 1, 0.5, 1.0).unwrap();
            shard.weights()[0]
        };
        assert_eq!(moved(false).to_bits(), 2f32.to_bits());
        assert!((moved(true) - 1.9).abs() < 1e-6);
    }

    #[test]
    fn a_gradient_of_another_length_is_refused_and_moves_nothing() {
        let mut shard = Shard::new(vec![1.0, 2.0], true);
        assert_eq!(shard.step(&HOW, &[1.0], 1, 0.1, 1.0), Err(ShardError::Length { gradient: 1, values: 2 }));
        assert_eq!(shard, Shard::new(vec![1.0, 2.0], true));
    }

    #[test]
    fn norms_and_biases_do_not_decay_unless_asked_for() {
        let rule = DecayRule::default();
        let norms =
            ["model.norm.weight", "model.layers.0.input_layernorm.weight", "model.layers.3.self_attn.q_norm.weight"];
        assert!(!norms.into_iter().any(|name| rule.applies_to(name)));
        assert!(!rule.applies_to("model.layers.0.self_attn.q_proj.bias"));
        assert!(rule.applies_to("model.layers.0.self_attn.q_proj.weight") && rule.applies_to("lm_head.weight"));
        assert!(rule.applies_to("model.embed_tokens.weight"));
        let other = DecayRule { norms: true, biases: true, embeddings: false };
        assert!(norms.into_iter().all(|name| other.applies_to(name)));
        assert!(other.applies_to("model.layers.0.mlp.up_proj.bias") && !other.applies_to("model.embed_tokens.weight"));
        assert!(other.applies_to("model.layers.0.mlp.up_proj.lora_A.weight"));
    }
}
