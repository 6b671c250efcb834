//! A student for tests that are about what befalls a training: the built-in one's tokenizer and chat template, and weights so few that a step takes
//! a second. It is made of a fixed sequence and learns nothing worth knowing.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensorError, serialize, tensor::TensorView};
use serde_json::json;

/// The tokenizer's files, as they are in the folder of the student that is built in.
pub const TOKENIZER: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];

/// The sizes of a Llama: tokens, as the tokenizer has them, and width, layers, heads and what they have.
const TOKENS: usize = 49_152;
const HIDDEN: usize = 32;
const INNER: usize = 64;
const LAYERS: usize = 2;
const HEADS: usize = 2;
const SHARED_HEADS: usize = 1;
const HEAD: usize = 16;

/// Its own files, by their names, beside those of the tokenizer.
pub fn files() -> Result<[(&'static str, Vec<u8>); 2], SafeTensorError> {
    Ok([("config.json", config().into_bytes()), ("model.safetensors", weights()?)])
}

fn config() -> String {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float32",
        "vocab_size": TOKENS, "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": SHARED_HEADS, "head_dim": HEAD,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100_000.0, "tie_word_embeddings": true,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    })
    .to_string()
}

fn weights() -> Result<Vec<u8>, SafeTensorError> {
    let mut shapes = BTreeMap::from([
        ("model.embed_tokens.weight".to_owned(), vec![TOKENS, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ]);
    for layer in 0..LAYERS {
        let of_a_layer = [
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HEADS * HEAD, HIDDEN]),
            ("self_attn.k_proj", vec![SHARED_HEADS * HEAD, HIDDEN]),
            ("self_attn.v_proj", vec![SHARED_HEADS * HEAD, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HEADS * HEAD]),
            ("mlp.gate_proj", vec![INNER, HIDDEN]),
            ("mlp.up_proj", vec![INNER, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INNER]),
        ];
        shapes.extend(of_a_layer.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape)));
    }
    let mut sequence = 1_u64;
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product();
            let bytes = (0..count).flat_map(|_| weight(shape.len() == 1, &mut sequence).to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    serialize(views.collect::<Result<Vec<_>, SafeTensorError>>()?, None)
}

/// The next number between -0.1 and 0.1 of a sequence (Knuth's multiplier); norms begin at one.
fn weight(is_norm: bool, sequence: &mut u64) -> f32 {
    *sequence = sequence.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    if is_norm {
        return 1.0;
    }
    let high = u16::try_from(*sequence >> 48).unwrap_or_default();
    (f32::from(high) / f32::from(u16::MAX) - 0.5) * 0.2
}
