//! For tests: small models of every family, in f64, that can tell right from wrong: a head is not `hidden / heads` wide, weights are large, and
//! normalisation weights are off one.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::{Batch, Config, Model};
use crate::ops::Segments;
use crate::ops::finite_differences::noise;

/// Hidden 8, 2 layers, heads 4 over 2 of width 6, feed-forward 10, vocabulary 13.
pub(crate) fn config(family: &str, tied: bool) -> Config {
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
    Config::parse(&fields.to_string()).unwrap()
}

/// The shape of every tensor of a model, by name.
fn shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (hidden, inner) = (config.hidden, config.intermediate);
    let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![config.vocabulary, hidden])];
    shapes.push(("model.norm.weight".to_owned(), vec![hidden]));
    if !config.tied {
        shapes.push(("lm_head.weight".to_owned(), vec![config.vocabulary, hidden]));
    }
    let linears = [
        ("self_attn.q_proj", queries, hidden, config.qkv_bias),
        ("self_attn.k_proj", keys, hidden, config.qkv_bias),
        ("self_attn.v_proj", keys, hidden, config.qkv_bias),
        ("self_attn.o_proj", hidden, queries, config.output_bias),
        ("mlp.gate_proj", inner, hidden, config.mlp_bias),
        ("mlp.up_proj", inner, hidden, config.mlp_bias),
        ("mlp.down_proj", hidden, inner, config.mlp_bias),
    ];
    for layer in (0..config.layers).map(|index| format!("model.layers.{index}")) {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            shapes.push((format!("{layer}.{norm}.weight"), vec![hidden]));
        }
        if config.family == super::Family::Qwen3 {
            for norm in ["q_norm", "k_norm"] {
                shapes.push((format!("{layer}.self_attn.{norm}.weight"), vec![config.head_dim]));
            }
        }
        for (name, out, from, bias) in linears {
            shapes.push((format!("{layer}.{name}.weight"), vec![out, from]));
            shapes.extend(bias.then(|| (format!("{layer}.{name}.bias"), vec![out])));
        }
    }
    shapes
}

/// Every tensor, in f64.
pub(crate) fn tensors(config: &Config) -> HashMap<String, Tensor> {
    let value = |(seed, (name, shape)): (u64, (String, Vec<usize>))| {
        let noise = noise(&shape, seed);
        let value = if name.ends_with("norm.weight") { noise.affine(0.4, 1.0) } else { noise.affine(0.8, 0.0) };
        (name, value.unwrap())
    };
    (100..).zip(shapes(config)).map(value).collect()
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
