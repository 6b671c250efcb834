//! How fast a training is on this machine, and how much memory it takes: models of known sizes with drawn weights, in f32 on processors and bf16 on a
//! GPU, no files. `examples/bench.py` does the same with `PyTorch` on processors.

pub mod kernels;

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use sera_crds::values::Sharding;
use serde_json::json;

use crate::draw;
use crate::engine::{Engine, EngineError, Line, Method, Residence, Settings};
use crate::model::{Config, ConfigError, Keep, LoraSettings, Model, WeightsError};
use crate::ops::AttentionBy;
use crate::ops::kernels::KernelsError;
use crate::ranks::Collective;
use crate::training::operations_of_line;

/// How far drawn weights are from zero at most: about as initial weights are.
const SPREAD: f32 = 0.035;
/// Small enough that nothing diverges.
const RATE: f64 = 1e-4;

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A configuration that is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Weights that are not the model's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tensor that could not be made.
    #[error("the weights do not fit into memory: {0}")]
    Tensor(#[from] candle_core::Error),
    /// Kernels where there are none.
    #[error(transparent)]
    Kernels(#[from] KernelsError),
    /// A step that could not be taken.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A Qwen3 of 5.25M parameters, four lines of 512 tokens a step.
    Small,
    /// The shape of SmolLM2-135M, one line of 2,048 tokens a step.
    Smol,
    /// Adapters of two layers as wide as Qwen3-0.6B's, with its vocabulary of 151,936; one line of 32,768 tokens a step.
    Long,
}

/// How it is trained.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Of how many blocks the values are kept.
    pub blocks: usize,
    /// What is divided between ranks.
    pub sharding: Sharding,
    /// Whether divided units are gathered while others are computed with.
    pub ahead: bool,
    /// Where what is stepped lives.
    pub residence: Residence,
    /// How attention is computed.
    pub attention: AttentionBy,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Of the median step, over all ranks.
    pub tokens_per_second: f64,
    /// Additions and multiplications a second, of what the loss and its gradients need; what is computed again is not counted twice.
    pub flops_per_second: f64,
    /// Losses before the first and the last step.
    pub losses: (f64, f64),
}

impl Subject {
    /// Its model.
    pub fn config(self) -> Result<Config, ConfigError> {
        let fields = match self {
            Self::Small => json!({
                "model_type": "qwen3", "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
                "head_dim": 64, "intermediate_size": 768, "vocab_size": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
                "tie_word_embeddings": false
            }),
            Self::Smol => json!({
                "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                "head_dim": 64, "intermediate_size": 1536, "vocab_size": 49152, "rms_norm_eps": 1e-5, "rope_theta": 1e5,
                "tie_word_embeddings": true
            }),
            Self::Long => json!({
                "model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 16, "num_key_value_heads": 8,
                "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151_936, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
                "tie_word_embeddings": true
            }),
        };
        Config::parse(&fields.to_string())
    }

    /// How many lines a step has, and of how many tokens each.
    pub fn lines(self) -> (u32, u32) {
        match self {
            Self::Small => (4, 512),
            Self::Smol => (1, 2048),
            Self::Long => (1, 32_768),
        }
    }

    /// What is trained of it.
    fn method(self) -> Method {
        match self {
            Self::Small | Self::Smol => Method::Full,
            Self::Long => {
                Method::Lora(LoraSettings { rank: 32, alpha: 128, dropout: 0.0, target_modules: Vec::new(), seed: 0 })
            }
        }
    }

    /// Trains on `device` for a step to warm up, and then for `steps`. Every rank calls it; each has lines of its own.
    pub fn measure(
        self,
        steps: u32,
        how: How,
        device: &Device,
        ranks: Box<dyn Collective>,
    ) -> Result<Measured, BenchError> {
        let How { blocks, sharding, ahead, residence, attention } = how;
        let world = u32::try_from(ranks.world()).unwrap_or(u32::MAX);
        let config = self.config()?;
        let (count, length) = self.lines();
        let (tokens, learnt) = (f64::from(world) * f64::from(count * length), length as usize);
        let method = self.method();
        let is_frozen = method != Method::Full;
        let flops = f64::from(world) * f64::from(count) * operations_of_line(&config, is_frozen, learnt, learnt);
        let vocabulary = u32::try_from(config.vocabulary).unwrap_or(u32::MAX);
        let lines: Vec<Line> = (0..count).map(|at| line(at, length, vocabulary)).collect();
        // Lines in one sequence are what a batch is elsewhere.
        let packing = Some((count * length) as usize);
        let keep = Keep { blocks, ..Keep::default() };
        let (compute, residence) =
            if device.is_cpu() { (DType::F32, residence) } else { (DType::BF16, Residence::Device) };
        let settings =
            Settings { sharding, compute, attention, keep, residence, packing, ahead, ..Settings::of(method) };
        let mut engine = Engine::of::<_, EngineError>(model(config)?, settings, device, ranks)?;
        let first = engine.step(&lines, 1, RATE)?.loss;
        let mut last = first;
        let mut seconds = Vec::new();
        for step in 2..steps + 2 {
            let begin = Instant::now();
            last = engine.step(&lines, step, RATE)?.loss;
            seconds.push(begin.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let steps_per_second = seconds.get(seconds.len() / 2).map_or(0.0, |seconds| 1.0 / seconds);
        let (tokens_per_second, flops_per_second) = (steps_per_second * tokens, steps_per_second * flops);
        Ok(Measured { tokens_per_second, flops_per_second, losses: (first, last) })
    }
}

/// Tokens without much pattern, all of them to be learnt.
fn line(at: u32, length: u32, vocabulary: u32) -> Line {
    let id = |token: u64| (token * 7919 + u64::from(at) * 104_729 + token * token * 31) % u64::from(vocabulary);
    let ids = (0..u64::from(length)).map(|token| u32::try_from(id(token)).unwrap_or(u32::MAX)).collect();
    Line { id: format!("line {at}"), ids, loss: vec![true; length as usize] }
}

/// A model with drawn weights, and normalisations of one.
#[allow(clippy::cast_precision_loss, reason = "drawn in 32 bits, kept in 24")]
fn model(config: Config) -> Result<Model, BenchError> {
    let mut tensors = HashMap::new();
    for (name, shape) in config.tensors() {
        let count = shape.iter().product();
        let values: Vec<f32> = if name.ends_with("norm.weight") {
            vec![1.0; count]
        } else {
            let numbers = draw::numbers(draw::key("bench", 0, &[&name]), count);
            numbers.map(|number| (number as f32 / u32::MAX as f32 * 2.0 - 1.0) * SPREAD).collect()
        };
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(DType::F32)?);
    }
    Ok(Model::from_tensors(config, tensors, true)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::Alone;

    #[test]
    fn the_models_are_of_the_sizes_that_they_are_named_for() {
        let parameters = |subject: Subject| -> usize {
            subject.config().unwrap().tensors().map(|(_, shape)| shape.iter().product::<usize>()).sum()
        };
        let sizes = [Subject::Small, Subject::Smol, Subject::Long].map(parameters);
        assert_eq!(sizes, [5_245_696, 134_515_008, 187_045_376]);
    }

    #[test]
    fn a_token_takes_six_operations_a_weight_and_those_of_attention() {
        let config = Subject::Small.config().unwrap();
        let weights = 4096 * 256 + 4 * (256 * 256 * 2 + 128 * 256 * 2 + 3 * 768 * 256);
        let attention = 4 * 4 * 64 * 2 * 256;
        let of_token = operations_of_line(&config, false, 512, 512) / 512.0;
        assert!((of_token - f64::from(6 * (weights + attention))).abs() < 1.0);
    }

    #[test]
    fn what_is_measured_is_a_training() {
        let how = How {
            blocks: 4,
            sharding: Sharding::None,
            ahead: true,
            residence: Residence::Host,
            attention: AttentionBy::default(),
        };
        let measured = Subject::Small.measure(2, how, &Device::Cpu, Box::new(Alone)).unwrap();
        assert!(measured.tokens_per_second > 0.0 && measured.losses.1 < measured.losses.0, "{measured:?}");
    }
}
