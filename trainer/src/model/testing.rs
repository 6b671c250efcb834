//! For tests: small models of every family, in f64, that can tell right from wrong: a head is not `hidden / heads` wide, weights are large, and
//! normalisation weights are off one.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::{Batch, Config, Model};
use crate::ops::Segments;
use crate::ops::finite_differences::noise;

/// Qwen3-8B, as the example has it.
pub(crate) fn qwen3_8b() -> Config {
    Config::parse(include_str!("../../examples/configs/qwen3-8b.json")).unwrap()
}

/// Hidden 8, 2 layers, heads 4 over 2 of width 6, feed-forward 10, vocabulary 13.
pub(crate) fn config(family: &str, tied: bool) -> Config {
    Config::parse(&config_json(family, tied).to_string()).unwrap()
}

/// The same as it stands in `config.json`.
pub(crate) fn config_json(family: &str, tied: bool) -> Value {
    let mut fields = json!({
        "model_type": family, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "intermediate_size": 10, "vocab_size": 13, "rms_norm_eps": 1e-3, "rope_theta": 100.0, "tie_word_embeddings": tied
    });
    if family == "llama" {
        fields["attention_bias"] = json!(true);
        fields["mlp_bias"] = json!(true);
        fields["rope_scaling"] = json!({"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 2.0,
            "original_max_position_embeddings": 16});
    }
    fields
}

/// Every tensor, in f64.
pub(crate) fn tensors(config: &Config) -> HashMap<String, Tensor> {
    let value = |(seed, (name, shape)): (u64, (String, Vec<usize>))| {
        let noise = noise(&shape, seed);
        let value = if name.ends_with("norm.weight") { noise.affine(0.4, 1.0) } else { noise.affine(0.8, 0.0) };
        (name, value.unwrap())
    };
    (100..).zip(config.tensors()).map(value).collect()
}

/// A model whose tensors are all trained.
pub(crate) fn model(family: &str, tied: bool) -> Model {
    let config = config(family, tied);
    let tensors = tensors(&config);
    Model::from_tensors(config, tensors, true).unwrap()
}

/// Two sequences, of 5 and 3 tokens, some of them without loss; tokens 2 and 7 occur more than once.
pub(crate) fn batch(config: &Config) -> Batch {
    let ids = [2, 7, 1, 12, 7, 2, 0, 2];
    let loss = [true, true, false, true, true, true, true, false];
    Batch::new(config, &ids, &loss, Segments::new(&[5, 3]).unwrap(), DType::F64, &Device::Cpu).unwrap()
}
