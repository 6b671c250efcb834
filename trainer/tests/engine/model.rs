//! A small model, its lines and its settings.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use sera_trainer::engine::{Line, Method, Settings};
use sera_trainer::model::{Config, LoraSettings, Model};
use serde_json::json;

/// Rows of the embedding.
const VOCABULARY: u32 = 61;

/// Numbers without pattern (splitmix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).unwrap()
    }

    /// In −1..1.
    fn uniform(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap()) / 2f64.powi(31) - 1.0
    }
}

/// Hidden 33, 2 layers, heads 2 over 1 of width 14, feed-forward 45, vocabulary 61.
pub(crate) fn config(family: &str, tied: bool) -> Config {
    let fields = json!({
        "model_type": family, "hidden_size": 33, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 14,
        "intermediate_size": 45, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": tied
    });
    Config::parse(&fields.to_string()).unwrap()
}

fn shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (hidden, inner, size) = (config.hidden, config.intermediate, config.head_dim);
    let (queries, keys) = (config.heads * size, config.kv_heads * size);
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".to_owned(), vec![config.vocabulary, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    shapes.extend((!config.tied).then(|| ("lm_head.weight".to_owned(), vec![config.vocabulary, hidden])));
    for index in 0..config.layers {
        let mut push =
            |name: &str, shape: &[usize]| shapes.push((format!("model.layers.{index}.{name}"), shape.to_vec()));
        push("input_layernorm.weight", &[hidden]);
        push("post_attention_layernorm.weight", &[hidden]);
        if config.qkv_bias {
            push("self_attn.q_proj.bias", &[queries]);
            push("self_attn.k_proj.bias", &[keys]);
            push("self_attn.v_proj.bias", &[keys]);
        } else {
            push("self_attn.q_norm.weight", &[size]);
            push("self_attn.k_norm.weight", &[size]);
        }
        push("self_attn.q_proj.weight", &[queries, hidden]);
        push("self_attn.k_proj.weight", &[keys, hidden]);
        push("self_attn.v_proj.weight", &[keys, hidden]);
        push("self_attn.o_proj.weight", &[hidden, queries]);
        push("mlp.gate_proj.weight", &[inner, hidden]);
        push("mlp.up_proj.weight", &[inner, hidden]);
        push("mlp.down_proj.weight", &[hidden, inner]);
    }
    shapes
}

/// A model with weights that bf16 can hold.
pub(crate) fn model(family: &str, tied: bool) -> Model {
    let config = config(family, tied);
    let mut numbers = Numbers(7);
    let mut tensors = HashMap::new();
    for (name, shape) in shapes(&config) {
        let (offset, spread) = if name.ends_with("norm.weight") { (1.0, 0.4) } else { (0.0, 0.25) };
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| offset + spread * numbers.uniform()).collect();
        let value = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensors.insert(name, value.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap());
    }
    Model::from_tensors(config, tensors, true).unwrap()
}

/// A line of `length` tokens the last `trained` of which are to be learnt.
pub(crate) fn line(id: &str, length: usize, trained: usize) -> Line {
    let mut numbers = Numbers(id.bytes().fold(1, |seed, byte| seed * 31 + u64::from(byte)));
    let ids = (0..length).map(|_| numbers.below(VOCABULARY)).collect();
    let loss = (0..length).map(|at| at + trained >= length).collect();
    Line { id: id.to_owned(), ids, loss }
}

/// Four lines of 1, 40, 400 and no trained tokens.
pub(crate) fn uneven() -> Vec<Line> {
    vec![line("one", 5, 1), line("forty", 47, 40), line("many", 411, 400), line("none", 9, 0)]
}

/// The same without the longest, where what is shown does not depend on it.
pub(crate) fn short() -> Vec<Line> {
    uneven().into_iter().filter(|line| line.id != "many").collect()
}

/// Rank `rank`'s lines of a global batch, dealt in turn.
pub(crate) fn dealt(lines: &[Line], rank: usize, world: usize) -> Vec<Line> {
    lines.iter().skip(rank).step_by(world).cloned().collect()
}

/// In f32, undivided, clipped at one.
pub(crate) fn settings(method: Method) -> Settings {
    Settings { seed: 11, ..Settings::of(method) }
}

/// Adapters of rank 3 beside every linear layer, with dropout.
pub(crate) fn lora(dropout: f64) -> Method {
    Method::Lora(LoraSettings { rank: 3, alpha: 6, dropout, target_modules: Vec::new(), seed: 3 })
}
