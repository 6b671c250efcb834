//! What llama.cpp calls a tensor, and in which order it keeps the rows of queries and keys.

use candle_core::{Result, Tensor};

use crate::model::{Config, Family};

/// The output projection; tied models have none.
pub(super) const HEAD: &str = "output.weight";

/// A layer's modules, in Hugging Face's words and in llama.cpp's.
const MODULES: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The name in a GGUF file of a tensor with this Hugging Face name.
pub(super) fn in_gguf(name: &str) -> String {
    match name {
        "model.embed_tokens.weight" => "token_embd.weight".to_owned(),
        "model.norm.weight" => "output_norm.weight".to_owned(),
        "lm_head.weight" => HEAD.to_owned(),
        name => {
            let part = name.strip_prefix("model.layers.").unwrap_or(name);
            let (layer, part) = part.split_once('.').unwrap_or_default();
            let (module, kind) = part.rsplit_once('.').unwrap_or_default();
            let theirs = MODULES.iter().find(|(ours, _)| *ours == module).map_or(module, |(_, theirs)| theirs);
            format!("blk.{layer}.{theirs}.{kind}")
        }
    }
}

/// A tensor with its rows in Hugging Face's order. For models of the architecture `llama`, llama.cpp keeps the two values that are rotated together
/// in neighbouring rows of a head, where Hugging Face has them half a head apart.
pub(super) fn in_order(tensor: Tensor, name: &str, config: &Config) -> Result<Tensor> {
    let heads = match name.rsplit('.').nth(1) {
        Some("q_proj") if config.family == Family::Llama => config.heads,
        Some("k_proj") if config.family == Family::Llama => config.kv_heads,
        _ => return Ok(tensor),
    };
    let shape = tensor.shape().clone();
    let rest = tensor.elem_count() / (heads * config.head_dim);
    tensor.reshape((heads, config.head_dim / 2, 2, rest))?.transpose(1, 2)?.contiguous()?.reshape(shape)
}
